"""TLS of listeners: which certificates one can serve with, and which server names overlap.

Source: Gateway API v1.7, ListenerTLSConfig, ListenerConditionReason, and the condition
OverlappingTLSConfig.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from penstock.gatewayapi.certificate_faults import CertificateFault
from penstock.gatewayapi.fields import CORE_GROUP, SecretObjectReference
from penstock.gatewayapi.grants import Permits, Referent, Referrer, permitted
from penstock.gatewayapi.hostname import ANY, covering
from penstock.gatewayapi.listener_set import ListenerHolder
from penstock.gatewayapi.resources import Gateway, GatewaySpec, Listener
from penstock.meta.names import NamespacedName, ObjectRef

HTTPS, TLS = "HTTPS", "TLS"
SHOWN = 5
"""So many listeners are named that a certificate is good for, too."""
INVALID_CERTIFICATE_REF = "InvalidCertificateRef"
INVALID_CLIENT_CERTIFICATE_REF = "InvalidClientCertificateRef"
REF_NOT_PERMITTED = "RefNotPermitted"
_SECRET = "Secret"  # noqa: S105 - a kind


class Usable(msgspec.Struct, frozen=True, kw_only=True):
    """A Secret that a listener can serve with."""

    warnings: tuple[str, ...] = ()
    """What some clients will stumble over."""
    refused: str = ""
    """Why clients refuse the certificate at present, "" if they do not."""
    names: tuple[str, ...] = ()
    """DNS names for which the certificate is good."""


CertificateState = Usable | CertificateFault | None
"""What a Secret is worth; None if there is no such Secret."""


class CertificateSources(msgspec.Struct, frozen=True, kw_only=True):
    """What certificateRefs are looked up in."""

    certificate: Callable[[NamespacedName], CertificateState]
    permits: Permits


class UnusableRef(msgspec.Struct, frozen=True, kw_only=True):
    """Why one certificateRef cannot be used."""

    index: int
    """Its place in the list; -1 if there is none at all."""
    reason: str
    message: str

    @property
    def field(self) -> str:
        """Return the path below the listener."""
        return "tls" if self.index < 0 else f"tls.certificateRefs[{self.index}]"

    def __str__(self) -> str:
        """Return place and message."""
        return f"{self.field}: {self.message}"


class ListenerCertificates(msgspec.Struct, frozen=True, kw_only=True):
    """What the certificateRefs of one listener came to."""

    usable: tuple[NamespacedName, ...] = ()
    """Secrets, in the order of the references; each once."""
    unusable: tuple[UnusableRef, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    """Why clients refuse certificates at present."""
    names: tuple[str, ...] = ()
    """DNS names for which one of the certificates is good, sorted."""


class ClientCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """What the clientCertificateRef of a Gateway or an XBackend came to."""

    secret: NamespacedName | None = None
    """None if it cannot be used: endpoints with TLS are not connected to."""
    reason: str = ""
    message: str = ""


def is_https(listener: Listener) -> bool:
    """Return whether requests come to *listener* over TLS, which it ends."""
    return listener.protocol == HTTPS


def passes_tls(listener: Listener) -> bool:
    """Return whether *listener* hands TLS on as it is."""
    return (
        listener.protocol == TLS and listener.tls is not None and listener.tls.mode == "Passthrough"
    )


def terminates_tls(listener: Listener) -> bool:
    """Return whether *listener* is one that ends TLS with certificates of its own."""
    return is_https(listener) or (listener.protocol == TLS and not passes_tls(listener))


def checks_clients(spec: GatewaySpec, listener: Listener) -> bool:
    """Return whether clients of *listener* must show certificates, as spec.tls.frontend says."""
    frontend = spec.tls.frontend if spec.tls is not None else None
    if frontend is None or not is_https(listener):
        return False
    for one in frontend.per_port:
        if one.port == listener.port:
            return one.tls.validation is not None
    return frontend.default.validation is not None


def referenced_secrets(holder: ListenerHolder, permits: Permits) -> frozenset[NamespacedName]:
    """Return the Secrets that *holder* and its listeners may read, whether they exist or not."""
    referrer = referrer_of(holder.ref)
    return frozenset(
        name
        for reference in _all_references(holder)
        for name in [_target(reference, referrer.namespace)]
        if _is_secret(reference) and _may_refer(referrer, reference, name, permits)
    )


def named_secrets(holder: ListenerHolder) -> frozenset[NamespacedName]:
    """Return the Secrets that *holder* and its listeners name, permitted or not."""
    return frozenset(
        _target(reference, holder.metadata.namespace)
        for reference in _all_references(holder)
        if _is_secret(reference)
    )


def shown_to_backends(gateway: Gateway) -> SecretObjectReference | None:
    """Return the certificate that a Gateway shows to endpoints that it speaks TLS to."""
    backend = gateway.spec.tls.backend if gateway.spec.tls is not None else None
    return None if backend is None else backend.client_certificate_ref


def resolve_shown(gateway: Gateway, sources: CertificateSources) -> ClientCertificate | None:
    """Look up the certificate that *gateway* shows to endpoints; None if it shows none."""
    reference = shown_to_backends(gateway)
    return None if reference is None else look_up(reference, referrer_of(gateway.ref), sources)


def look_up(
    reference: SecretObjectReference, referrer: Referrer, sources: CertificateSources
) -> ClientCertificate:
    """Look up the certificate that *referrer* wants to be shown to endpoints."""
    found = _look_up(0, reference, referrer, sources)
    if isinstance(found, Usable):
        return ClientCertificate(secret=_target(reference, referrer.namespace))
    permitted_ = found.reason == REF_NOT_PERMITTED
    reason = REF_NOT_PERMITTED if permitted_ else INVALID_CLIENT_CERTIFICATE_REF
    return ClientCertificate(reason=reason, message=found.message)


def referrer_of(holder: ObjectRef) -> Referrer:
    """Return who refers to the Secrets of the listeners of *holder*."""
    return Referrer(holder.namespace, kind=holder.kind)


def resolve_certificates(
    listener: Listener, referrer: Referrer, sources: CertificateSources
) -> ListenerCertificates:
    """Look up the certificateRefs of *listener*, which is *referrer*'s."""
    usable: dict[NamespacedName, Usable] = {}
    unusable: list[UnusableRef] = []
    for index, reference in enumerate(_references(listener)):
        name = _target(reference, referrer.namespace)
        found = _look_up(index, reference, referrer, sources)
        if isinstance(found, Usable):
            usable[name] = found
        else:
            unusable.append(found)
    if not usable and not unusable:
        text = "certificateRefs is missing"
        unusable.append(UnusableRef(index=-1, reason=INVALID_CERTIFICATE_REF, message=text))
    return ListenerCertificates(
        usable=tuple(usable),
        unusable=tuple(unusable),
        warnings=tuple(f"Secret {n}: {text}" for n, one in usable.items() for text in one.warnings),
        refused=tuple(f"Secret {n}: {one.refused}" for n, one in usable.items() if one.refused),
        names=tuple(sorted({name for one in usable.values() for name in one.names})),
    )


