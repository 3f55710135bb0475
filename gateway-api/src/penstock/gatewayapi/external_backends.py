"""What XBackends come to: where requests and connections go, or why they cannot.

Source: Gateway API v1.7, BackendSpec; GEP-4894. The rules of v1.7 hold for objects of v1.6, too.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from penstock.core.objects import Broken
from penstock.gatewayapi.backend_tls import (
    Authorities,
    authorities_of,
    tls_of,
    validation_fault,
)
from penstock.gatewayapi.conditions import fails, holds
from penstock.gatewayapi.external_backend_kind import X_GROUP, Protocol, XBackend
from penstock.gatewayapi.faults import Fault
from penstock.gatewayapi.grants import Permits, Referent, Referrer, permitted
from penstock.gatewayapi.listener_tls import CertificateSources, look_up
from penstock.gatewayapi.sessions import session
from penstock.gatewayapi.trust import TrustSources
from penstock.ir.backend_tls import BackendTls
from penstock.ir.external import External, Place, Selected, Spoken, shows_certificate
from penstock.ir.session import Session
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName, Origin

_SPOKEN: dict[Protocol | None, Spoken] = {
    None: Spoken.ANY,
    "HTTP": Spoken.HTTP1,
    "HTTP11": Spoken.HTTP1,
    "MCP": Spoken.HTTP1,
    "WSS": Spoken.HTTP1,
    "HTTP2": Spoken.HTTP2,
    "H2C": Spoken.HTTP2,
    "GRPC": Spoken.HTTP2,
    "TCP": Spoken.BYTES,
}
_OVER_TLS = frozenset({"HTTP2", "WSS"})
_INVALID = "Invalid"
ONLY_AT_GATEWAYS = "certificates are shown by Gateways only, not for pods"
"""Why routes on Services do not lead where a certificate has to be shown."""


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """What the references of XBackends are looked up in."""

    trust: TrustSources
    certificates: CertificateSources


class Understood(msgspec.Struct, frozen=True, kw_only=True):
    """What an XBackend comes to."""

    place: Place | Fault
    """Where it leads, or why nothing is sent there."""
    lost: tuple[Fault, ...] = ()
    """References of it that lead nowhere; other ones may be enough."""


def understood(backend: XBackend | Broken, sources: Sources) -> Understood:
    """Return what *backend* comes to; one that cannot be read leads nowhere."""
    if isinstance(backend, Broken):
        problem = backend.problems[0]
        return Understood(place=Fault(problem.path, problem.message, _INVALID))
    fault = _contradiction(backend)
    if fault is not None:
        return Understood(place=fault)
    tls, lost = _tls(backend, sources)
    if isinstance(tls, Fault):
        return Understood(place=tls, lost=lost)
    kept = _session(backend)
    place = kept if isinstance(kept, Fault) else _place(backend, tls, kept)
    return Understood(place=place, lost=lost)


def _contradiction(backend: XBackend) -> Fault | None:
    """Return what v1.7 does not allow, and v1.6 does."""
    spec = backend.spec
    plain = spec.tls.mode == "None"
    if spec.protocol == "H2C" and not plain:
        return Fault("spec.tls.mode", "must be None: protocol is H2C; use HTTP2", _INVALID)
    if spec.protocol in _OVER_TLS and plain:
        return Fault("spec.tls.mode", f"must not be None: protocol is {spec.protocol}", _INVALID)
    if plain and spec.tls.validation is not None:
        return Fault("spec.tls.validation", "must not be given: mode is None", _INVALID)
    if not plain and spec.tls.validation is None:
        return Fault("spec.tls.validation", "is missing: nobody would be trusted", _INVALID)
    return None


def _place(backend: XBackend, tls: BackendTls | None, kept: Session | None) -> Place:
    spec, origin = backend.spec, Origin(backend.ref)
    port, spoken = spec.port.number or spec.port.port or 0, _SPOKEN[spec.protocol]
    if spec.external_hostname is not None:
        hostname = spec.external_hostname.hostname
        return External(hostname=hostname, port=port, spoken=spoken, tls=tls, origin=origin)
    selector = spec.endpoint_selector
    return Selected(
        namespace=backend.metadata.namespace,
        labels=tuple(sorted(selector.match_labels.items())) if selector is not None else (),
        port=port,
        spoken=spoken,
        tls=tls,
        session=kept,
        origin=origin,
    )


def _session(backend: XBackend) -> Session | Fault | None:
    given = backend.spec.session_persistence
    if given is None:
        return None
    found = session(given, "spec.sessionPersistence", str(backend.ref))
    if isinstance(found, Session):
        return found
    return msgspec.structs.replace(found[0], reason=_INVALID)


def _tls(
    backend: XBackend, sources: Sources
) -> tuple[BackendTls | Fault | None, tuple[Fault, ...]]:
    """Return how it is met, and which references of that lead nowhere."""
    given, namespace = backend.spec.tls, backend.metadata.namespace
    if given.mode == "None" or given.validation is None:
        return None, ()
    found: Authorities = authorities_of(given.validation, namespace, sources.trust)
    path = "spec.tls.validation"
    lost = [Fault(path, one.message, one.reason) for one in found.faults]
    certificate: NamespacedName | None = None
    if given.client_certificate_ref is not None:
        referrer = Referrer(namespace, X_GROUP, XBackend.kind)
        shown = look_up(given.client_certificate_ref, referrer, sources.certificates)
        certificate = shown.secret
        if certificate is None:
            lost.append(Fault("spec.tls.clientCertificateRef", shown.message, shown.reason))
            return lost[-1], tuple(lost)
    fault = validation_fault(given.validation, found)
    if fault is not None:
        return Fault(path, fault.message, fault.reason), tuple(lost)
    tls = tls_of(given.validation, found, Origin(backend.ref))
    return msgspec.structs.replace(tls, certificate=certificate), tuple(lost)


def certificate_to_read(backend: XBackend, permits: Permits) -> Iterator[NamespacedName]:
    """Yield the Secret that *backend* may read, whether it exists or not."""
    name = backend.certificate
    if name is None:
        return
    referrer = Referrer(backend.metadata.namespace, X_GROUP, XBackend.kind)
    secret = Referent(name.namespace, name.name, kind="Secret")
    if permitted(referrer, secret, permits):
        yield name


def backend_conditions(
    backend: XBackend | Broken, found: Understood, *, empty: bool, mesh: bool = False
) -> tuple[Condition, ...]:
    """Return the conditions of *backend* at everything that sends there.

    Args:
        backend: the object.
        found: what it comes to.
        empty: it selects pods, and none of them is ready.
        mesh: pods send there, because of routes on a Service.
    """
    generation = backend.metadata.generation
    place = found.place
    if mesh and not isinstance(place, Fault) and shows_certificate(place):
        place = Fault("spec.tls.mode", ONLY_AT_GATEWAYS, _INVALID)
    if isinstance(place, Fault):
        accepted = fails("Accepted", place.reason, generation, str(place))
    else:
        text = "no pod with these labels is ready" if empty else ""
        accepted = holds("Accepted", "Accepted", generation, text)
    if not found.lost:
        return accepted, holds("ResolvedRefs", "ResolvedRefs", generation)
    text = "; ".join(map(str, found.lost))
    return accepted, fails("ResolvedRefs", found.lost[0].reason, generation, text)
