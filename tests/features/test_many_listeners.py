"""Listeners, Ingresses and grants by the thousand: a change does not look at pairs of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

import pytest

from penstock.compiler import ingress_problems
from penstock.compiler.compile import Compiler
from penstock.compiler.published import NodeChange
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from support import objects
from support.ingress_objects import backend, ingress, ingress_class, path, rule
from support.pki import issue, tls_secret_raw

TraceFunction = Callable[[FrameType, str, object], Any]
API = "gateway.networking.k8s.io/v1"
CERTIFICATE = issue("*.test")
FEW, MANY = 40, 160


def _changed(compiler: Compiler, *things: Object | Broken) -> tuple[int, tuple[NodeChange, ...]]:
    before = compiler.db.engine.runs
    changes = compiler.apply([Event(EventType.MODIFIED, thing) for thing in things])
    return compiler.db.engine.runs - before, changes


def _steps(compiler: Compiler, *things: Object | Broken, module: ModuleType | None = None) -> int:
    """Return how many lines run to take things in: the time it takes, but for noise.

    A loop counts in every round, on one line, too. Of a *module* only its own lines are counted.
    """
    where = None if module is None else module.__file__
    events = [Event(EventType.MODIFIED, thing) for thing in things]
    count = 0

    def note(frame: FrameType, what: str, _arg: object) -> TraceFunction:
        nonlocal count
        count += what == "line" and where in (None, frame.f_code.co_filename)
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        compiler.apply(events)
    finally:
        sys.settrace(before)
    assert compiler.failures == {}
    return count


def _followed(*things: Object | Broken) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added(things))
    assert compiler.failures == {}
    for one in things:
        compiler.statuses.follow(one.ref)
    compiler.statuses.take()
    return compiler


def _secret(number: int) -> Object | Broken:
    return objects.made(tls_secret_raw(f"cert-{number}", "shop", [CERTIFICATE]))


def _secure_ingress(number: int, to: str = "/") -> Object | Broken:
    host = f"app-{number}.test"
    tls = [{"hosts": [host], "secretName": f"cert-{number}"}]
    return ingress(f"app-{number}", rule(host, path(to, to=backend("app"))), tls=tls)


def _with_ingresses(count: int) -> Compiler:
    common = [ingress_class(), objects.service("app", "10.96.0.1")]
    secrets = map(_secret, range(count + 1))
    return _followed(*common, *secrets, *map(_secure_ingress, range(count)))


def _listener(name: str, hostname: str, secret: str) -> dict[str, Any]:
    tls = {"certificateRefs": [{"name": secret}]}
    return {"name": name, "protocol": "HTTPS", "port": 443, "hostname": hostname, "tls": tls}


def _listener_set(number: int, word: str = "test") -> Object | Broken:
    names = (f"a-{number}", f"b-{number}")
    listeners = [_listener(one, f"{one}.{word}", "cert-0") for one in names]
    spec = {"parentRef": {"name": "edge"}, "listeners": listeners}
    meta = {"name": f"set-{number}", "namespace": "shop"}
    return objects.made({"apiVersion": API, "kind": "ListenerSet", "metadata": meta, "spec": spec})


def _open_gateway(number: int = 0, **meta: Any) -> Object | Broken:
    """Return a Gateway that lets ListenerSets in; its status has *number* in it."""
    return objects.made(
        {
            "apiVersion": API,
            "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "shop", **meta},
            "spec": {
                "gatewayClassName": "penstock",
                "listeners": [_listener("any", "*.test", "cert-0")],
                "allowedListeners": {"namespaces": {"from": "Same"}},
            },
            "status": {"listeners": [{"name": "any", "attachedRoutes": number}]},
        }
    )


def _route_of_set(number: int) -> Object | Broken:
    parent = {"kind": "ListenerSet", "name": f"set-{number}"}
    return objects.http_route(
        f"app-{number}", parent=parent, backends=[("app", 1)], hostnames=[f"a-{number}.test"]
    )


def _with_listener_sets(count: int) -> Compiler:
    common = [objects.gateway_class(), _open_gateway(), objects.service("app", "10.96.0.1")]
    sets, routes = map(_listener_set, range(count)), map(_route_of_set, range(count))
    return _followed(*common, _secret(0), *sets, *routes)


def _one_ingress(count: int) -> list[Object | Broken]:
    return [_secure_ingress(count)]


def _one_set(count: int) -> list[Object | Broken]:
    return [_listener_set(count), _route_of_set(count)]


def _other_hostnames(_: int) -> list[Object | Broken]:
    return [_listener_set(3, "other")]


@pytest.mark.parametrize(
    ("world", "change"),
    [
        (_with_ingresses, _one_ingress),
        (_with_listener_sets, _one_set),
        (_with_listener_sets, _other_hostnames),
    ],
    ids=["ingress", "listener-set", "hostnames"],
)
def test_a_listener_more_looks_at_each_of_the_others_once(
    world: Callable[[int], Compiler], change: Callable[[int], list[Object | Broken]]
) -> None:
    few, many = (_steps(world(count), *change(count)) for count in (FEW, MANY))
    assert many / few < 1.5 * MANY / FEW


def test_a_path_of_an_ingress_looks_at_no_other_ingress() -> None:
    few, many = (_changed(_with_ingresses(n), _secure_ingress(3, "/new"))[0] for n in (FEW, MANY))
    assert few == many


def test_what_is_wrong_with_an_ingress_is_told_without_a_look_at_the_listeners_of_others() -> None:
    few, many = (
        _steps(_with_ingresses(n), _secure_ingress(n), module=ingress_problems) for n in (FEW, MANY)
    )
    assert many == few


def test_a_new_status_or_label_of_a_gateway_touches_no_route_of_it() -> None:
    for given in (
        _open_gateway(7, resourceVersion="8"),
        _open_gateway(labels={"any": "thing"}),
    ):
        few, many = (_changed(_with_listener_sets(n), given) for n in (FEW, MANY))
        assert few[0] == many[0] == 0
        assert few[1] == many[1] == ()


def test_the_status_of_a_listener_set_is_looked_at_for_its_own_listeners_only() -> None:
    compiler = _with_listener_sets(FEW)
    compiler.apply(
        [Event(EventType.ADDED, _route_of_set(FEW)), Event(EventType.ADDED, _listener_set(FEW))]
    )
    assert {one.kind for one in compiler.statuses.take()} == {"Gateway"}


def test_the_first_route_of_a_listener_set_looks_at_no_other_set() -> None:
    def runs(count: int) -> int:
        compiler = _with_listener_sets(count)
        _changed(compiler, _listener_set(count))
        return _changed(compiler, _route_of_set(count))[0]

    assert runs(FEW) == runs(MANY)


def test_many_grants_are_not_looked_at_for_one_reference() -> None:
    def world(count: int) -> Compiler:
        grants = [_grant(number) for number in range(count)]
        common = [objects.gateway_class(), objects.gateway("edge"), _far_route("before")]
        return _followed(*common, *grants)

    far = objects.service("far", "10.96.0.9", namespace="other")
    few, many = (_steps(world(count), far, _far_route(), _grant(3, "far")) for count in (FEW, MANY))
    assert many < 1.2 * few


def _grant(number: int, name: str = "x") -> Object | Broken:
    group = API.partition("/")[0]
    spec = {
        "from": [{"group": group, "kind": "HTTPRoute", "namespace": "shop"}],
        "to": [{"group": "", "kind": "Service", "name": name}],
    }
    meta = {"name": f"grant-{number}", "namespace": "other"}
    return objects.made(
        {"apiVersion": f"{group}/v1beta1", "kind": "ReferenceGrant", "metadata": meta, "spec": spec}
    )


def _far_route(name: str = "far") -> Object | Broken:
    ref = {"name": "far", "namespace": "other", "port": 80}
    spec = {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [ref]}]}
    meta = {"name": name, "namespace": "shop"}
    return objects.made({"apiVersion": API, "kind": "HTTPRoute", "metadata": meta, "spec": spec})


def _equal_route(number: int) -> Object | Broken:
    return objects.http_route(f"equal-{number:04d}", parent={"name": "edge"}, backends=[("app", 1)])


def test_a_route_that_is_equal_to_many_is_not_compared_with_each_of_them_by_each() -> None:
    def world(count: int) -> Compiler:
        common = [objects.gateway_class(), objects.gateway("edge")]
        return _followed(*common, *map(_equal_route, range(count)))

    few, many = (_steps(world(count), _equal_route(count)) for count in (FEW, MANY))
    assert many / few < 1.5 * MANY / FEW
