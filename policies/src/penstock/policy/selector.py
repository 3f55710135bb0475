"""Label selectors of policies, compiled so that they can be compared, indexed and evaluated.

Labels are named with their source, as `k8s:app` or `reserved:world`. A selector key without a
source, or with `any:`, means a label of any source.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from penstock.core import jsonpath
from penstock.meta.problems import Problem, Severity

if TYPE_CHECKING:
    from penstock.policy.resources import LabelExpression, LabelSelector

NAMESPACE_LABEL = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS_PREFIX = "io.cilium.k8s.namespace.labels."
SERVICE_ACCOUNT_LABEL = "io.cilium.k8s.policy.serviceaccount"
CLUSTER_LABEL = "io.cilium.k8s.policy.cluster"

ANY, K8S, RESERVED = "any", "k8s", "reserved"
SOURCES = (K8S, RESERVED)
"""Sources that labels of identities have."""

IN, NOT_IN, EXISTS, DOES_NOT_EXIST = "In", "NotIn", "Exists", "DoesNotExist"
OPERATORS = (IN, NOT_IN, EXISTS, DOES_NOT_EXIST)

_PREFIX = re.compile(r"([A-Za-z0-9]+):(.*)\Z", re.DOTALL)
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?\Z")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
_MAX_KEY = 317
"""Prefix of 253, a slash and a name of 63."""


class Requirement(msgspec.Struct, frozen=True, order=True):
    """What must hold for the values of one label."""

    source: str
    key: str
    operator: str
    values: tuple[str, ...] = ()
    """Sorted, without duplicates; empty for Exists and DoesNotExist."""

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Return whether *labels* meet this; NotIn and DoesNotExist hold for a missing label."""
        found = [labels[name] for name in _names(self.source, self.key) if name in labels]
        if self.operator == IN:
            return any(value in self.values for value in found)
        if self.operator == NOT_IN:
            return not any(value in self.values for value in found)
        return bool(found) is (self.operator == EXISTS)

    def __str__(self) -> str:
        """Return canonical text, as `k8s:app in (a,b)` or `!any:canary`."""
        name = f"{self.source}:{self.key}"
        if self.operator == EXISTS:
            return name
        if self.operator == DOES_NOT_EXIST:
            return f"!{name}"
        if self.operator == IN and len(self.values) == 1:
            return f"{name}={self.values[0]}"
        return f"{name} {'in' if self.operator == IN else 'notin'} ({','.join(self.values)})"


class Selector(msgspec.Struct, frozen=True, order=True):
    """Requirements that must all hold, in sorted order: equal meaning in text, equal value."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether identity labels, named with their source, meet all requirements."""
        return all(requirement.holds(labels) for requirement in self.requirements)

    @property
    def namespaces(self) -> frozenset[str] | None:
        """Return the namespaces it can match in; None is any, or outside of all of them."""
        found: frozenset[str] | None = None
        for one in self.requirements:
            if one.key == NAMESPACE_LABEL and one.operator == IN and one.source in (ANY, K8S):
                values = frozenset(one.values)
                found = values if found is None else found & values
        return found

    def __str__(self) -> str:
        """Return canonical text: the requirements joined by commas, "*" if there are none."""
        return ",".join(map(str, self.requirements)) or "*"


def selector(requirements: Iterable[Requirement]) -> Selector:
    """Return the selector of all *requirements*."""
    return Selector(tuple(sorted(set(requirements))))


def subject_selector(given: LabelSelector, namespace: str) -> Selector:
    """Return whom a policy of *namespace* applies to: never anybody outside of it.

    A namespace written into matchLabels is replaced; expressions about it only narrow. A policy of
    the whole cluster, whose namespace is "", may say which namespaces it means.
    Source: spec A.7; CVE-2023-41333 is what happens otherwise.
    """
    if not namespace:
        return selector(_requirements(given))
    own = (one for one in _requirements(given) if not _overwritten(one, given))
    return selector([*own, Requirement(K8S, NAMESPACE_LABEL, IN, (namespace,))])


