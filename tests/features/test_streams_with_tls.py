"""TLS from Gateways to endpoints of connections: what it touches, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.envoy.endpoint import SOCKET_MATCH
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.endpoint.v3 import endpoint_pb2
from penstock.xds import types
from penstock.xds.resource import ResourceName
from support import objects, streams
from support.pki import issue

CLUSTER = "stream|shop/front/5000|*"
AUTHORITY = issue("authority")
Thing = Object | Broken


def gateway(**listener: Any) -> Thing:
    return objects.gateway("front", [{"name": "tcp", "protocol": "TCP", "port": 5000} | listener])


def world(*more: Thing) -> Compiler:
    compiler = Compiler()
    compiler.apply(
        objects.added(
            [
                objects.gateway_class(),
                gateway(),
                objects.service("one", "10.96.0.1"),
                objects.endpoint_slice("one", ["10.244.0.1"]),
                objects.service("two", "10.96.0.2"),
                objects.endpoint_slice("two", ["10.244.0.2"]),
                streams.route("TCPRoute", "all", [("one", 1), ("two", 1)]),
                *more,
            ]
        )
    )
    assert compiler.failures == {}
    return compiler


def changed(compiler: Compiler, event: EventType, thing: Thing) -> set[str]:
    found = compiler.apply([Event(event, thing)])
    names = (key for one in found for key in (r.key for r in one.delta.upserts))
    return {types.short(key.type_url) for key in names}


def sockets(compiler: Compiler, name: str = CLUSTER) -> dict[str, str]:
    """Return by which socket each endpoint is met, by address."""
    got = {one.key: one for one in compiler.resources("n1")}
    cluster = next(one for key, one in got.items() if key.name == name)
    made = cluster_pb2.Cluster.FromString(cluster.body)
    wanted = made.eds_cluster_config.service_name or name
    body = next(
        one.body for key, one in got.items() if key == ResourceName(types.ENDPOINTS, wanted)
    )
    found: dict[str, str] = {}
    for one in endpoint_pb2.ClusterLoadAssignment.FromString(body).endpoints[0].lb_endpoints:
        fields = one.metadata.filter_metadata[SOCKET_MATCH].fields
        found[one.endpoint.address.socket_address.address] = fields["socket"].string_value
    return found


def test_only_the_endpoints_of_that_service_are_met_with_tls() -> None:
    compiler = world(*streams.tls("one", AUTHORITY))
    assert sockets(compiler) == {"10.244.0.1": "shop/one/80", "10.244.0.2": ""}


def test_an_endpoint_of_two_services_is_met_with_tls_if_one_of_them_asks_for_it() -> None:
    """A port speaks one or the other; Envoy knows an endpoint once."""
    shared = objects.endpoint_slice("two", ["10.244.0.1", "10.244.0.2"])
    compiler = world(shared, *streams.tls("one", AUTHORITY))
    assert sockets(compiler) == {"10.244.0.1": "shop/one/80", "10.244.0.2": ""}
    only_two = streams.route("TCPRoute", "all", [("one", 0), ("two", 1)])
    assert changed(compiler, EventType.MODIFIED, only_two) == {"ClusterLoadAssignment"}
    assert sockets(compiler) == {"10.244.0.1": "", "10.244.0.2": ""}


def test_weights_and_endpoints_change_endpoints_only() -> None:
    compiler = world(*streams.tls("one", AUTHORITY))
    route = streams.route("TCPRoute", "all", [("one", 0), ("two", 7)])
    assert changed(compiler, EventType.MODIFIED, route) == {"ClusterLoadAssignment"}
    more = objects.endpoint_slice("two", ["10.244.0.2", "10.244.0.3"])
    assert "Cluster" not in changed(compiler, EventType.MODIFIED, more)


def test_a_policy_changes_no_listener() -> None:
    authority, policy = streams.tls("one", AUTHORITY)
    compiler = world(authority)
    assert "Listener" not in changed(compiler, EventType.ADDED, policy)
    assert sockets(compiler)["10.244.0.1"] == "shop/one/80"
    assert "Listener" not in changed(compiler, EventType.DELETED, policy)
    assert sockets(compiler) == {"10.244.0.1": "", "10.244.0.2": ""}


def test_a_policy_for_others_changes_nothing_here() -> None:
    authority, policy = streams.tls("three", AUTHORITY)
    compiler = world(authority)
    assert changed(compiler, EventType.ADDED, policy) == set()


def test_the_share_of_a_service_whose_policy_cannot_be_kept_is_refused() -> None:
    compiler = world(streams.tls("one", AUTHORITY)[1])
    assert sockets(compiler) == {"127.0.0.1": "", "10.244.0.2": ""}


@pytest.mark.parametrize("protocol", ["TLS", "UDP"])
def test_what_is_handed_on_as_tls_and_datagrams_are_left_alone(protocol: str) -> None:
    kind = "TLSRoute" if protocol == "TLS" else "UDPRoute"
    spec: dict[str, Any] = {"hostnames": ["a.test"]} if protocol == "TLS" else {}
    tls = {"tls": {"mode": "Passthrough"}} if protocol == "TLS" else {}
    ends_in = "5000|a.test" if protocol == "TLS" else "5000/udp|*"
    compiler = world(
        gateway(protocol=protocol, **tls),
        streams.route(kind, "all", [("one", 1)], **spec),
        *streams.tls("one", AUTHORITY),
    )
    found = sockets(compiler, f"stream|shop/front/{ends_in}")
    assert set(found.values()) == {""}