def overlaps(listeners: Sequence[Listener]) -> dict[str, tuple[str, ...]]:
    """Return listener → other listeners that share a port and server names with it.

    Connections of one may be used for requests to another: HTTP/2 clients coalesce.
    """
    secure = [one for one in listeners if one.protocol in (HTTPS, TLS)]
    at: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for index, one in enumerate(secure):
        at[one.port, one.hostname or ANY].append(index)
    found: defaultdict[int, set[int]] = defaultdict(set)
    for index, one in enumerate(secure):
        for wide in covering(one.hostname or ANY):
            for other in at.get((one.port, wide), ()):
                if other != index:
                    found[index].add(other)
                    found[other].add(index)
    return {
        secure[index].name: tuple(secure[other].name for other in sorted(others))
        for index, others in sorted(found.items())
    }


def covered_by_certificates(
    listeners: Sequence[Listener], certificates: Mapping[str, ListenerCertificates]
) -> dict[str, tuple[str, ...]]:
    """Return listener → others on its port whose names a certificate of one of both is good for.

    Args:
        listeners: those that are served, by their names in *certificates*.
        certificates: what each serves with.
    """
    by_port: defaultdict[int, list[Listener]] = defaultdict(list)
    for one in listeners:
        if certificates.get(one.name, _NO_CERTIFICATES).names:
            by_port[one.port].append(one)
    found: defaultdict[str, set[str]] = defaultdict(set)
    for here in by_port.values():
        _cover(here, certificates, found)
    return {name: tuple(sorted(others)) for name, others in found.items()}