def peer_selector(given: LabelSelector, namespace: str, cluster: str) -> Selector:
    """Return which peers are meant: of the policy's namespace and of this cluster unless said.

    Source: spec A.7. Requirements about reserved labels mean no pod and are left alone.
    """
    wanted = list(_requirements(given))
    if any(one.source == RESERVED for one in wanted):
        return selector(wanted)
    if not any(_about_namespace(one.key) for one in wanted):
        wanted.append(Requirement(K8S, NAMESPACE_LABEL, IN, (namespace,)))
    if not any(one.key == CLUSTER_LABEL for one in wanted):
        wanted.append(Requirement(K8S, CLUSTER_LABEL, IN, (cluster,)))
    return selector(wanted)


def cluster_selector(cluster: str) -> Selector:
    """Return the selector of every workload of *cluster*."""
    return Selector((Requirement(K8S, CLUSTER_LABEL, IN, (cluster,)),))


def any_workload() -> Selector:
    """Return the selector of every workload of every connected cluster."""
    return Selector((Requirement(K8S, CLUSTER_LABEL, EXISTS),))


def split_key(key: str) -> tuple[str, str]:
    """Return source and name of a selector key; the source of an unprefixed one is `any`."""
    match = _PREFIX.match(key)
    return (match[1], match[2]) if match else (ANY, key)


def check_labels(labels: Mapping[str, str]) -> Iterator[Problem]:
    """Return problems about matchLabels; paths are those of a selector."""
    for key, value in labels.items():
        place = jsonpath.member("matchLabels", key)
        yield from _check_key(key, place)
        yield from _check_value(value, place)


def check_expression(expression: LabelExpression) -> Iterator[Problem]:
    """Return problems about one of matchExpressions."""
    yield from _check_key(expression.key, "key")
    for index, value in enumerate(expression.values):
        yield from _check_value(value, f"values[{index}]")
    if expression.operator not in OPERATORS:
        yield Problem(
            "operator", f"{expression.operator!r} is unknown", f"use {', '.join(OPERATORS)}"
        )
    elif expression.operator in (IN, NOT_IN):
        if not expression.values:
            yield Problem("values", f"must not be empty with operator {expression.operator}")
    elif expression.values:
        yield Problem("values", f"must be empty with operator {expression.operator}")


def check_subject(given: LabelSelector, namespace: str) -> Iterator[Problem]:
    """Return warnings about an endpointSelector that does not do what it says."""
    for key, value in given.match_labels.items():
        place = jsonpath.member("endpointSelector.matchLabels", key)
        source, name = split_key(key)
        if name == NAMESPACE_LABEL and value != namespace:
            yield Problem(
                place,
                f"a policy selects only in its own namespace {namespace!r}; {value!r} is ignored",
                f"move the policy to namespace {value!r}",
                Severity.WARNING,
            )
        if source == RESERVED:
            yield Problem(
                place, "reserved labels have no namespace: selects nothing", "", Severity.WARNING
            )


@functools.lru_cache(maxsize=65536)
def _names(source: str, key: str) -> tuple[str, ...]:
    sources = SOURCES if source == ANY else (source,)
    return tuple(f"{one}:{key}" for one in sources)


def _requirements(given: LabelSelector) -> Iterator[Requirement]:
    for key, value in given.match_labels.items():
        yield Requirement(*split_key(key), IN, (value,))
    for expression in given.match_expressions:
        values = tuple(sorted(set(expression.values)))
        yield Requirement(*split_key(expression.key), expression.operator, values)


def _overwritten(one: Requirement, given: LabelSelector) -> bool:
    if one.key != NAMESPACE_LABEL or one.operator != IN or len(one.values) != 1:
        return False
    return any(
        split_key(key) == (one.source, one.key) and value == one.values[0]
        for key, value in given.match_labels.items()
    )


def _about_namespace(key: str) -> bool:
    return key == NAMESPACE_LABEL or key.startswith(NAMESPACE_LABELS_PREFIX)


def _check_key(key: str, place: str) -> Iterator[Problem]:
    source, name = split_key(key)
    if len(name) > _MAX_KEY or not _KEY.match(name):
        yield Problem(place, f"{key[:80]!r} is not the key of a label")
    elif source not in (ANY, *SOURCES):
        yield Problem(
            place,
            f"labels of source {source!r} are not supported yet",
            f"use {', '.join(f'{one}:' for one in (ANY, *SOURCES))} or no source",
        )


def _check_value(value: str, place: str) -> Iterator[Problem]:
    if not _VALUE.match(value):
        yield Problem(
            place,
            f"{value[:80]!r} is not the value of a label",
            "at most 63 letters, digits, `-`, `_` and `.`, a letter or digit at both ends",
        )
