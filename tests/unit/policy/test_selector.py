"""Selectors: operators, sources, namespace and cluster scope (spec A.7)."""

from __future__ import annotations

import msgspec
import pytest

from penstock.ir.policy import Reserved
from penstock.policy.identity import RESERVED_LABELS
from penstock.policy.resources import LabelSelector
from penstock.policy.selector import Selector, peer_selector, subject_selector
from support.policies import CLIENT, FOREIGN, OTHER, SERVER, Json, cnp, errors, ingress, warnings


def peers(given: Json, namespace: str = "shop") -> Selector:
    return peer_selector(msgspec.convert(given, LabelSelector), namespace, "default")


def subjects(given: Json, namespace: str = "shop") -> Selector:
    return subject_selector(msgspec.convert(given, LabelSelector), namespace)


def selected(selector: Selector) -> set[int]:
    pods = (SERVER, CLIENT, OTHER, FOREIGN)
    return {pod.identity for pod in pods if selector.matches(pod.identity_labels)}


def expression(key: str, operator: str, *values: str) -> Json:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {SERVER, CLIENT, OTHER}),
        ({"matchLabels": {"app": "client"}}, {CLIENT}),
        ({"matchLabels": {"any:app": "client"}}, {CLIENT}),
        ({"matchLabels": {"k8s:app": "client"}}, {CLIENT}),
        ({"matchLabels": {"app": "client", "tier": "db"}}, set()),
        (expression("app", "In", "client", "other"), {CLIENT, OTHER}),
        (expression("app", "NotIn", "client"), {SERVER, OTHER}),
        (expression("tier", "NotIn", "db"), {SERVER, CLIENT, OTHER}),
        (expression("tier", "Exists"), {CLIENT}),
        (expression("tier", "DoesNotExist"), {SERVER, OTHER}),
        ({"matchLabels": {"io.kubernetes.pod.namespace": "bank"}}, {FOREIGN}),
        ({"matchLabels": {"k8s:io.kubernetes.pod.namespace": "bank"}}, {FOREIGN}),
        (expression("io.kubernetes.pod.namespace", "Exists"), {SERVER, CLIENT, OTHER, FOREIGN}),
        ({"matchLabels": {"io.cilium.k8s.namespace.labels.team": "b"}}, {FOREIGN}),
        ({"matchLabels": {"io.cilium.k8s.policy.cluster": "elsewhere"}}, set()),
        (expression("io.cilium.k8s.policy.cluster", "Exists"), {SERVER, CLIENT, OTHER}),
        (
            {"matchLabels": {"io.cilium.k8s.policy.serviceaccount": "default"}},
            {SERVER, CLIENT, OTHER},
        ),
        ({"matchLabels": {"reserved:ingress": ""}}, set()),
    ],
)
def test_peers_are_of_the_namespace_unless_said_otherwise(
    given: Json, expected: set[object]
) -> None:
    assert selected(peers(given)) == {pod.identity for pod in expected}  # type: ignore[attr-defined]  # strategies give pods


def test_reserved_labels_mean_reserved_identities() -> None:
    selector = peers({"matchLabels": {"reserved:ingress": ""}})
    found = {number for number, labels in RESERVED_LABELS.items() if selector.matches(labels)}
    assert found == {Reserved.INGRESS}


@pytest.mark.parametrize(
    "given",
    [{}, expression("app", "NotIn", "x"), expression("io.kubernetes.pod.namespace", "NotIn", "x")],
)
def test_selectors_of_workloads_never_mean_the_world(given: Json) -> None:
    selector = peers(given)
    assert not any(selector.matches(labels) for labels in RESERVED_LABELS.values())


@pytest.mark.parametrize(
    "given",
    [
        {"matchLabels": {"io.kubernetes.pod.namespace": "bank"}},
        {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "bank", "app": "client"}},
        expression("io.kubernetes.pod.namespace", "In", "bank"),
        expression("io.kubernetes.pod.namespace", "Exists"),
        expression("io.kubernetes.pod.namespace", "NotIn", "shop"),
        {"matchLabels": {"reserved:host": ""}},
    ],
)
def test_subjects_are_never_of_another_namespace(given: Json) -> None:
    selector = subjects(given)
    assert not selector.matches(FOREIGN.identity_labels)
    assert selector.namespaces == frozenset({"shop"}) or selector.namespaces == frozenset()


def test_foreign_namespace_of_the_subject_is_replaced_with_a_warning() -> None:
    given = {"matchLabels": {"app": "client", "io.kubernetes.pod.namespace": "bank"}}
    assert selected(subjects(given)) == {CLIENT.identity}
    said = warnings(cnp({"endpointSelector": given, "ingress": [{}]}))
    assert any("only in its own namespace 'shop'" in one for one in said)


def test_equal_meaning_in_text_is_an_equal_selector() -> None:
    one = peers({"matchLabels": {"a": "1", "b": "2"}})
    other = peers({"matchLabels": {"b": "2"}, **expression("any:a", "In", "1", "1")})
    assert one == other
    assert hash(one) == hash(other)
    assert str(one) == (
        "any:a=1,any:b=2,k8s:io.cilium.k8s.policy.cluster=default,"
        "k8s:io.kubernetes.pod.namespace=shop"
    )


@pytest.mark.parametrize(
    ("given", "namespaces"),
    [
        ({}, {"shop"}),
        (expression("io.kubernetes.pod.namespace", "In", "a", "b"), {"a", "b"}),
        (expression("io.kubernetes.pod.namespace", "Exists"), None),
        ({"matchLabels": {"reserved:host": ""}}, None),
    ],
)
def test_namespaces_of_a_selector_are_known_for_indexing(
    given: Json, namespaces: set[str] | None
) -> None:
    expected = None if namespaces is None else frozenset(namespaces)
    assert peers(given).namespaces == expected


def test_labels_that_differ_from_pod_to_pod_are_refused() -> None:
    per_pod = {"matchLabels": {"statefulset.kubernetes.io/pod-name": "db-0"}}
    assert "differs from pod to pod" in errors(cnp(ingress({"fromEndpoints": [per_pod]})))[0]
