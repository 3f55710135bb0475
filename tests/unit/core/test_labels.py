from __future__ import annotations

from typing import Literal

import pytest

from penstock.core.labels import LabelSelector, LabelSelectorRequirement, includes

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]


@pytest.mark.parametrize(
    ("operator", "values", "labels", "expected"),
    [
        ("In", ("a", "b"), {"k": "b"}, True),
        ("In", ("a",), {}, False),
        ("NotIn", ("a",), {"k": "a"}, False),
        ("NotIn", ("a",), {}, True),
        ("Exists", (), {"k": ""}, True),
        ("DoesNotExist", (), {"k": ""}, False),
        ("DoesNotExist", (), {}, True),
    ],
)
def test_operator_means_what_kubernetes_means(
    operator: Operator, values: tuple[str, ...], labels: dict[str, str], *, expected: bool
) -> None:
    requirement = LabelSelectorRequirement(key="k", operator=operator, values=values)
    assert requirement.matches(labels) is expected
    assert LabelSelector(match_expressions=(requirement,)).matches(labels) is expected


def test_empty_selector_matches_everything() -> None:
    assert LabelSelector().matches({})
    assert LabelSelector().matches({"a": "b"})


def test_all_labels_must_be_there() -> None:
    assert includes({"a": "1", "b": "2"}, {"a": "1"})
    assert not includes({"a": "1"}, {"a": "1", "b": "2"})


def test_values_go_with_the_operator() -> None:
    wrong = LabelSelectorRequirement(key="k", operator="In")
    assert [problem.path for problem in wrong.checks()] == ["values"]
    surplus = LabelSelectorRequirement(key="k", operator="Exists", values=("a",))
    assert [problem.path for problem in surplus.checks()] == ["values"]
