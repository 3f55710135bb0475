"""In a cluster: what shows a certificate to endpoints is where its key is, and nowhere else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.core.objects import Broken, Object
from penstock.xds import types
from penstock.xds.snapshot import Snapshot
from support import objects, streams
from support.pki import issue, tls_secret_raw

Things = list[Object | Broken]
POOL = Settings(reach=Reach.CLUSTER, gateway_pool="198.51.100.0/28")
NODES = ("a", "b", "c")
AUTHORITY = {"group": "", "kind": "ConfigMap", "name": "ca"}
TRUST = {"hostname": "web.internal", "caCertificateRefs": [AUTHORITY]}
KEY = "tls|shop/client"
CA, POLICY = streams.tls("web", issue("authority"))


def gateway(name: str, **spec: Any) -> Object | Broken:
    listeners = [
        {"name": "http", "protocol": "HTTP", "port": 80},
        {"name": "tcp", "protocol": "TCP", "port": 90},
    ]
    return objects.gateway_api(
        "Gateway", name, {"gatewayClassName": "penstock", "listeners": listeners} | spec
    )


def stream(*, of: str) -> Object | Broken:
    return objects.gateway_api(
        "TCPRoute",
        "stream",
        {
            "parentRefs": [{"name": of, "sectionName": "tcp"}],
            "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
        },
    )


def world(*more: Object | Broken) -> Things:
    return [
        objects.gateway_class(),
        *(objects.node(name, f"192.0.2.{number}") for number, name in enumerate(NODES, 1)),
        objects.service("web", "10.96.0.1"),
        objects.endpoint_slice("web", ["10.244.0.1"]),
        CA,
        objects.made(tls_secret_raw("client", "shop", [issue("client")])),
        *more,
    ]


MUTUAL = {
    "mode": "ClientAndServer",
    "validation": TRUST,
    "clientCertificateRef": {"name": "client"},
}
SHOWS = {"tls": {"backend": {"clientCertificateRef": {"name": "client"}}}}
TWICE = {"addresses": [{"value": "198.51.100.1"}, {"value": "198.51.100.6"}]}
WAYS: dict[str, Things] = {
    "gw|shop/~picked": [
        gateway("gw"),
        objects.xbackend("picked", {"app": "web"}, tls=MUTUAL),
        objects.http_route("r", parent={"name": "gw"}, backends=[("picked", 1)]),
    ],
    "gw|shop/web/80|shop/client": [
        gateway("gw", **SHOWS),
        POLICY,
        objects.http_route("r", parent={"name": "gw"}, backends=[("web", 1)]),
    ],
    "at several addresses|gw|shop/web/80|shop/client": [
        gateway("gw", **SHOWS, **TWICE),
        POLICY,
        objects.http_route("r", parent={"name": "gw"}, backends=[("web", 1)]),
    ],
    "stream|shop/gw/90|*": [
        gateway("gw", **SHOWS, **TWICE),
        POLICY,
        stream(of="gw"),
    ],
}


def compiled(things: Things) -> Compiler:
    compiler = Compiler(POOL)
    compiler.apply(objects.added(things))
    assert compiler.failures == {}
    return compiler


def names(compiler: Compiler, node: str, type_url: str) -> set[str]:
    return {one.name for one in compiler.resources(node) if one.type_url == type_url}


def at(compiler: Compiler, type_url: str, name: str) -> list[str]:
    return [node for node in NODES if name in names(compiler, node, type_url)]


@pytest.mark.parametrize("way", WAYS)
def test_a_cluster_that_shows_a_certificate_is_at_the_nodes_of_its_gateway(way: str) -> None:
    compiler = compiled(world(*WAYS[way]))
    answering = at(compiler, types.LISTENER, "gateway/shop/gw/80")
    assert answering
    assert answering != list(NODES)
    (cluster,) = {one for one in names(compiler, answering[0], types.CLUSTER) if way.endswith(one)}
    assert at(compiler, types.CLUSTER, cluster) == answering
    assert at(compiler, types.SECRET, KEY) == answering
    assert all(Snapshot(compiler.resources(node)).problems() == () for node in NODES)


@pytest.mark.parametrize("way", WAYS)
def test_it_moves_with_the_address_of_the_gateway(way: str) -> None:
    things = world(*WAYS[way])
    compiler = compiled(things)
    lost = at(compiler, types.LISTENER, "gateway/shop/gw/80")[0]
    down = objects.node(lost, f"192.0.2.{NODES.index(lost) + 1}", ready=False)
    compiler.apply(objects.added([down]))
    scratch = compiled([*things, down])
    assert [compiler.resources(node) for node in NODES] == [
        scratch.resources(node) for node in NODES
    ]
    assert lost not in at(compiler, types.SECRET, KEY)
    assert at(compiler, types.SECRET, KEY) == at(compiler, types.LISTENER, "gateway/shop/gw/80")


def test_routes_of_a_gateway_with_two_addresses_are_at_their_nodes_alone() -> None:
    route = objects.http_route("r", parent={"name": "gw"}, backends=[("web", 1)])
    compiler = compiled(world(gateway("gw", **TWICE), route))
    answering = at(compiler, types.LISTENER, "gateway/shop/gw/80")
    having = [node for node in NODES if names(compiler, node, types.SCOPE)]
    assert len(answering) == len(TWICE["addresses"])
    assert having == answering


def test_a_change_of_such_a_route_comes_to_each_of_them() -> None:
    def route(to: str) -> Object | Broken:
        return objects.http_route("r", parent={"name": "gw"}, backends=[(to, 1)])

    compiler = compiled(world(gateway("gw", **TWICE), route("web")))
    changes = compiler.apply(objects.added([route("missing")]))
    told = {one.node: {each.name for each in one.delta.upserts} for one in changes}
    assert [node for node in NODES if "gw|shop/gw/80|*" in told.get(node, ())] == at(
        compiler, types.LISTENER, "gateway/shop/gw/80"
    )


@pytest.mark.parametrize("addressing", [Addressing.NODES, Addressing.LOAD_BALANCER])
def test_a_rotated_key_comes_to_each_node_that_serves_with_it(addressing: Addressing) -> None:
    tls = {"certificateRefs": [{"name": "client"}]}
    secure = [{"name": "s", "protocol": "HTTPS", "port": 443, "tls": tls}]
    compiler = Compiler(msgspec.structs.replace(POOL, addressing=addressing))
    compiler.apply(objects.added(world(gateway("gw", listeners=secure))))
    other = objects.made(tls_secret_raw("client", "shop", [issue("client")]))
    changes = compiler.apply(objects.added([other]))
    told = [one.node for one in changes if KEY in {each.name for each in one.delta.upserts}]
    assert told == at(compiler, types.SECRET, KEY) == list(NODES)


def test_a_gateway_that_is_nowhere_has_neither_routes_nor_keys_at_any_node() -> None:
    inside = gateway("gw", addresses=[{"routability": "Cluster"}])
    compiler = compiled(world(inside, *WAYS["gw|shop/~picked"][1:]))
    for kind in (types.SCOPE, types.LISTENER, types.SECRET):
        assert [name for node in NODES for name in names(compiler, node, kind)] == []
    assert all(Snapshot(compiler.resources(node)).problems() == () for node in NODES)


def test_where_every_node_serves_all_of_them_show_it() -> None:
    inside = msgspec.structs.replace(POOL, reach=Reach.NODE)
    compiler = Compiler(inside)
    compiler.apply(objects.added(world(*WAYS["gw|shop/~picked"])))
    assert at(compiler, types.CLUSTER, "gw|shop/~picked") == list(NODES)
    assert at(compiler, types.SECRET, KEY) == list(NODES)
