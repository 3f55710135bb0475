"""Identity labels and numbers (spec A.7; reliability B-4)."""

from __future__ import annotations

from itertools import islice

import pytest

from penstock.policy.identity import (
    FIRST_IDENTITY,
    LAST_IDENTITY,
    candidates,
    canonical,
    identity_labels,
)


def labels(**pod_labels: str) -> dict[str, str]:
    return identity_labels(
        namespace="shop",
        pod_labels=pod_labels,
        namespace_labels={"team": "green"},
        service_account="orders",
        cluster="east",
    )


def test_identity_holds_pod_namespace_account_and_cluster() -> None:
    assert labels(app="orders") == {
        "k8s:app": "orders",
        "k8s:io.cilium.k8s.namespace.labels.team": "green",
        "k8s:io.cilium.k8s.policy.cluster": "east",
        "k8s:io.cilium.k8s.policy.serviceaccount": "orders",
        "k8s:io.kubernetes.pod.namespace": "shop",
    }


@pytest.mark.parametrize(
    "key",
    [
        "io.kubernetes.pod.namespace",
        "io.cilium.k8s.policy.cluster",
        "io.cilium.k8s.policy.serviceaccount",
        "io.cilium.k8s.namespace.labels.team",
        "io.cilium.k8s.namespace.labels.admin",
        "k8s:io.kubernetes.pod.namespace",
        "reserved:host",
    ],
)
def test_crafted_pod_label_does_not_win(key: str) -> None:
    assert labels(**{key: "bank"}) == labels()


@pytest.mark.parametrize("key", ["pod-template-hash", "statefulset.kubernetes.io/pod-name"])
def test_pods_of_one_workload_have_one_identity(key: str) -> None:
    assert canonical(labels(app="a", **{key: "1"})) == canonical(labels(app="a", **{key: "2"}))


def test_order_of_labels_does_not_matter() -> None:
    assert canonical(labels(a="1", b="2")) == canonical(labels(b="2", a="1"))


def test_different_labels_have_different_text() -> None:
    texts = {canonical({"k8s:a": "b,c"}), canonical({"k8s:a": "b", "c": ""}), canonical({})}
    assert len(texts) == 3


def test_numbers_are_stable_in_range_and_vary() -> None:
    first = list(islice(candidates("x"), 200))
    assert first == list(islice(candidates("x"), 200))
    assert first[0] != next(candidates("y"))
    assert len(set(first)) == 200
    assert all(FIRST_IDENTITY <= number <= LAST_IDENTITY for number in first)
