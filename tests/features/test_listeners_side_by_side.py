"""Listeners beside others: of ListenerSets, on one port, of other Gateways; what is whose."""

from __future__ import annotations

from typing import Any

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.pb.envoy.config.endpoint.v3 import endpoint_pb2
from penstock.xds import types
from support import objects
from support.pki import issue, tls_secret_raw
from support.streams import route

API = "gateway.networking.k8s.io/v1"
AT_NODES = Settings(reach=Reach.CLUSTER, addressing=Addressing.NODES)
Json = dict[str, Any]


def made(kind: str, name: str, spec: Json, **meta: Any) -> Object | Broken:
    metadata = {"name": name, "namespace": "shop", **meta}
    return objects.made({"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec})


def compiled(*things: Object | Broken, settings: Settings | None = None) -> Compiler:
    compiler = Compiler(settings)
    compiler.apply(objects.added([objects.gateway_class(), *things]))
    assert compiler.failures == {}
    return compiler


def conditions(compiler: Compiler, thing: Object | Broken) -> dict[str, dict[str, str]]:
    """Return listener → type of a condition → its reason."""
    status = status_of(compiler.db, thing, lambda _: None)
    assert status is not None
    return {
        one["name"]: {each["type"]: each["reason"] for each in one["conditions"]}
        for one in status["listeners"]
    }


def https(name: str, hostname: str) -> Json:
    tls = {"certificateRefs": [{"name": "cert"}]}
    return {"name": name, "protocol": "HTTPS", "port": 443, "hostname": hostname, "tls": tls}


def test_a_listener_that_overlaps_with_one_of_a_listener_set_says_so_and_so_does_that() -> None:
    everybody = {"namespaces": {"from": "All"}}
    spec = {"gatewayClassName": "penstock", "allowedListeners": everybody}
    own = made("Gateway", "gw", {**spec, "listeners": [https("wide", "*.a.test")]})
    more = {"parentRef": {"name": "gw"}, "listeners": [https("one", "x.a.test")]}
    added = made("ListenerSet", "more", more)
    secret = objects.made(tls_secret_raw("cert", "shop", [issue("other.test")]))
    compiler = compiled(own, added, secret)
    for thing, name in ((own, "wide"), (added, "one")):
        assert conditions(compiler, thing)[name]["OverlappingTLSConfig"] == "OverlappingHostnames"


def endpoints(compiler: Compiler, cluster: str) -> list[str] | None:
    """Return where a cluster leads; None if there is no such cluster."""
    for one in compiler.resources("n1"):
        if (one.type_url, one.name) == (types.ENDPOINTS, cluster):
            found = endpoint_pb2.ClusterLoadAssignment.FromString(one.body)
            return [
                each.endpoint.address.socket_address.address
                for locality in found.endpoints
                for each in locality.lb_endpoints
            ]
    return None


def test_a_server_name_that_a_route_asks_another_listener_for_stays_with_its_own() -> None:
    passed = {"protocol": "TLS", "port": 443, "tls": {"mode": "Passthrough"}}
    gateway = objects.gateway(
        "gw",
        [
            {"name": "wide", "hostname": "*.test", **passed},
            {"name": "narrow", "hostname": "*.a.test", **passed},
        ],
    )
    at_wide, at_narrow = (
        route("TLSRoute", name, [(name, 1)], parentRefs=[parent | {"name": "gw"}], hostnames=[host])
        for name, parent, host in (
            ("one", {"sectionName": "wide"}, "x.a.test"),
            ("two", {"sectionName": "narrow"}, "*.a.test"),
        )
    )
    services = [
        thing
        for number, name in enumerate(("one", "two"), 1)
        for thing in (
            objects.service(name, f"10.96.0.{number}"),
            objects.endpoint_slice(name, [f"10.244.0.{number}"]),
        )
    ]
    compiler = compiled(gateway, at_wide, at_narrow, *services)
    assert endpoints(compiler, "stream|shop/gw/443|x.a.test") is None
    assert endpoints(compiler, "stream|shop/gw/443|*.a.test") == ["10.244.0.2"]


def test_a_gateway_that_comes_later_takes_no_port_of_the_nodes_whatever_its_name() -> None:
    old, new = (
        objects.gateway(name, since=f"2026-01-0{day}T00:00:00Z")
        for name, day in (("zebra", 1), ("ape", 2))
    )
    compiler = compiled(objects.node("n1", "172.31.0.10"), old, settings=AT_NODES)
    compiler.apply([Event(EventType.ADDED, new)])
    assert conditions(compiler, old)["http"]["Accepted"] == "Accepted"
    assert conditions(compiler, new)["http"]["Accepted"] == "PortUnavailable"
    compiler.apply([Event(EventType.DELETED, old)])
    assert conditions(compiler, new)["http"]["Accepted"] == "Accepted"
