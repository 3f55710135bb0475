"""What the kernel is told of proxied Services: whom policy could refuse at connect."""

from __future__ import annotations

from penstock.bpf import abi
from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from penstock.meta.limits import BACKENDS_JUDGED_AT_CONNECT
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from support import objects


def _told(*routes: Object | Broken, more: int = 0) -> tuple[bool, list[str]]:
    """Return proxy and backend addresses of the Service "front"."""
    compiler = Compiler()
    wide = [f"10.244.9.{n}" for n in range(1, more + 1)]
    things = [
        objects.service("front", "10.96.0.1"),
        objects.endpoint_slice("front", ["10.244.0.1"]),
        objects.service("other", "10.96.0.2"),
        objects.endpoint_slice("other", ["10.244.0.2", *wide]),
        *routes,
    ]
    compiler.apply(objects.added(things))
    (found,) = [
        node_pb2.Service.FromString(r.body)
        for r in compiler.resources("n1")
        if r.type_url == types.SERVICE and r.name == "shop/front/80/tcp"
    ]
    return found.proxy, [backend.address for backend in found.backends]


def _route(name: str, *backends: tuple[str, int], namespace: str = "shop") -> Object | Broken:
    parent = objects.on_service("front", "shop")
    return objects.http_route(name, parent=parent, backends=backends, namespace=namespace)


def test_without_routes_they_are_the_services_own() -> None:
    assert _told() == (False, ["10.244.0.1"])


def test_with_routes_they_are_where_the_routes_lead() -> None:
    assert _told(_route("r", ("other", 1))) == (True, ["10.244.0.2"])


def test_a_weight_of_zero_may_change_at_any_moment() -> None:
    assert _told(_route("r", ("front", 1), ("other", 0))) == (True, ["10.244.0.1", "10.244.0.2"])


def test_the_routes_of_every_namespace_count() -> None:
    own = objects.service("own", "10.96.0.3", namespace="else")
    slice_ = objects.endpoint_slice("own", ["10.244.0.3"], namespace="else")
    told = _told(own, slice_, _route("r", ("own", 1), namespace="else"))
    assert told == (True, ["10.244.0.1", "10.244.0.3"])


def test_where_a_request_may_be_redirected_nobody_is_refused_before() -> None:
    redirect = {"type": "RequestRedirect", "requestRedirect": {"hostname": "else.test"}}
    route = objects.gateway_api(
        "HTTPRoute",
        "r",
        {
            "parentRefs": [objects.on_service("front")],
            "rules": [{"filters": [redirect]}],
        },
    )
    assert _told(route) == (True, [])


def test_shares_that_only_fail_count_for_nothing() -> None:
    assert _told(_route("r", ("other", 1), ("nobody", 1))) == (True, ["10.244.0.2"])
    assert _told(_route("r")) == (True, [])


def test_more_endpoints_than_the_kernel_looks_at_are_not_told() -> None:
    assert _told(_route("r", ("other", 1)), more=BACKENDS_JUDGED_AT_CONNECT) == (True, [])
    assert abi.MAX_BACKENDS_JUDGED == BACKENDS_JUDGED_AT_CONNECT
