"""An object is sound when `check` finds nothing, wherever in it something is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from penstock.core.decode import check
from penstock.core.objects import ApiStruct
from penstock.core.soundness import is_sound
from penstock.meta.problems import Problem


class Number(ApiStruct, frozen=True, kw_only=True):
    value: int

    @override
    def checks(self) -> Iterable[Problem]:
        if self.value < 0:
            yield Problem("value", "is below zero", "")


class Alike(Number, frozen=True, kw_only=True):
    alike: ClassVar[bool] = True


class Tree(ApiStruct, frozen=True, kw_only=True):
    one: Number | None = None
    alike_ones: tuple[Alike, ...] = ()
    listed: tuple[tuple[Number, ...], ...] = ()
    named: dict[str, Number] = {}
    below: tuple[Tree, ...] = ()


def trees(depth: int = 2) -> st.SearchStrategy[Tree]:
    value = st.integers(-1, 12)
    numbers = st.builds(Number, value=value)
    lists = st.lists(numbers, max_size=2).map(tuple)
    return st.builds(
        Tree,
        one=st.none() | numbers,
        alike_ones=st.lists(st.builds(Alike, value=value), max_size=2).map(tuple),
        listed=st.lists(lists, max_size=2).map(tuple),
        named=st.dictionaries(st.sampled_from("ab"), numbers, max_size=2),
        below=st.lists(trees(depth - 1), max_size=2).map(tuple) if depth else st.just(()),
    )


@given(tree=trees())
def test_what_is_sound_has_no_problem(tree: Tree) -> None:
    assert is_sound(tree) is (not list(check(tree)))
