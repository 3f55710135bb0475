"""After any sequence of edits the compiler has what it would have from scratch, byte for byte."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.compile import Compiler
from penstock.compiler.generated_slices import every_generated
from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from penstock.xds.resource import Resource, ResourceName
from support import objects, streams

APPS = ("front", "orders-v1", "orders-v2", "intruder")
NODES = ("n1", "n2")


def _http(path: str) -> dict[str, object]:
    return {
        "ports": [{"port": "8080", "protocol": "TCP"}],
        "rules": {"http": [{"method": "GET", "path": path}]},
    }


def _ingress(app: str, peer: str, path: str | None) -> dict[str, object]:
    rule: dict[str, object] = {"fromEndpoints": [{"matchLabels": {"app": peer}}]}
    if path is not None:
        rule["toPorts"] = [_http(path)]
    return {"endpointSelector": {"matchLabels": {"app": app}}, "ingress": [rule]}


def _egress(app: str, peer: str, path: str | None) -> dict[str, object]:
    rule: dict[str, object] = {"toEndpoints": [{"matchLabels": {"app": peer}}]}
    if path is not None:
        rule["toPorts"] = [_http(path)]
    return {"endpointSelector": {"matchLabels": {"app": app}}, "egress": [rule]}


def _broken() -> dict[str, object]:
    """A policy whose rules stand beside toPorts."""
    rule = {"toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}], "rules": {"http": []}}
    return {"endpointSelector": {"matchLabels": {"app": "front"}}, "ingress": [rule]}


def _stream_route(kind: str, on: str, backends: list[tuple[str, int]]) -> Object | Broken:
    names: dict[str, Any] = {"hostnames": ["a.test"]} if kind == "TLSRoute" else {}
    return streams.route(kind, on, backends, parentRefs=[_to(on)], **names)


apps = st.sampled_from(APPS)
numbers = st.integers(1, 6)
paths = st.sampled_from([None, "/a", "/b.*"])
namespaces = st.sampled_from(["shop", "other"])


def _gateway(host: str) -> Object | Broken:
    plain = {"name": "http", "protocol": "HTTP", "port": 80}
    return objects.gateway("gw", [plain, {**plain, "name": "a", "hostname": host}] if host else [])


def _labels(app: str) -> dict[str, str]:
    return {"app": app}


def _to(app: str) -> dict[str, object]:
    return objects.on_service(app, "shop")


def _addresses(ends: frozenset[int]) -> list[str]:
    return [f"10.244.0.{end}" for end in sorted(ends)]


def _namespace(team: str) -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": "shop", "labels": {"team": team}},
        }
    )


pods = st.builds(
    objects.pod,
    name=numbers.map("p{}".format),
    ip=st.just("") | numbers.map("10.244.0.{}".format),
    labels=apps.map(_labels) | st.just({"app.kubernetes.io/name": "penstock-envoy"}),
    namespace=namespaces,
    node=st.sampled_from(NODES),
    unheard=st.booleans(),
)
services = st.builds(
    objects.service,
    name=apps,
    ip=numbers.map("10.96.0.{}".format),
    app_protocol=st.sampled_from(["", "kubernetes.io/h2c"]),
    internalTrafficPolicy=st.sampled_from(["Cluster", "Local"]),
    sessionAffinity=st.sampled_from(["None", "ClientIP"]),
)
slices = st.builds(
    objects.endpoint_slice,
    service_name=apps,
    ips=st.frozensets(numbers, max_size=3).map(_addresses),
    ready=st.booleans(),
    on=st.dictionaries(numbers.map("10.244.0.{}".format), st.sampled_from(NODES)),
    pods=st.none() | st.dictionaries(numbers.map("10.244.0.{}".format), numbers.map("p{}".format)),
    managed_by=st.just("endpointslice-controller.k8s.io"),
)
backends = st.lists(st.tuples(apps, st.integers(0, 3)), max_size=3)
mesh_routes = st.builds(
    objects.http_route,
    name=numbers.map("r{}".format),
    parent=apps.map(_to),
    backends=backends,
    namespace=namespaces,
)
gateway_routes = st.builds(
    objects.http_route,
    name=numbers.map("r{}".format),
    parent=st.just({"name": "gw"}),
    backends=backends,
    hostnames=st.lists(st.sampled_from(["a.test", "b.test", "*.test"]), unique=True, max_size=2),
    path=st.sampled_from(["/", "/x"]),
)
stream_routes = st.builds(
    _stream_route,
    st.sampled_from(["TCPRoute", "TLSRoute"]),
    apps,
    st.lists(st.tuples(apps, st.integers(0, 3)), min_size=1, max_size=2),
)
gateways = st.builds(_gateway, st.sampled_from(["", "a.test", "*.test"]))
pool = st.sampled_from(["172.31.0.129", "172.31.0.130", "192.0.2.1"])
few = st.frozensets(pool, max_size=2).map(sorted)
inside = st.lists(
    st.sampled_from([None, "10.96.0.2", "10.96.0.200", "198.51.100.1"]), unique=True, max_size=2
).map(lambda chosen: [{"value": one, "routability": "Cluster"} for one in chosen])
"""Addresses that Gateways ask for, for the inside of the cluster."""
times = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])
more_gateways = st.builds(
    objects.gateway,
    name=st.sampled_from(["gw", "h1", "h2"]),
    addresses=st.builds(
        operator.add,
        (few | st.just(["10.96.0.2"])).map(lambda chosen: [{"value": one} for one in chosen]),
        inside,
    ),
    status=few,
    since=times,
)
service_cidrs = st.builds(objects.service_cidr, st.sampled_from(["10.96.0.0/16", "fd00::/112"]))
balanced = st.builds(
    objects.balanced,
    name=apps,
    ip=numbers.map("10.96.0.{}".format),
    status=few,
    since=times,
    loadBalancerIP=st.just("") | pool,
    loadBalancerClass=st.sampled_from(["", "penstock.dev/pool", "x.test/other"]),
    externalTrafficPolicy=st.sampled_from(["Cluster", "Local"]),
    sessionAffinity=st.sampled_from(["None", "ClientIP"]),
    internalTrafficPolicy=st.sampled_from(["Cluster", "Cluster", "Local"]),
)
nodes = st.builds(
    objects.node,
    name=st.sampled_from(NODES),
    ip=st.sampled_from(["172.31.0.11", "172.31.0.12", "10.244.0.1"]),
    ready=st.booleans(),
)
generated = st.builds(
    objects.generated_service,
    gateway=st.sampled_from(["gw", "h1"]),
    node_port=st.integers(30001, 30002),
    given=few,
    label=st.sampled_from(["gw", "h1", ""]),
    kind=st.sampled_from(["LoadBalancer", "ClusterIP"]),
)
generated_slices = st.builds(
    objects.generated_slice,
    gateway=st.sampled_from(["gw", "h1"]),
    port=st.sampled_from([80, 20000, 20001]),
)
envoys = st.builds(
    objects.pod,
    name=st.sampled_from(["e1", "e2"]),
    ip=st.sampled_from(["10.244.0.8", "10.244.0.9"]),
    labels=st.just({"app.kubernetes.io/name": "penstock-envoy"}),
    namespace=st.just("other"),
    node=st.sampled_from(NODES),
)
classes = st.builds(
    objects.gateway_class, controller=st.sampled_from([objects.CONTROLLER, "x.test/other"])
)
policy_names = st.integers(1, 3).map("c{}".format)
policies = st.builds(
    objects.policy,
    name=policy_names,
    spec=st.builds(_ingress, apps, apps, paths) | st.builds(_egress, apps, apps, paths),
    namespace=namespaces,
)
broken = st.builds(objects.policy, name=policy_names, spec=st.just(_broken()))
namespace_objects = st.builds(_namespace, st.sampled_from(["x", "y"]))
things = st.one_of(
    pods, services, slices, mesh_routes, stream_routes, gateway_routes, gateways, classes,
    policies, broken, namespace_objects, more_gateways, balanced, nodes, generated,
    generated_slices, service_cidrs, envoys,
)  # fmt: skip
edits = st.lists(st.tuples(things, st.integers(0, 4)), min_size=1, max_size=40)


def _all(compiler: Compiler) -> dict[str, list[tuple[str, str, bytes]]]:
    return {
        node: [(r.type_url, r.name, r.framed) for r in compiler.resources(node)]
        for node in ("", *NODES)
    }


SETTINGS = (
    Settings(),
    Settings(reach=Reach.CLUSTER, gateway_pool="172.31.0.128/30", system_namespace="other"),
    Settings(reach=Reach.CLUSTER, addressing=Addressing.NODES, system_namespace="other"),
    Settings(reach=Reach.CLUSTER, addressing=Addressing.LOAD_BALANCER, system_namespace="other"),
)


def _from_scratch(present: Sequence[Object | Broken], configured: Settings) -> Compiler:
    compiler = Compiler(configured)
    compiler.apply(objects.added(present))
    return compiler


@given(st.sampled_from(SETTINGS), edits)
@settings(max_examples=150, deadline=None)
def test_incremental_equals_from_scratch(
    configured: Settings, changes: list[tuple[Object | Broken, int]]
) -> None:
    compiler = Compiler(configured)
    compiler.generated.follow()
    present: dict[ObjectRef, Object | Broken] = {}
    held: dict[tuple[str, ResourceName], Resource] = {}
    for thing, dice in changes:
        events: list[Event] = []
        if dice == 0 and thing.ref in present:
            events.append(Event(EventType.DELETED, present.pop(thing.ref)))
        else:
            kind = EventType.MODIFIED if thing.ref in present else EventType.ADDED
            present[thing.ref] = thing
            events.append(Event(kind, thing))
        for change in compiler.apply(events):
            for resource in change.delta.upserts:
                held[change.node, resource.key] = resource
            for name in change.delta.removals:
                del held[change.node, name]
        assert compiler.failures == {}
    forwards = sorted(present.values(), key=lambda one: one.ref)
    fresh, backwards = (
        _from_scratch(forwards, configured),
        _from_scratch(forwards[::-1], configured),
    )
    assert _all(compiler) == _all(fresh) == _all(backwards)
    wanted = every_generated.once(fresh.db, None)
    assert every_generated.once(backwards.db, None) == wanted
    assert {ref: compiler.generated.wanted(ref) for ref in wanted} == wanted
    assert {ref for ref in compiler.generated.take() if compiler.generated.wanted(ref)} <= set(
        wanted
    )
    told = {(node, name): r.version for (node, name), r in held.items()}
    have = {
        (node, r.key): r.version
        for node in ("", *NODES)
        for r in compiler.resources(node)
        if (node, r.key) in told or node == ""
    }
    assert told == have
