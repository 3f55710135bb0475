"""Labels and selectors over them.

Source: Kubernetes, metav1.LabelSelector and the syntax of labels and names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from typing_extensions import override

from penstock.core.objects import ApiStruct
from penstock.meta.problems import Problem


class LabelSelectorRequirement(ApiStruct, frozen=True, kw_only=True):
    """One expression over the value of one label."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    @override
    def checks(self) -> Iterable[Problem]:
        """Return problems where operator and values do not go together."""
        if self.operator in ("In", "NotIn"):
            if not self.values:
                yield Problem("values", f"must not be empty with operator {self.operator}")
        elif self.values:
            yield Problem("values", f"must be empty with operator {self.operator}")

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether *labels* meet the expression; NotIn holds for a missing label too."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class LabelSelector(ApiStruct, frozen=True, kw_only=True):
    """All of matchLabels and matchExpressions; the empty selector matches everything."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether *labels* meet every requirement."""
        return includes(labels, self.match_labels) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )


def includes(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Return whether *labels* has every label of *wanted* with the same value."""
    return all(labels.get(key) == value for key, value in wanted.items())
