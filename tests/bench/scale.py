"""A cluster of many Services and routes, and small changes to it that a client can see.

The first Services, which are asked and changed, have their endpoints on loopback addresses, where
the bench has backends; nothing is sent to the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.xds import types
from penstock.xds.resource import ResourceName
from support import mesh, objects

PROBED = 6
"""Services with real endpoints; the first is under a policy and not asked."""
WEIGHED, ROUTED, MOVED, STEADY = 2, 3, 4, 5
"""Whose weights, route and endpoints change; and one that does not change at all."""
CANARIES = 99
"""Routes with weights in a cluster as it starts: a share that is the same at every size."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One object in two versions, by turns, and how a client tells which one it is served."""

    name: str
    scope: str
    """Scope to ask in."""
    versions: tuple[Object | Broken, Object | Broken]
    markers: tuple[str, str]
    """Part of the response by version; the cluster starts with the first."""
    resource: ResourceName
    """What the change is carried by, and a client acknowledges."""

    def event(self, turn: int) -> Event:
        """Return the event for version *turn* modulo 2."""
        return Event(EventType.MODIFIED, self.versions[turn % 2])


def backend_address(index: int) -> str:
    """Return where the endpoint of a probed Service listens."""
    return f"127.0.96.{index + 1}"


def backend_body(index: int) -> str:
    return f"backend-{index}."


def scope_of(index: int) -> str:
    return f"eg|{mesh.address(96, index)}:80"


def cluster(count: int, backend_port: int) -> Iterator[Object | Broken]:
    """Yield *count* Services with a pod and a route each, and one policy."""
    for index in range(count):
        if index < PROBED:
            yield from _probed(index, backend_port)
        else:
            yield from mesh.service_objects(index)
        yield mesh.route(index) if WEIGHED < index <= CANARIES else plain_route(index)
    for change in changes(backend_port):
        yield change.versions[0]
    yield mesh.readers()


def more_canaries(first: int, last: int) -> list[Event]:
    """Return events by which the routes from *first* to *last* have weights, too."""
    return [Event(EventType.MODIFIED, mesh.route(i)) for i in range(first, last + 1)]


def fewer_canaries(last: int) -> list[Event]:
    """Return events that undo `more_canaries` up to *last*."""
    return [Event(EventType.MODIFIED, plain_route(i)) for i in range(CANARIES + 1, last + 1)]


def changes(backend_port: int) -> tuple[Change, ...]:
    """Return one change of each sort."""
    return (_weight(), _route(), _endpoint(backend_port))


def plain_route(index: int, version: int = 0) -> Object | Broken:
    """Return a route of a Service to itself, with a response header that says its version."""
    name = mesh.name_of(index)
    header = {"name": "x-version", "value": f"v{version}."}
    rule: dict[str, Any] = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "filters": [
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [header]}}
        ],
        "backendRefs": [{"name": name, "port": 80}],
    }
    return objects.made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": f"route-{index}", "namespace": "shop"},
            "spec": {"parentRefs": [objects.on_service(name)], "rules": [rule]},
        }
    )


def _weight() -> Change:
    """All requests to the Service itself, or all to its neighbour."""
    return Change(
        name="weight",
        scope=scope_of(WEIGHED),
        versions=(mesh.route(WEIGHED, weight=100), mesh.route(WEIGHED, weight=0)),
        markers=(backend_body(WEIGHED), backend_body(WEIGHED - 1)),
        resource=ResourceName(types.RUNTIME, "penstock"),
    )


def inline_weight() -> Change:
    """Return the change of weights where they are in the route."""
    name = ResourceName(types.SCOPE, scope_of(WEIGHED))
    return msgspec.structs.replace(_weight(), name="weight, inline", resource=name)


def _route() -> Change:
    return Change(
        name="route",
        scope=scope_of(ROUTED),
        versions=(plain_route(ROUTED, 1), plain_route(ROUTED, 2)),
        markers=("x-version: v1.", "x-version: v2."),
        resource=ResourceName(types.SCOPE, scope_of(ROUTED)),
    )


def _endpoint(port: int) -> Change:
    name = mesh.name_of(MOVED)
    places = (MOVED, STEADY)
    old, new = (objects.endpoint_slice(name, [backend_address(i)], port=port) for i in places)
    return Change(
        name="endpoint",
        scope=scope_of(MOVED),
        versions=(old, new),
        markers=(backend_body(MOVED), backend_body(STEADY)),
        resource=ResourceName(types.ENDPOINTS, f"mesh|shop/{name}/80"),
    )


def _probed(index: int, port: int) -> Iterator[Object | Broken]:
    name, address = mesh.name_of(index), backend_address(index)
    yield objects.service(name, mesh.address(96, index))
    yield objects.endpoint_slice(name, [address], port=port)
    yield objects.pod(f"{name}-0", address, {"app": f"app-{index % 20}"})
