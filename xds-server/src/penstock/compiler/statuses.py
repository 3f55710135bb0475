"""Statuses: what each object of the user came to, from the same queries as the resources.

A status is computed when somebody asks; nothing of it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from penstock.compiler.acked import Acked, not_served
from penstock.compiler.attached import attached_routes, settled_attachment
from penstock.compiler.backend_statuses import OF_BACKENDS, status_of_backend
from penstock.compiler.broken import broken_conditions
from penstock.compiler.certificates import (
    client_certificate,
    tls_of_listeners,
)
from penstock.compiler.database import Database
from penstock.compiler.gateway_addresses import is_ip, reached_at
from penstock.compiler.gateway_classes import (
    crd_versions,
    drops_routability,
    fault_of_class,
    is_our_gateway,
    knows_routability,
    lacking_kinds,
    lists_bare_features,
    ours,
)
from penstock.compiler.gateway_ports import port_of
from penstock.compiler.generated_services import why_no_service
from penstock.compiler.ingresses import status_of_ingress
from penstock.compiler.listener_filters import asked_of_gateway
from penstock.compiler.load_balancers import balanced_status
from penstock.compiler.merged_listeners import (
    checks_of_clients,
    gateway_of,
    is_let_in,
    parent_of,
    placed_listeners,
    placed_of,
    sets_of,
)
from penstock.compiler.policies import parsed
from penstock.compiler.routing import (
    ParentOf,
    RouteFor,
    head,
    service_attachment,
    translated,
)
from penstock.compiler.settings import Reach
from penstock.compiler.shadows import shadows
from penstock.compiler.unserved import why_unserved
from penstock.compiler.written import written
from penstock.core.kinds import Service
from penstock.core.objects import Broken, Object
from penstock.envoy.listener import gateway_name
from penstock.gatewayapi.attach import ParentKind, kind_of, target_of
from penstock.gatewayapi.conditions import fails
from penstock.gatewayapi.features import mesh_features, supported_features
from penstock.gatewayapi.listener_set import ListenerHolder, ListenerSet
from penstock.gatewayapi.listener_set_status import (
    is_valid,
    listener_set_status,
    refused_status,
)
from penstock.gatewayapi.listeners import ListenerStatus, Surroundings
from penstock.gatewayapi.merged import PlacedListener
from penstock.gatewayapi.mesh import XMesh, is_our_mesh, mesh_conditions
from penstock.gatewayapi.requested_addresses import AssignedAddress
from penstock.gatewayapi.resources import (
    CONTROLLER_NAME,
    Gateway,
    GatewayClass,
    GatewaySpec,
    Listener,
)
from penstock.gatewayapi.routes import ROUTE_KINDS
from penstock.gatewayapi.shadows import condition as shadowed
from penstock.gatewayapi.status import (
    RouteParentStatus,
    gateway_class_conditions,
    gateway_status,
    is_ours,
    parent_ref,
    route_parent_status,
)
from penstock.incremental.query import query
from penstock.ingress.resources import Ingress
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.meta.problems import Problem
from penstock.policy.resources import CiliumNetworkPolicy
from penstock.policy.status import VALID
from penstock.policy.status import conditions as policy_conditions

SERVICE_GENERATED = "penstock.dev/ServiceGenerated"

_BESIDE_ROUTES = OF_BACKENDS | {Service.kind, Ingress.kind}

T = TypeVar("T")
Acknowledged = Callable[[ObjectRef], Acked | None]
"""What the data plane says of the resources of an object; None if it has none."""
Late = Mapping[str, str]
_NONE: Late = {}


def status_of(
    db: Database, thing: Object | Broken, acknowledged: Acknowledged, late: Late = _NONE
) -> dict[str, Any] | None:
    """Return the status of *thing* as Kubernetes would show it; None if it has none of ours.

    Args:
        db: all objects.
        thing: one of them.
        acknowledged: what nodes say of objects.
        late: names of listeners that nodes do not have yet whatever they say of the object, and
            what is told of each.
    """
    match thing.ref.kind:
        case kind if kind in ROUTE_KINDS:
            return _route(db, thing, acknowledged)
        case "Gateway" | "ListenerSet" if isinstance(thing, Gateway | ListenerSet | Broken):
            return _of_listeners(db, thing, acknowledged, late)
        case "GatewayClass" | "XMesh" if isinstance(thing, GatewayClass | XMesh):
            return _of_class(db, thing)
        case kind if kind in _BESIDE_ROUTES:
            return _beside_routes(db, thing)
        case "CiliumNetworkPolicy" if isinstance(thing, CiliumNetworkPolicy | Broken):
            return _policy(db, thing, acknowledged)
        case _:
            return None


def _of_class(db: Database, thing: GatewayClass | XMesh) -> dict[str, Any] | None:
    missing, bare = lacking_kinds.once(db, None), False
    if isinstance(thing, XMesh):
        is_served, conditions = is_our_mesh(thing), mesh_conditions(thing)
        features = mesh_features(missing)
    else:
        is_served = is_ours(thing)
        conditions = gateway_class_conditions(thing, crd_versions.once(db, None), missing)
        features = supported_features(
            routability=knows_routability.once(db, None),
            of_cluster=db.settings.reach is Reach.CLUSTER,
            missing=missing,
        )
        bare = lists_bare_features.once(db, None)
    if not is_served:
        return None
    return {
        "conditions": written(conditions),
        "supportedFeatures": [name if bare else {"name": name} for name in features],
    }


def status_of_outdated(
    thing: Object | Broken, problems: Sequence[Problem], generation: int
) -> dict[str, Any] | None:
    """Return the status of an object whose newest version is not understood.

    Args:
        thing: the earlier version, which is in force.
        problems: of the newest version.
        generation: of the newest version.

    None for kinds whose status says nothing about it.
    """
    if thing.ref.kind != CiliumNetworkPolicy.kind:
        return None
    until = "an earlier version stays in force until controllers start anew, which then close"
    text = "\n".join([f"{until} what it selects:", *map(str, problems)])
    valid = Condition(
        type=VALID, status=False, reason="Invalid", message=text, observed_generation=generation
    )
    return {"conditions": written((valid,))}


def _with_acknowledged(
    conditions: tuple[Condition, ...], thing: Object | Broken, more: Acked | None
) -> list[dict[str, Any]]:
    if more is None:
        return written(conditions)
    generation = thing.metadata.generation
    told = msgspec.structs.replace(more.condition, observed_generation=generation)
    return written((*conditions, told))


@query
def parent_statuses(db: Database, name: ObjectRef) -> tuple[RouteParentStatus, ...]:
    """Return the status of a route at each parent of ours."""
    route = head(db, name)
    found: list[RouteParentStatus] = []
    for index, parent in enumerate(route.parents if route is not None else ()):
        kind = kind_of(parent)
        if kind is ParentKind.FOREIGN:
            continue
        at, target = ParentOf(name, index), target_of(parent, name.key)
        accepted = _accepted(db, at, kind, target)
        rules = translated(db, RouteFor(name, mesh=kind is ParentKind.SERVICE))
        if accepted is not None and rules is not None:
            behind = shadows(db, at)
            overlapped = shadowed(behind, route.generation) if behind and route else None
            unserved = why_unserved(db, at, kind, target)
            found.append(route_parent_status(parent, accepted, rules.verdict, overlapped, unserved))
    return tuple(found)


def _accepted(
    db: Database, at: ParentOf, kind: ParentKind, target: NamespacedName
) -> Condition | None:
    """Return what attachment says; None if the parent is not ours."""
    if kind is ParentKind.SERVICE:
        on_service = service_attachment(db, at)
        return None if on_service is None else on_service.accepted
    of_set = kind is ParentKind.LISTENER_SET
    if not (is_our_gateway(db, target) if not of_set else gateway_of(db, target)):
        return None
    on_gateway = settled_attachment(db, at)
    return None if on_gateway is None else on_gateway.accepted


class ListenerSetBasis(msgspec.Struct, frozen=True, kw_only=True):
    """What other objects bring into the status of a ListenerSet; nothing of other listeners."""

    gateway: NamespacedName
    spec: GatewaySpec
    own: Sequence[PlacedListener] = ()
    around: Surroundings | None = None
    """None if the Gateway does not let it in."""


@query
def listener_set_basis(db: Database, name: NamespacedName) -> ListenerSetBasis | None:
    """Return what the status of a ListenerSet is made of; None if its Gateway is none of ours."""
    gateway = parent_of(db, name)
    if gateway is None:
        return None
    key = gateway.key
    if not is_let_in(db, name):
        return ListenerSetBasis(gateway=key, spec=gateway.spec)
    own = placed_of(db, key, ObjectRef(ListenerSet.kind, name.namespace, name.name))
    at = reached_at(db, key)

    def here(every: Mapping[str, T]) -> dict[str, T]:
        return {one.place: every[one.place] for one in own if one.place in every}

    around = Surroundings(
        attached_routes=attached_routes(db, (ParentKind.LISTENER_SET, name)),
        tls=here(tls_of_listeners(db, key)),
        pending=here(at.closed),
        taken=here(at.taken),
        outer=fault_of_class(db, gateway.spec.gateway_class_name),
        asked=here(asked_of_gateway(db, key)),
    )
    return ListenerSetBasis(gateway=key, spec=gateway.spec, own=own, around=around)


@query
def accepted_sets(db: Database, name: NamespacedName) -> int:
    """Return how many ListenerSets of a Gateway have a listener that is served."""
    around = Surroundings(
        tls=tls_of_listeners(db, name),
        taken=reached_at(db, name).taken,
        asked=asked_of_gateway(db, name),
    )
    valid = {one.holder for one in placed_listeners(db, name) if is_valid(one, around)}
    return sum(one.ref in valid for one in sets_of(db, name))


def _route(
    db: Database, thing: Object | Broken, acknowledged: Acknowledged
) -> dict[str, Any] | None:
    said = acknowledged(thing.ref)
    parents = [
        {
            "parentRef": parent_ref(one.parent),
            "controllerName": CONTROLLER_NAME,
            "conditions": _with_acknowledged(one.conditions, thing, _said_at(one, said)),
        }
        for one in parent_statuses.once(db, thing.ref)
    ]
    return {"parents": parents} if parents else None


def _said_at(parent: RouteParentStatus, said: Acked | None) -> Acked | None:
    """Return what to tell of a route at one parent: what nodes have is not always served."""
    if said is None or said.condition.status is False or not parent.unserved:
        return said
    return Acked(not_served(parent.unserved))


def told_by(db: Database, ref: ObjectRef) -> ObjectRef:
    """Return of which object the status of *ref* says what the data plane says.

    It is the object itself, but of a ListenerSet the Gateway, as `status_of` asks for it.
    """
    gateway = parent_of.once(db, ref.key) if ref.kind == ListenerSet.kind else None
    return ref if gateway is None else gateway.ref


def told_with(db: Database, ref: ObjectRef) -> tuple[ObjectRef, ...]:
    """Return the other objects whose statuses say what the data plane says of *ref*."""
    added = sets_of.once(db, ref.key) if ref.kind == Gateway.kind else ()
    return tuple(one.ref for one in added)


def _of_listeners(
    db: Database, thing: ListenerHolder | Broken, acknowledged: Acknowledged, late: Late
) -> dict[str, Any] | None:
    if isinstance(thing, Broken):
        invalid = broken_conditions(db, thing)
        return None if invalid is None else {"conditions": written(invalid)}
    if isinstance(thing, Gateway):
        return _gateway(db, thing, acknowledged, late)
    return _listener_set(db, thing, acknowledged, late)


def _gateway(
    db: Database, thing: Gateway, acknowledged: Acknowledged, late: Late
) -> dict[str, Any] | None:
    known = ours.once(db, thing.key)
    if known is None:
        return None
    thing = msgspec.structs.replace(thing, spec=known.spec)
    at, said = reached_at.once(db, thing.key), acknowledged(thing.ref)
    status = gateway_status(
        thing,
        Surroundings(
            tls=tls_of_listeners.once(db, thing.key),
            attached_routes=attached_routes.once(db, (ParentKind.GATEWAY, thing.key)),
            pending={
                **late,
                **_pending(at.closed, [one.name for one in thing.spec.listeners], said),
            },
            refused=_refused({one.name: one for one in thing.spec.listeners}, thing.key, said),
            taken=at.taken,
            outer=fault_of_class.once(db, thing.spec.gateway_class_name),
            asked=asked_of_gateway.once(db, thing.key),
        ),
        addresses=at.addresses,
        of_cluster=at.of_cluster,
        address_fault=at.fault,
        clients=checks_of_clients.once(db, thing.key),
        shown=client_certificate.once(db, thing.key),
        tells_assigned=knows_routability.once(db, None),
    )
    return {
        "addresses": [_address(db, one) for one in status.addresses],
        "conditions": _with_acknowledged((*status.conditions, *_unnamed(db, thing)), thing, said),
        "listeners": _listeners(status.listeners),
        "attachedListenerSets": accepted_sets.once(db, thing.key),
    }


def _address(db: Database, one: AssignedAddress) -> dict[str, Any]:
    """Return an entry of Gateway.status.addresses, with its routability unless that is dropped."""
    entry = {"type": "IPAddress" if is_ip(one.value) else "Hostname", "value": one.value}
    if drops_routability.once(db, None):
        return entry
    shown = one.routability or knows_routability.once(db, None)
    return entry | ({"routability": one.routability} if shown else {})


def _unnamed(db: Database, gateway: Gateway) -> Iterator[Condition]:
    """Yield a condition that is only there when it is false: whether a Gateway has its Service."""
    why = why_no_service.once(db, gateway.key)
    if why is not None:
        generation = gateway.metadata.generation
        yield fails(SERVICE_GENERATED, why.reason, generation, why.message)


def _pending(
    closed: Mapping[str, str], places: Iterable[str], acked: Acked | None
) -> Mapping[str, str]:
    """Return why listeners are not served yet, by their places.

    Args:
        closed: why some are not.
        places: all of them.
        acked: what the data plane says of their Gateway.
    """
    if acked is None or acked.others.status is True:
        return closed
    return {**dict.fromkeys(places, acked.others.message), **closed}


def _refused(
    placed: Mapping[str, Listener], gateway: NamespacedName, acked: Acked | None
) -> Mapping[str, str]:
    """Return what an Envoy says that refuses the ports of listeners, by their places."""
    if acked is None or not acked.ports:
        return {}
    names = {place: gateway_name(str(port_of(gateway, one))) for place, one in placed.items()}
    return {place: acked.ports[name] for place, name in names.items() if name in acked.ports}


def _listeners(found: Iterable[ListenerStatus]) -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "supportedKinds": [
                {"group": kind.group, "kind": kind.kind} for kind in one.supported_kinds
            ],
            "attachedRoutes": one.attached_routes,
            "conditions": written(one.conditions),
        }
        for one in found
    ]


def _listener_set(
    db: Database, thing: ListenerSet, acknowledged: Acknowledged, late: Late
) -> dict[str, Any] | None:
    basis = listener_set_basis.once(db, thing.key)
    if basis is None:
        return None
    if basis.around is None:
        status = refused_status(thing)
    else:
        said = acknowledged(ObjectRef(Gateway.kind, basis.gateway.namespace, basis.gateway.name))
        places = [one.place for one in basis.own]
        new = {one.place: late[one.own.name] for one in basis.own if one.own.name in late}
        pending = _pending(basis.around.pending, places, said)
        refused = _refused({one.place: one.own for one in basis.own}, basis.gateway, said)
        around = msgspec.structs.replace(basis.around, pending={**new, **pending}, refused=refused)
        status = listener_set_status(thing, basis.spec, basis.own, around)
    return {
        "conditions": written(status.conditions),
        "listeners": _listeners(status.listeners),
    }


def _beside_routes(db: Database, thing: Object | Broken) -> dict[str, Any] | None:
    if isinstance(thing, Service):
        return balanced_status.once(db, thing.key)
    if isinstance(thing, Ingress):
        return status_of_ingress(db, thing)
    return status_of_backend(db, thing)


def _policy(
    db: Database, thing: CiliumNetworkPolicy | Broken, acknowledged: Acknowledged
) -> dict[str, Any]:
    found = parsed.once(db, thing.key)
    problems = found.problems if found is not None else ()
    valid = policy_conditions(thing, problems)
    return {"conditions": _with_acknowledged(valid, thing, acknowledged(thing.ref))}