def _cover(
    here: Sequence[Listener],
    certificates: Mapping[str, ListenerCertificates],
    found: defaultdict[str, set[str]],
) -> None:
    """Add to *found* for each listener of a port some of those that it shares names with."""
    good_for: defaultdict[str, set[str]] = defaultdict(set)
    having: defaultdict[str, set[str]] = defaultdict(set)
    for one in here:
        for name in certificates[one.name].names:
            good_for[name].add(one.name)
        for name in {*certificates[one.name].names, one.hostname or ANY}:
            having[name].add(one.name)
            if not name.startswith("*"):
                having[f"*.{name.partition('.')[2]}"].add(one.name)
    for name, certain in good_for.items():
        members, certified = sorted(having[name]), sorted(certain)
        for member in members:
            others = members if member in certain else certified
            found[member].update([one for one in others[: SHOWN + 1] if one != member][:SHOWN])
            if not found[member]:
                del found[member]


_NO_CERTIFICATES = ListenerCertificates()


def _references(listener: Listener) -> Iterator[SecretObjectReference]:
    if terminates_tls(listener) and listener.tls is not None:
        yield from listener.tls.certificate_refs


def _all_references(holder: ListenerHolder) -> Iterator[SecretObjectReference]:
    for listener in holder.spec.listeners:
        yield from _references(listener)
    shown = shown_to_backends(holder) if isinstance(holder, Gateway) else None
    if shown is not None:
        yield shown


def _target(reference: SecretObjectReference, namespace: str) -> NamespacedName:
    return NamespacedName(reference.namespace or namespace, reference.name)


def _is_secret(reference: SecretObjectReference) -> bool:
    return (reference.group, reference.kind) == (CORE_GROUP, _SECRET)


def _may_refer(
    referrer: Referrer,
    reference: SecretObjectReference,
    name: NamespacedName,
    permits: Permits,
) -> bool:
    return permitted(
        referrer,
        Referent(name.namespace, name.name, reference.group, reference.kind),
        permits,
    )


def _look_up(
    index: int, reference: SecretObjectReference, referrer: Referrer, sources: CertificateSources
) -> Usable | UnusableRef:
    name = _target(reference, referrer.namespace)

    def unusable(reason: str, message: str) -> UnusableRef:
        return UnusableRef(index=index, reason=reason, message=message)

    # What another namespace does not permit, it does not tell of either.
    if not _may_refer(referrer, reference, name, sources.permits):
        text = f"no ReferenceGrant in namespace {name.namespace} allows {reference.kind} {name}"
        return unusable(REF_NOT_PERMITTED, text)
    if not _is_secret(reference):
        text = f"{reference.kind} of group {reference.group!r} is nothing to serve with; use Secret"
        return unusable(INVALID_CERTIFICATE_REF, text)
    match sources.certificate(name):
        case Usable() as found:
            return found
        case CertificateFault(message=message):
            return unusable(INVALID_CERTIFICATE_REF, f"Secret {name}: {message}")
        case None:
            return unusable(INVALID_CERTIFICATE_REF, f"Secret {name} does not exist")
