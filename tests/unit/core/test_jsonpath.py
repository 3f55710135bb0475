from __future__ import annotations

import pytest

from penstock.core import jsonpath


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (["spec", "ingress", 0, "rules"], "spec.ingress[0].rules"),
        (["metadata", "labels", "a.b/c"], 'metadata.labels["a.b/c"]'),
        (["data", 'quote"and\\'], 'data["quote\\"and\\\\"]'),
        ([0, "a"], "[0].a"),
        ([], ""),
    ],
)
def test_path_is_written_and_read_back(parts: list[str | int], path: str) -> None:
    assert jsonpath.build(parts) == path
    assert list(jsonpath.steps(path)) == parts


def test_joined_path_needs_no_dot_before_a_position() -> None:
    assert jsonpath.join("spec.ports", "[0].name") == "spec.ports[0].name"
    assert jsonpath.join("spec", "ports") == "spec.ports"
    assert jsonpath.join("", "ports") == "ports"
    assert jsonpath.join("spec", "") == "spec"


def test_positions_are_left_out() -> None:
    assert jsonpath.without_positions("a[0].b[12]") == "a[].b[]"


def test_unreadable_rest_of_a_path_is_left_out() -> None:
    assert jsonpath.steps("a.b[x") == ("a", "b")
