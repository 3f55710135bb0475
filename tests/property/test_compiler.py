"""After any sequence of edits the compiler has what it would have from scratch, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.compile import Compiler
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from penstock.xds.resource import Resource, ResourceName
from support import objects

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
    ip=numbers.map("10.244.0.{}".format),
    labels=apps.map(_labels),
    namespace=namespaces,
    node=st.sampled_from(NODES),
)
services = st.builds(
    objects.service,
    name=apps,
    ip=numbers.map("10.96.0.{}".format),
    app_protocol=st.sampled_from(["", "kubernetes.io/h2c"]),
)
slices = st.builds(
    objects.endpoint_slice,
    service_name=apps,
    ips=st.frozensets(numbers, max_size=3).map(_addresses),
    ready=st.booleans(),
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
gateways = st.builds(_gateway, st.sampled_from(["", "a.test", "*.test"]))
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
    pods, services, slices, mesh_routes, gateway_routes, gateways, classes, policies, broken,
    namespace_objects,
)  # fmt: skip
edits = st.lists(st.tuples(things, st.integers(0, 4)), min_size=1, max_size=40)


def _all(compiler: Compiler) -> dict[str, list[tuple[str, str, bytes]]]:
    return {
        node: [(r.type_url, r.name, r.framed) for r in compiler.resources(node)]
        for node in ("", *NODES)
    }


def _from_scratch(present: Sequence[Object | Broken]) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added(present))
    return compiler


@given(edits)
@settings(max_examples=120, deadline=None)
def test_incremental_equals_from_scratch(
    changes: list[tuple[Object | Broken, int]],
) -> None:
    compiler = Compiler()
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
    fresh = _from_scratch(sorted(present.values(), key=lambda one: one.ref))
    backwards = _from_scratch(sorted(present.values(), key=lambda one: one.ref, reverse=True))
    assert _all(compiler) == _all(fresh) == _all(backwards)
    told = {(node, name): r.version for (node, name), r in held.items()}
    have = {
        (node, r.key): r.version
        for node in ("", *NODES)
        for r in compiler.resources(node)
        if (node, r.key) in told or node == ""
    }
    assert told == have
