"""Resolve backendRefs to ports of Services.

Source: Gateway API v1.7, HTTPBackendRef, ReferenceGrant; GEP-1911 (appProtocol); GEP-1294 (no
grant is needed for backends of a route on a Service).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from penstock.core import kinds
from penstock.gatewayapi.external_backend_kind import X_GROUP, XBackend
from penstock.gatewayapi.faults import Fault
from penstock.gatewayapi.fields import (
    CORE_GROUP,
    BackendObjectReference,
    WeightedBackendReference,
)
from penstock.gatewayapi.generated import is_generated
from penstock.gatewayapi.grants import Referent, Referrer, permitted
from penstock.gatewayapi.resources import ReferenceGrant
from penstock.ir.external import External
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
}
"""Values of appProtocol by which the requests of a kind of route cannot be forwarded."""
_CARRIERS = {"UDPRoute": "UDP"}


class References(msgspec.Struct, frozen=True, kw_only=True):
    """How references of one route are looked up."""

    service: Callable[[NamespacedName], kinds.Service | None]
    grants: Callable[[str], Iterable[ReferenceGrant]]
    """Grants in a namespace."""
    session: Callable[[NamespacedName], Session | None] = lambda _: None
    """The session that a Service has of its own."""
    external: Callable[[NamespacedName], External | Fault | None] = lambda _: None
    """What an XBackend comes to; None if there is none."""
    mesh: bool = False
    """True for parents that are Services: no grant is needed."""


class Unresolved(msgspec.Struct, frozen=True):
    """Why a reference leads nowhere."""

    reason: str
    """Reason of the condition ResolvedRefs."""
    message: str


def resolve(ref: WeightedBackendReference, origin: Origin, references: References) -> Backend:
    """Return the backend that *ref* names, without the header changes of its filters.

    Args:
        ref: the reference.
        origin: the route and the path of *ref* in it.
        references: where Services and grants are found.
    """
    if (ref.group, ref.kind) == (X_GROUP, XBackend.kind):
        found: ServicePort | NamespacedName | Unresolved = _resolve_external(
            ref, referrer_of(origin), references
        )
    else:
        found = resolve_port(ref, referrer_of(origin), references)
    if isinstance(found, Unresolved):
        return InvalidBackend(
            reason=found.reason, message=found.message, weight=ref.weight, origin=origin
        )
    if isinstance(found, NamespacedName):
        return HostBackend(target=found, weight=ref.weight, origin=origin)
    own = references.session(found.service)
    return ServiceBackend(target=found, weight=ref.weight, session=own, origin=origin)


def _resolve_external(
    ref: BackendObjectReference, referrer: Referrer, references: References
) -> NamespacedName | Unresolved:
    """Return the XBackend that *ref* of *referrer* names, or why requests cannot go there."""
    target = NamespacedName(ref.namespace or referrer.namespace, ref.name)
    if references.mesh or referrer.kind not in UNSPOKEN:
        where = "a Service" if references.mesh else f"{referrer.kind}s"
        return Unresolved("InvalidKind", f"XBackend is no kind of backend for routes on {where}")
    if target.namespace != referrer.namespace:
        referent = Referent(target.namespace, target.name, X_GROUP, XBackend.kind)
        if not permitted(referrer, referent, references.grants(target.namespace)):
            text = f"no ReferenceGrant in {target.namespace} allows references to XBackend {target}"
            return Unresolved("RefNotPermitted", text)
    found = references.external(target)
    if found is None:
        return Unresolved("BackendNotFound", f"there is no XBackend {target}")
    if isinstance(found, Fault):
        return Unresolved("UnsupportedProtocol", f"XBackend {target}: {found}")
    if referrer.kind == "GRPCRoute" and not found.http2:
        text = f"XBackend {target} does not speak HTTP/2; its protocol must be GRPC, H2C or HTTP2"
        return Unresolved("UnsupportedProtocol", text)
    return target


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
        if not permitted(referrer, referent, references.grants(target.namespace)):
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
    carrier = _CARRIERS.get(kind, "TCP")
    port = next((one for one in candidates if one.protocol == carrier), None)
    if port is None:
        protocol = candidates[0].protocol
        return Unresolved("UnsupportedProtocol", f"port {number} of Service {name} is {protocol}")
    if port.app_protocol in UNSPOKEN.get(kind, ()):
        why = "needs TLS" if port.app_protocol in TLS_PROTOCOLS else "no gRPC"
        text = f"port {number} of Service {name} has appProtocol {port.app_protocol}: {why}"
        return Unresolved("UnsupportedProtocol", text)
    return ServicePort(service=name, port=number)
