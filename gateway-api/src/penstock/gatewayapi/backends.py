"""Resolve backendRefs to ports of Services, and to XBackends.

Source: Gateway API v1.7, HTTPBackendRef, ReferenceGrant; GEP-1911 (appProtocol); GEP-1294 (no
grant is needed for backends of a route on a Service).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from penstock.core import kinds
from penstock.gatewayapi.external_backend_kind import X_GROUP, XBackend
from penstock.gatewayapi.external_backends import ONLY_AT_GATEWAYS
from penstock.gatewayapi.faults import Fault
from penstock.gatewayapi.fields import (
    CORE_GROUP,
    BackendObjectReference,
    WeightedBackendReference,
    carrier_of,
)
from penstock.gatewayapi.generated import is_generated
from penstock.gatewayapi.grants import Permits, Referent, Referrer, permitted
from penstock.ir.external import (
    External,
    Place,
    Selected,
    Spoken,
    shows_certificate,
    target_of_xbackend,
)
from penstock.ir.route import (
    Backend,
    HostBackend,
    InvalidBackend,
    ServiceBackend,
    ServicePort,
)
from penstock.ir.session import Session
from penstock.meta.names import NamespacedName, Origin

TLS_PROTOCOLS = frozenset({"https", "tls", "kubernetes.io/wss"})
"""Values of appProtocol that need TLS towards the backend, which is not spoken yet."""


UNSPOKEN = {
    "HTTPRoute": TLS_PROTOCOLS,
    "GRPCRoute": TLS_PROTOCOLS | {"kubernetes.io/ws"},
    "Gateway": TLS_PROTOCOLS,
    "ListenerSet": TLS_PROTOCOLS,
    "XTelemetryPolicy": frozenset[str](),
}
"""Values of appProtocol by which what a kind of object sends cannot be forwarded."""


class References(msgspec.Struct, frozen=True, kw_only=True):
    """How references of one route are looked up."""

    service: Callable[[NamespacedName], kinds.Service | None]
    permits: Permits
    session: Callable[[NamespacedName], Session | None] | None = None
    """The session that a Service has of its own; None if none has."""
    few_retries: Callable[[NamespacedName], bool] | None = None
    """Whether a policy limits how many requests to a Service are repeated; None if none does."""
    external: Callable[[NamespacedName], Place | Fault | None] = lambda _: None
    """Where an XBackend leads; None if there is none."""
    mesh: bool = False
    """True for parents that are Services: no grant is needed."""


class Unresolved(msgspec.Struct, frozen=True):
    """Why a reference leads nowhere."""

    reason: str
    """Reason of the condition ResolvedRefs."""
    message: str
    field: str = ""
    """Of the reference, where it is one that is wrong."""


def resolve(ref: WeightedBackendReference, origin: Origin, references: References) -> Backend:
    """Return the backend that *ref* names, without the header changes of its filters.

    Args:
        ref: the reference.
        origin: the route and the path of *ref* in it.
        references: where Services and grants are found.
    """
    if is_xbackend(ref):
        return _resolve_xbackend(ref, origin, references)
    found = resolve_port(ref, referrer_of(origin), references)
    if isinstance(found, Unresolved):
        return invalid(found, origin, ref.weight)
    session, few_retries = references.session, references.few_retries
    return ServiceBackend(
        target=found,
        weight=ref.weight,
        session=None if session is None else session(found.service),
        few_retries=few_retries is not None and few_retries(found.service),
        origin=origin,
    )


def resolve_copied(
    ref: BackendObjectReference, origin: Origin, references: References
) -> ServicePort | InvalidBackend:
    """Return where copies of requests go that *ref* names: a port of a Service, or pods."""
    if not is_xbackend(ref):
        found = resolve_port(ref, referrer_of(origin), references)
    else:
        place = resolve_xbackend(ref, referrer_of(origin), references)
        if isinstance(place, External):
            where = NamespacedName(ref.namespace or origin.object.namespace, ref.name)
            found = Unresolved("InvalidKind", f"XBackend {where}: copies do not leave the cluster")
        elif isinstance(place, Selected):
            found = target_of_xbackend(place.origin.object.key)
        else:
            found = place
    return invalid(found, origin, 0) if isinstance(found, Unresolved) else found


def is_xbackend(ref: BackendObjectReference) -> bool:
    """Return whether *ref* is to an XBackend."""
    return (ref.group, ref.kind) == (X_GROUP, XBackend.kind)


def invalid(found: Unresolved, origin: Origin, weight: int) -> InvalidBackend:
    """Return what stands for a reference at *origin* that leads nowhere."""
    where = origin.at(found.field) if found.field else origin
    return InvalidBackend(reason=found.reason, message=found.message, weight=weight, origin=where)


def _resolve_xbackend(
    ref: WeightedBackendReference, origin: Origin, references: References
) -> Backend:
    place = resolve_xbackend(ref, referrer_of(origin), references)
    match place:
        case Unresolved():
            return invalid(place, origin, ref.weight)
        case External(origin=whose):
            return HostBackend(
                target=whose.object.key, mesh=references.mesh, weight=ref.weight, origin=origin
            )
        case Selected(origin=whose, session=session):
            target = target_of_xbackend(whose.object.key)
            return ServiceBackend(target=target, weight=ref.weight, session=session, origin=origin)


def resolve_xbackend(
    ref: BackendObjectReference, referrer: Referrer, references: References
) -> Place | Unresolved:
    """Return the XBackend that *ref* of *referrer* names, or why nothing can be sent there."""
    target = NamespacedName(ref.namespace or referrer.namespace, ref.name)
    if target.namespace != referrer.namespace:
        referent = Referent(target.namespace, target.name, X_GROUP, XBackend.kind)
        if not permitted(referrer, referent, references.permits):
            text = f"no ReferenceGrant in {target.namespace} allows references to XBackend {target}"
            return Unresolved("RefNotPermitted", text)
    if ref.port is not None:
        text = f"must not be given: XBackend {target} says itself which port it is"
        return Unresolved("BackendNotFound", text, "port")
    found = references.external(target)
    if found is None:
        return Unresolved("BackendNotFound", f"there is no XBackend {target}")
    if isinstance(found, Fault):
        return Unresolved("UnsupportedProtocol", f"XBackend {target}: {found}")
    why = why_unspoken(found, referrer.kind, mesh=references.mesh)
    return Unresolved("UnsupportedProtocol", f"XBackend {target} {why}") if why else found


def why_unspoken(place: Place, kind: str, *, mesh: bool) -> str:
    """Return why routes of *kind* cannot speak to *place*; "" if they can."""
    if kind not in UNSPOKEN:
        return _why_no_stream(place, kind, mesh=mesh)
    if place.spoken is Spoken.BYTES:
        return "has protocol TCP, which is not spoken by routes for requests"
    if kind == "GRPCRoute" and place.spoken is Spoken.HTTP1:
        return "does not speak HTTP/2; its protocol must be GRPC, H2C or HTTP2"
    if mesh and shows_certificate(place):
        return f"has tls.mode ClientAndServer: {ONLY_AT_GATEWAYS}"
    return ""


def _why_no_stream(place: Place, kind: str, *, mesh: bool) -> str:
    if isinstance(place, External):
        return "is outside of the cluster; only HTTPRoutes and GRPCRoutes lead there"
    if mesh and place.tls is not None and kind != "TLSRoute":
        return "is met with TLS, which routes of connections on Services do not begin"
    if carrier_of(kind) == "UDP":
        plain = place.spoken is Spoken.ANY and place.tls is None
        return "" if plain else "has a protocol or TLS, which datagrams have not"
    streams = place.spoken in (Spoken.ANY, Spoken.BYTES)
    return "" if streams else "has a protocol of requests; for connections it must be TCP"


def referrer_of(origin: Origin) -> Referrer:
    """Return the route of *origin* as who refers."""
    return Referrer(origin.object.namespace, kind=origin.object.kind)


def resolve_port(
    ref: BackendObjectReference, referrer: Referrer, references: References
) -> ServicePort | Unresolved:
    """Return the Service port that *ref* of *referrer* names, or why there is none.

    Permission is looked at before existence, so that nobody learns what other namespaces hold.
    """
    if (ref.group, ref.kind) != (CORE_GROUP, "Service"):
        kind = f"{ref.group}/{ref.kind}" if ref.group else ref.kind
        return Unresolved("InvalidKind", f"{kind} is not a kind of backend; use Service")
    target = NamespacedName(ref.namespace or referrer.namespace, ref.name)
    if not references.mesh and target.namespace != referrer.namespace:
        referent = Referent(target.namespace, target.name)
        if not permitted(referrer, referent, references.permits):
            text = f"no ReferenceGrant in {target.namespace} allows references to Service {target}"
            return Unresolved("RefNotPermitted", text)
    if ref.port is None:
        return Unresolved("BackendNotFound", f"port of Service {target} must be given")
    service = references.service(target)
    if service is None:
        return Unresolved("BackendNotFound", f"there is no Service {target}")
    return _port(service, ref.port, referrer.kind)


def _port(service: kinds.Service, number: int, kind: str) -> ServicePort | Unresolved:
    name = service.key
    if is_generated(service.metadata.labels):
        return Unresolved(
            "InvalidKind", f"Service {name} leads to a Gateway, which has routes itself"
        )
    if service.spec.type == "ExternalName":
        # CVE-2021-25740: it would lead anywhere, also to where its owner may not go
        return Unresolved("InvalidKind", f"Service {name} is of type ExternalName")
    candidates = [port for port in service.spec.ports if port.port == number]
    if not candidates:
        return Unresolved("BackendNotFound", f"Service {name} has no port {number}")
    carrier = carrier_of(kind)
    carried = [one for one in candidates if one.protocol == carrier]
    if not carried:
        protocol = candidates[0].protocol
        return Unresolved("UnsupportedProtocol", f"port {number} of Service {name} is {protocol}")
    port = carried[0]
    if port.app_protocol in UNSPOKEN.get(kind, ()):
        why = "needs TLS" if port.app_protocol in TLS_PROTOCOLS else "no gRPC"
        text = f"port {number} of Service {name} has appProtocol {port.app_protocol}: {why}"
        return Unresolved("UnsupportedProtocol", text)
    return ServicePort(service=name, port=number)
