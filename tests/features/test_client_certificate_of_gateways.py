"""The certificate that a Gateway shows to endpoints: whom it concerns, and what a bad one costs."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.xds import types
from support import objects
from support.pki import issue, tls_secret_raw
from support.streams import tls

Things = list[Object | Broken]
SHOWING = "gw|shop/web/80|shop/client"


def showing(reference: dict[str, Any], name: str = "front") -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": name, "namespace": "shop", "generation": 3},
            "spec": {
                "gatewayClassName": "penstock",
                "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}],
                "tls": {"backend": {"clientCertificateRef": reference}},
            },
        }
    )


def secret(namespace: str = "shop") -> Object | Broken:
    return objects.made(tls_secret_raw("client", namespace, [issue("client")]))


def world(gateway: Object | Broken, *more: Object | Broken) -> Things:
    return [
        objects.gateway_class(),
        gateway,
        objects.gateway("other"),
        objects.service("web", "10.96.0.1"),
        objects.endpoint_slice("web", ["10.244.0.1"]),
        objects.service("plain", "10.96.0.2"),
        objects.endpoint_slice("plain", ["10.244.0.2"]),
        objects.http_route("web", parent={"name": "front"}, backends=[("web", 1), ("plain", 2)]),
        objects.http_route("same", parent={"name": "other"}, backends=[("web", 1)]),
        *tls("web", issue("authority")),
        *more,
    ]


def compiled(things: Things) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added(things))
    assert compiler.failures == {}
    return compiler


def names(compiler: Compiler, type_url: str) -> set[str]:
    return {one.name for one in compiler.resources("n1") if one.type_url == type_url}


def scope_of(compiler: Compiler, gateway: str) -> bytes:
    (found,) = [
        one.body
        for one in compiler.resources("n1")
        if one.type_url == types.SCOPE and one.name == f"gw|shop/{gateway}/80|*"
    ]
    return found


def resolved(compiler: Compiler, gateway: Object | Broken) -> tuple[str, str]:
    status = status_of(compiler.db, gateway, lambda _: None)
    assert status is not None
    found = {one["type"]: one for one in status["conditions"]}
    assert found["Accepted"]["status"] == "True"
    return found["ResolvedRefs"]["status"], found["ResolvedRefs"]["reason"]


def test_only_that_gateway_shows_it_and_only_where_tls_is_spoken() -> None:
    gateway = showing({"name": "client"})
    compiler = compiled(world(gateway, secret()))
    assert {SHOWING, "gw|shop/web/80", "gw|shop/plain/80"} <= names(compiler, types.CLUSTER)
    assert "tls|shop/client" in names(compiler, types.SECRET)
    front, other = scope_of(compiler, "front"), scope_of(compiler, "other")
    assert SHOWING.encode() in front
    assert b"gw|shop/plain/80" in front
    assert b"gw|shop/plain/80|" not in front
    assert SHOWING.encode() not in other
    assert resolved(compiler, gateway) == ("True", "ResolvedRefs")


def test_a_renewed_certificate_changes_no_cluster_and_no_route() -> None:
    compiler = compiled(world(showing({"name": "client"}), secret()))
    (change,) = compiler.apply([Event(EventType.MODIFIED, secret())])
    assert [str(one.key) for one in change.delta.upserts] == ["Secret tls|shop/client"]


@pytest.mark.parametrize(
    ("reference", "there", "reason"),
    [
        ({"name": "client"}, [], "InvalidClientCertificateRef"),
        ({"name": "client", "kind": "Other"}, [secret()], "InvalidClientCertificateRef"),
        ({"name": "client", "group": "x.test"}, [secret()], "InvalidClientCertificateRef"),
        ({"name": "client", "namespace": "certs"}, [secret("certs")], "RefNotPermitted"),
    ],
)
def test_without_a_usable_one_that_gateway_connects_to_no_endpoint_with_tls(
    reference: dict[str, Any], there: Things, reason: str
) -> None:
    gateway = showing(reference)
    compiler = compiled(world(gateway, *there))
    front = scope_of(compiler, "front")
    assert b"penstock.closed" in front
    assert b"gw|shop/web/80" not in front
    assert b"gw|shop/plain/80" in front
    assert b"gw|shop/web/80" in scope_of(compiler, "other")
    assert names(compiler, types.SECRET) == set()
    assert resolved(compiler, gateway) == ("False", reason)


def test_a_grant_lets_it_come_from_another_namespace_and_its_end_takes_the_key_away() -> None:
    grant = objects.made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "ReferenceGrant",
            "metadata": {"name": "client", "namespace": "certs"},
            "spec": {
                "from": [
                    {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "shop"}
                ],
                "to": [{"group": "", "kind": "Secret"}],
            },
        }
    )
    gateway = showing({"name": "client", "namespace": "certs"})
    compiler = compiled(world(gateway, secret("certs"), grant))
    assert names(compiler, types.SECRET) == {"tls|certs/client"}
    assert resolved(compiler, gateway) == ("True", "ResolvedRefs")
    compiler.apply([Event(EventType.DELETED, grant)])
    assert names(compiler, types.SECRET) == set()
    assert resolved(compiler, gateway) == ("False", "RefNotPermitted")


def test_weights_are_those_of_the_clusters_that_a_gateway_uses() -> None:
    compiler = compiled(world(showing({"name": "client"}), secret()))
    (layer,) = [one.body for one in compiler.resources("n1") if one.type_url == types.RUNTIME]
    assert f"route.shop/web/0/0.{SHOWING}".encode() in layer
    assert b"route.shop/web/0/0.gw|shop/plain/80" in layer


def test_pods_meet_the_same_endpoints_without_tls_of_ours() -> None:
    parent = {"group": "", "kind": "Service", "name": "web"}
    route = objects.http_route("mesh", parent=parent, backends=[("web", 1)])
    with_policy = compiled(world(showing({"name": "client"}), secret(), route))
    things = world(showing({"name": "client"}), secret(), route)
    without = compiled([one for one in things if one.ref.kind != "BackendTLSPolicy"])
    (found,), (plain,) = (
        [
            one.body
            for one in compiler.resources("n1")
            if one.name == "mesh|shop/web/80" and one.type_url == types.CLUSTER
        ]
        for compiler in (with_policy, without)
    )
    assert found == plain
    assert b"transport_sockets.tls" not in found
