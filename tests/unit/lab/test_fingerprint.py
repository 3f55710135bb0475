"""What changes a pod of a lab, and what does not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from penstock.lab.cluster import template_hash
from penstock.lab.fingerprint import fingerprint
from support.lab import container, deployment


class Inner(msgspec.Struct, frozen=True, rename="camel"):
    some_name: str
    ports: tuple[int, ...] = ()


class InnerLater(Inner, frozen=True, rename="camel"):
    learned_later: str = ""
    also: list[str] = []


class Outer(msgspec.Struct, frozen=True):
    inner: tuple[Inner, ...]
    labels: dict[str, str] = {}


def test_a_field_that_is_learned_later_changes_nothing_for_who_does_not_use_it() -> None:
    before = fingerprint(Outer(inner=(Inner("a", (80,)),)))
    assert fingerprint(Outer(inner=(InnerLater("a", (80,)),))) == before
    assert fingerprint(Outer(inner=(InnerLater("a", (80,), "used"),))) != before
    assert fingerprint(Outer(inner=(InnerLater("a", (80,), also=["used"]),))) != before


@pytest.mark.parametrize(
    "other",
    [
        Outer(inner=(Inner("b", (80,)),)),
        Outer(inner=(Inner("a", (81,)),)),
        Outer(inner=(Inner("a", (80,)), Inner("a", (80,)))),
        Outer(inner=(Inner("a", (80,)),), labels={"a": "b"}),
    ],
)
def test_what_is_written_changes_it(other: Outer) -> None:
    assert fingerprint(other) != fingerprint(Outer(inner=(Inner("a", (80,)),)))


def test_a_default_that_is_written_out_is_no_other_template() -> None:
    def hashed(**spec: Any) -> str:
        return template_hash(deployment("d", container("c"), **spec))

    assert hashed(restartPolicy="Always", hostNetwork=False) == hashed()
    assert hashed(terminationGracePeriodSeconds=5) != hashed()
