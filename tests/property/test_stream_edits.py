"""Edits around routes of connections and datagrams: as from scratch, and TLS is kept."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.compile import Compiler
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.envoy.endpoint import SOCKET, SOCKET_MATCH
from penstock.envoy.stream import assignment_name
from penstock.meta.names import ObjectRef
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.endpoint.v3 import endpoint_pb2
from penstock.xds import types
from penstock.xds.snapshot import Snapshot
from support import objects, policies, streams
from support.pki import issue, tls_secret_raw

NODE = "n1"
ADDRESSES = {"one": "10.244.0.1", "two": "10.244.0.2", "three": "10.244.0.3"}
NAMES = ("a.test", "*.test", "b.a.test")
AUTHORITY = issue("authority")
CONFIG_MAP = streams.tls("one", AUTHORITY)[0]
CERTIFICATE = objects.made(tls_secret_raw("cert", "shop", [issue(*NAMES)]))
FIXED = [
    objects.gateway_class(),
    *(objects.service(name, one.replace("244", "96"), udp=True) for name, one in ADDRESSES.items()),
]
Thing = Object | Broken

CLIENT = objects.pod("client", "10.244.0.9", {"app": "client"}, namespace="team")
SERVER = objects.pod("one", ADDRESSES["one"], {"app": "one"})
POLICY = objects.made(
    policies.cnp(
        {
            "endpointSelector": policies.app("client"),
            "egress": [policies.http_port("8080", {"method": "GET"})],
        },
        namespace="team",
    )
)
"""By which connections to some endpoints are judged request by request."""

names = st.sampled_from(sorted(ADDRESSES))
shares = st.lists(
    st.tuples(st.sampled_from((*sorted(ADDRESSES), "missing")), st.integers(0, 3)),
    min_size=1,
    max_size=3,
)


def _listener(number: int, protocol: str, hostname: str | None, mode: str) -> dict[str, Any]:
    made: dict[str, Any] = {"name": f"l{number}", "protocol": protocol, "port": 443}
    if protocol in ("TLS", "HTTPS"):
        cert = {"certificateRefs": [{"name": "cert"}]}
        made["tls"] = {"mode": mode} if mode == "Passthrough" else cert
        if hostname is not None:
            made["hostname"] = hostname
    else:
        made["port"] = 5000
    return made


listeners = st.builds(
    _listener,
    st.integers(0, 3),
    st.sampled_from(("TLS", "TLS", "TCP", "UDP", "HTTPS")),
    st.sampled_from((None, *NAMES)),
    st.sampled_from(("Passthrough", "Terminate")),
)


def _gateway(own: list[dict[str, Any]], *, shows: bool) -> Thing:
    spec: dict[str, Any] = {"gatewayClassName": "penstock", "listeners": own}
    if shows:
        spec["tls"] = {"backend": {"clientCertificateRef": {"name": "cert"}}}
    return objects.made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "front", "namespace": "shop"},
            "spec": spec,
        }
    )


gateways = st.builds(
    _gateway,
    st.lists(listeners, min_size=1, max_size=4, unique_by=lambda one: one["name"]),
    shows=st.booleans(),
)


@st.composite
def routes(draw: st.DrawFn) -> Thing:
    kind = draw(st.sampled_from(("TLSRoute", "TCPRoute", "UDPRoute")))
    hosts = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True))
    more: dict[str, Any] = {"hostnames": hosts} if kind == "TLSRoute" else {}
    if draw(st.booleans()):
        more["parentRefs"] = [objects.on_service(draw(names), "shop")]
    since = f"2026-01-0{draw(st.integers(1, 3))}T00:00:00Z"
    return streams.route(
        kind,
        f"r{draw(st.integers(0, 2))}",
        draw(shares),
        since=since,
        namespace=draw(st.sampled_from(("shop", "shop", "team"))),
        **more,
    )


@st.composite
def http_routes(draw: st.DrawFn) -> Thing:
    parent = objects.on_service(draw(names), "shop")
    namespace = draw(st.sampled_from(("shop", "team")))
    return objects.http_route("h", parent=parent, backends=draw(shares), namespace=namespace)


def _endpoints(name: str, numbers: set[str]) -> Thing:
    found = sorted(ADDRESSES[one] for one in numbers)
    return objects.endpoint_slice(name, found, udp=True)


one_object = st.one_of(
    gateways,
    routes(),
    routes(),
    http_routes(),
    st.sampled_from((CLIENT, SERVER, POLICY)),
    st.builds(_endpoints, names, st.sets(names, max_size=2)),
    names.map(lambda name: streams.tls(name, AUTHORITY)[1]),
    st.sampled_from((CONFIG_MAP, CERTIFICATE)),
)
start = st.tuples(
    gateways, routes(), routes(), names.map(lambda one: streams.tls(one, AUTHORITY)[1]),
    st.just(CONFIG_MAP), st.just(CERTIFICATE),
    st.builds(_endpoints, st.just("one"), st.sets(names, max_size=2)),
    st.builds(_endpoints, st.just("two"), st.sets(names, max_size=2)),
)  # fmt: skip
edits = st.lists(st.one_of(one_object, st.integers(0, 100)), max_size=10)


@given(start, edits)
@settings(max_examples=60, deadline=None)
def test_a_followed_snapshot_is_what_a_new_compiler_makes(
    first: tuple[Thing, ...], changes: list[Thing | int]
) -> None:
    compiler, present = Compiler(), {one.ref: one for one in (*FIXED, *first)}
    compiler.apply(objects.added(present.values()))
    snapshot = Snapshot(compiler.resources(NODE))
    for what in changes:
        for change in compiler.apply([_event(present, what)]):
            assert snapshot.apply(change.delta) == change.delta
        assert compiler.failures == {}
    fresh = Compiler()
    fresh.apply(objects.added(present.values()))
    wanted = {one.key: one.framed for one in fresh.resources(NODE)}
    assert {one.key: one.framed for one in snapshot} == wanted
    _every_socket_is_there(snapshot)


def _event(present: dict[ObjectRef, Thing], what: Thing | int) -> Event:
    if isinstance(what, int):
        ref = sorted(present)[what % len(present)]
        return Event(EventType.DELETED, present.pop(ref))
    kind = EventType.MODIFIED if what.ref in present else EventType.ADDED
    present[what.ref] = what
    return Event(kind, what)


def _every_socket_is_there(snapshot: Snapshot) -> None:
    """No endpoint that wants TLS is met without: its cluster has the socket that it names."""
    for one in snapshot:
        if one.type_url != types.CLUSTER or not one.name.startswith("stream|"):
            continue
        cluster = cluster_pb2.Cluster.FromString(one.body)
        sockets = {match.name for match in cluster.transport_socket_matches}
        found = snapshot.get(types.ENDPOINTS, assignment_name(cluster))
        assert found is not None
        made = endpoint_pb2.ClusterLoadAssignment.FromString(found.body)
        for locality in made.endpoints:
            for endpoint in locality.lb_endpoints:
                named = endpoint.metadata.filter_metadata[SOCKET_MATCH].fields
                assert {named[key].string_value for key in named} <= sockets
                assert set(named) <= {SOCKET}
