"""One object that cannot be read harms nobody but itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from penstock.compiler.compile import Compiler
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.pb.envoy.config.route.v3 import scoped_route_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource
from support import objects

BAD, GOOD = "alpha", "beta"
NODE = "n1"


def _world(app: str, number: int) -> list[Object | Broken]:
    allow = {
        "fromEndpoints": [{"matchLabels": {"app": "client"}}],
        "toPorts": [
            {
                "ports": [{"port": "8080", "protocol": "TCP"}],
                "rules": {"http": [{"method": "GET"}]},
            }
        ],
    }
    spec = {"endpointSelector": {"matchLabels": {"app": app}}, "ingress": [allow]}
    port = 8000 + number
    listener = {"name": "http", "protocol": "HTTP", "port": port}
    return [
        objects.gateway(app, [listener]),
        objects.service(app, f"10.96.0.{number}"),
        objects.endpoint_slice(app, [f"10.244.0.{number}"]),
        objects.pod(f"{app}-0", f"10.244.0.{number}", {"app": app}),
        objects.http_route(
            f"{app}-gateway", parent={"name": app}, backends=[(app, 1)], hostnames=[f"{app}.test"]
        ),
        objects.http_route(f"{app}-mesh", parent=objects.on_service(app), backends=[(app, 1)]),
        objects.policy(app, spec),
    ]


CLIENT = objects.pod("client-0", "10.244.0.9", {"app": "client"})
BASE = [objects.gateway_class(), CLIENT, *_world(BAD, 1), *_world(GOOD, 2)]
OF_BAD = [one for one in BASE if one.ref.name.startswith(BAD)]


def _broken(thing: Object | Broken) -> Broken:
    """Return *thing* with a field that does not exist: in the first rule if it is a policy."""
    assert isinstance(thing, Object)
    raw = _written(msgspec.json.decode(msgspec.json.encode(thing)))
    raw |= {"apiVersion": thing.api_versions[0], "kind": thing.kind}
    place = raw.setdefault("spec", {})
    for inner in place.get("ingress", ()):
        place = inner
    place["noSuchField"] = True
    found = objects.made(raw)
    assert isinstance(found, Broken)
    return found


def _written(value: Any) -> Any:
    """Leave out what a person would not write."""
    if isinstance(value, dict):
        kept = {name: _written(one) for name, one in value.items()}
        return {name: one for name, one in kept.items() if one not in (None, [], {})}
    return [_written(one) for one in value] if isinstance(value, list) else value


def _compiled() -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added(BASE))
    return compiler


def _held(compiler: Compiler) -> dict[str, Resource]:
    return {str(one.key): one for one in compiler.resources(NODE)}


def _of_kind(kind: str) -> Object | Broken:
    return next(one for one in OF_BAD if one.ref.kind == kind)


def _break(compiler: Compiler, thing: Object | Broken) -> None:
    compiler.apply([Event(EventType.MODIFIED, _broken(thing))])
    assert compiler.failures == {}


@pytest.mark.parametrize("thing", OF_BAD, ids=lambda one: str(one.ref))
def test_everything_else_stays_byte_for_byte(thing: Object | Broken) -> None:
    compiler = _compiled()
    before = _held(compiler)
    others = {
        name: one.framed
        for name, one in before.items()
        if not any(origin.object.name.startswith(BAD) for origin in one.origins)
    }
    assert any(GOOD in name for name in others)
    _break(compiler, thing)
    after = _held(compiler)
    assert {name: after[name].framed for name in others} == others


@pytest.mark.parametrize("thing", OF_BAD, ids=lambda one: str(one.ref))
def test_mending_brings_everything_back(thing: Object | Broken) -> None:
    compiler = _compiled()
    before = {name: one.framed for name, one in _held(compiler).items()}
    _break(compiler, thing)
    assert {name: one.framed for name, one in _held(compiler).items()} != before
    compiler.apply([Event(EventType.MODIFIED, thing)])
    assert {name: one.framed for name, one in _held(compiler).items()} == before


def _scope(compiler: Compiler, name: str) -> scoped_route_pb2.ScopedRouteConfiguration:
    body = _held(compiler)[f"ScopedRouteConfiguration {name}"].body
    return scoped_route_pb2.ScopedRouteConfiguration.FromString(body)


@pytest.mark.parametrize(
    ("route", "scope"),
    [("alpha-gateway", "gw|shop/alpha/8001|alpha.test"), ("alpha-mesh", "eg|10.96.0.1:80")],
)
def test_a_broken_route_answers_500_where_it_was_asked(route: str, scope: str) -> None:
    compiler = _compiled()
    _break(compiler, next(one for one in OF_BAD if one.ref.name == route))
    (host,) = _scope(compiler, scope).route_configuration.virtual_hosts
    first = host.routes[0]
    assert (first.match.prefix, first.direct_response.status) == ("/", 500)


def test_a_broken_service_is_a_backend_that_answers_500() -> None:
    compiler = _compiled()
    _break(compiler, _of_kind("Service"))
    scope = _scope(compiler, "gw|shop/alpha/8001|alpha.test").route_configuration
    assert scope.virtual_hosts[0].routes[0].route.cluster == "penstock.invalid"


def test_a_broken_policy_closes_what_it_selects() -> None:
    compiler = _compiled()
    identity = next(
        node_pb2.Workload.FromString(one.body).identity
        for one in compiler.resources(NODE)
        if one.key.type_url == types.WORKLOAD and BAD in one.name
    )
    _break(compiler, _of_kind("CiliumNetworkPolicy"))
    policy = node_pb2.Policy.FromString(_held(compiler)[f"Policy {identity}"].body)
    assert policy.default_ingress == node_pb2.VERDICT_DENY
    assert list(policy.entries) == []


def test_a_broken_endpoint_slice_takes_its_endpoints_away() -> None:
    compiler = _compiled()
    _break(compiler, _of_kind("EndpointSlice"))
    service = node_pb2.Service.FromString(_held(compiler)["Service shop/alpha/80/tcp"].body)
    assert list(service.backends) == []


def test_a_broken_gateway_takes_its_listeners_and_scopes_away() -> None:
    compiler = _compiled()
    _break(compiler, _of_kind("Gateway"))
    assert [name for name in _held(compiler) if "shop/alpha/8001" in name] == []


def test_a_broken_gateway_class_is_not_ours() -> None:
    compiler = _compiled()
    _break(compiler, objects.gateway_class())
    assert [name for name in _held(compiler) if name.startswith("Listener gateway/")] == []
    assert "ScopedRouteConfiguration eg|10.96.0.1:80" in _held(compiler)


def test_an_expression_that_cannot_be_read_takes_no_requests_of_other_routes() -> None:
    def at(path: dict[str, str], name: str, since: str) -> Object | Broken:
        return objects.gateway_api(
            "HTTPRoute",
            name,
            {
                "parentRefs": [{"name": "gw"}],
                "hostnames": ["api.test"],
                "rules": [
                    {"matches": [{"path": path}], "backendRefs": [{"name": BAD, "port": 80}]}
                ],
            },
            creationTimestamp=since,
        )

    compiler = Compiler()
    everything = {"type": "PathPrefix", "value": "/"}
    reports = {"type": "RegularExpression", "value": "/reports/(daily|weekly"}
    compiler.apply(
        objects.added(
            [
                *BASE,
                objects.gateway("gw", [{"name": "http", "protocol": "HTTP", "port": 80}]),
                at(reports, "older", "2026-01-01T00:00:00Z"),
                at(everything, "younger", "2026-01-02T00:00:00Z"),
            ]
        )
    )
    (host,) = _scope(compiler, "gw|shop/gw/80|api.test").route_configuration.virtual_hosts
    bad, good = host.routes[:2]
    assert (bad.match.safe_regex.regex, bad.direct_response.status) == ("/reports/.*", 500)
    assert (good.match.prefix, good.HasField("route")) == ("/", True)
