"""A real API server takes the chart, and lets its accounts do what is listed and nothing else."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from support.chart import NAMESPACE, POOL, Right, rendered, rights, without_crd
from support.kube import KubeApi, path_of

RBAC = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
EVERYBODY_NOT = [
    Right("", "create", "", "nodes"),
    Right("", "update", "", "nodes"),
    Right("", "patch", "", "nodes"),
    Right("", "delete", "", "nodes"),
    Right("", "update", "", "nodes", "status"),
    Right("", "get", "", "nodes", "proxy"),
    Right("", "create", "", "pods"),
    Right("", "update", "", "pods"),
    Right("", "delete", "", "pods"),
    Right("", "create", "", "pods", "exec"),
    Right("", "get", "", "pods", "exec"),
    Right("", "create", "", "pods", "eviction"),
    Right("", "update", "", "pods", "ephemeralcontainers"),
    Right("", "create", "", "serviceaccounts", "token"),
    Right("", "impersonate", "", "users"),
    Right("", "create", "rbac.authorization.k8s.io", "clusterrolebindings"),
    Right("", "escalate", "rbac.authorization.k8s.io", "clusterroles"),
    Right("", "update", "", "secrets"),
    Right("", "delete", "", "secrets"),
    Right("kube-system", "create", "", "secrets"),
    Right("kube-system", "create", "", "configmaps"),
    Right("kube-system", "update", "coordination.k8s.io", "leases"),
    Right("", "update", "gateway.networking.k8s.io", "httproutes"),
    Right("", "update", "cilium.io", "ciliumnetworkpolicies"),
    Right("", "update", "apps", "deployments"),
    Right("", "create", "admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    Right("", "update", "", "services"),
]
"""What nobody of ours may do."""
AGENTS_NOT = [
    Right("", "get", "", "secrets"),
    Right("", "list", "", "secrets"),
    Right(NAMESPACE, "get", "", "secrets", "", "penstock-ca"),
    Right("", "list", "", "nodes"),
    Right("", "list", "", "services"),
    Right("", "list", "", "namespaces"),
    Right("", "list", "discovery.k8s.io", "endpointslices"),
    Right("", "get", "", "configmaps"),
    Right("", "list", "cilium.io", "ciliumnetworkpolicies"),
    Right("", "create", "authentication.k8s.io", "tokenreviews"),
    Right("", "create", "events.k8s.io", "events"),
]


@pytest.fixture(scope="module")
def cluster(api: KubeApi) -> Generator[KubeApi]:
    """An API server with the rights of the chart."""
    api.namespace(NAMESPACE)
    objects = [one for one in rendered() if one["kind"] in RBAC]
    for one in objects:
        api.apply(one)
    yield api
    for one in reversed(objects):
        api.delete(one)


def allowed(api: KubeApi, account: str, right: Right) -> bool:
    attributes = {
        "verb": right.verb, "group": right.group, "resource": right.resource,
        "subresource": right.subresource, "namespace": right.namespace, "name": right.name,
    }  # fmt: skip
    status, said = api.request(
        "POST",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{NAMESPACE}:{account}",
                "groups": [
                    "system:serviceaccounts",
                    f"system:serviceaccounts:{NAMESPACE}",
                    "system:authenticated",
                ],
                "resourceAttributes": attributes,
            },
        },
    )
    assert status == 201, said
    return bool(said["status"]["allowed"])


@pytest.mark.parametrize("account", ["penstock-controller", "penstock-agent", "penstock-envoy"])
def test_an_account_may_do_what_is_listed(cluster: KubeApi, account: str) -> None:
    refused = [
        str(one) for one in rights(rendered(), account) if not allowed(cluster, account, one)
    ]
    assert refused == []


@pytest.mark.parametrize("account", ["penstock-controller", "penstock-agent", "penstock-envoy"])
def test_no_account_may_do_what_nobody_needs(cluster: KubeApi, account: str) -> None:
    assert [str(one) for one in EVERYBODY_NOT if allowed(cluster, account, one)] == []


@pytest.mark.parametrize("account", ["penstock-agent", "penstock-envoy"])
def test_nodes_see_no_secret_and_no_configuration(cluster: KubeApi, account: str) -> None:
    assert [str(one) for one in AGENTS_NOT if allowed(cluster, account, one)] == []


def test_envoy_may_do_nothing_at_all() -> None:
    assert rights(rendered(), "penstock-envoy") == []


def test_secrets_can_be_narrowed_to_namespaces() -> None:
    listed = rights(rendered(POOL), "penstock-controller")
    secrets = {one.namespace for one in listed if one.resource == "secrets" and one.verb == "list"}
    assert secrets == {"shop"}


@pytest.mark.parametrize("values", [{}, POOL], ids=["default", "pool"])
def test_the_api_server_takes_every_object(cluster: KubeApi, values: dict[str, Any]) -> None:
    cluster.namespace("shop")
    query = "fieldManager=tests&force=true&dryRun=All&fieldValidation=Strict"
    for one in rendered(values):
        status, said = cluster.request(
            "PATCH", f"{path_of(one)}?{query}", one, "application/apply-patch+yaml"
        )
        assert status in (200, 201), said


def test_an_upgrade_between_values_is_taken(cluster: KubeApi) -> None:
    """No immutable field differs: neither way needs an object to be made anew."""
    cluster.namespace("shop")
    made: dict[str, dict[str, Any]] = {}
    try:
        for values in ({}, POOL, {}):
            for one in without_crd(rendered(values)):
                made[path_of(one)] = one
                cluster.apply(one)
    finally:
        for one in made.values():
            if one["kind"] not in RBAC:
                cluster.delete(one)
