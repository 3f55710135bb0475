"""Whatever an Ingress says, it compiles, and closed rules have no backend."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.compile import Compiler
from penstock.compiler.problems import problems_of
from penstock.core.objects import Broken
from penstock.ingress.resources import Ingress
from penstock.pb.envoy.config.route.v3 import scoped_route_pb2
from penstock.xds import types
from support.ingress_objects import NGINX, ingress, ingress_class, path, rule
from support.ingress_strategies import HOSTS, KINDS, NAMES, TEXT
from support.objects import added, endpoint_slice, service


@settings(max_examples=150, deadline=None)
@given(HOSTS, TEXT, KINDS, st.dictionaries(NAMES, TEXT, max_size=5))
def test_every_ingress_compiles(host: str, at: str, kind: str, given_: dict[str, str]) -> None:
    annotations = {NGINX + name: value for name, value in given_.items()}
    thing = ingress("x", rule(host, path(at, kind)), annotations=annotations)
    beside = [ingress_class(), service("one", "10.96.1.1"), endpoint_slice("one", ["10.244.0.1"])]
    compiler = Compiler()
    compiler.apply(added([*beside, ingress("main", rule(host, path("/"))), thing]))
    assert compiler.failures == {}
    found = problems_of(compiler.db, thing)
    if isinstance(thing, Broken) or "auth-url" not in given_:
        return
    assert isinstance(thing, Ingress)
    assert any("auth-url" in one.path for one in found)
    for one in compiler.resources("n1"):
        if one.type_url == types.SCOPE:
            scope = scoped_route_pb2.ScopedRouteConfiguration.FromString(one.body)
            for virtual in scope.route_configuration.virtual_hosts:
                closed = [route for route in virtual.routes if "ingress~x~" in route.name]
                assert all(not route.HasField("route") for route in closed)
