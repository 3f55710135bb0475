"""Certificates of clients: by which authorities listeners check them.

Source: Gateway API v1.7, GatewaySpec.tls.frontend; GEP-91. What is said for a port goes before the
default; only HTTPS listeners check.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from penstock.gatewayapi.authority_holders import (
    HOLDERS,
    holder_of,
    is_bundle,
    kind_text,
)
from penstock.gatewayapi.certificate_faults import CertificateFault
from penstock.gatewayapi.fields import ObjectReference
from penstock.gatewayapi.grants import Permits, Referent, Referrer, permitted
from penstock.gatewayapi.resources import FrontendTLSValidation, Gateway
from penstock.gatewayapi.trust import TrustSources, trusted
from penstock.meta.names import ObjectRef

INVALID_REF, INVALID_KIND = "InvalidCACertificateRef", "InvalidCACertificateKind"
REF_NOT_PERMITTED, NO_VALID = "RefNotPermitted", "NoValidCACertificate"


class RefFault(msgspec.Struct, frozen=True):
    """Why one caCertificateRef cannot be used."""

    reason: str
    message: str


class ClientCheck(msgspec.Struct, frozen=True, kw_only=True):
    """How clients of a port are checked."""

    authorities: bytes
    """Certificates in PEM; empty if there is none to trust."""
    required: bool
    """False lets clients pass without a certificate, or with a bad one."""
    faults: tuple[RefFault, ...] = ()


class ClientChecks(msgspec.Struct, frozen=True, kw_only=True):
    """How clients of a Gateway are checked."""

    default: ClientCheck | None = None
    per_port: Mapping[int, ClientCheck | None] = {}

    def at(self, port: int) -> ClientCheck | None:
        """Return how clients of HTTPS on *port* are checked, None if they are not."""
        return self.per_port.get(port, self.default)

    @property
    def insecure(self) -> bool:
        """Return whether some clients pass without a good certificate although they are checked."""
        every = (self.default, *self.per_port.values())
        return any(one is not None and not one.required for one in every)


NO_CHECKS = ClientChecks()


def client_checks(gateway: Gateway, sources: TrustSources, permits: Permits) -> ClientChecks:
    """Return how clients of *gateway* are checked."""
    frontend = gateway.spec.tls.frontend if gateway.spec.tls is not None else None
    if frontend is None:
        return NO_CHECKS

    def check(validation: FrontendTLSValidation | None) -> ClientCheck | None:
        return None if validation is None else _check(gateway, validation, sources, permits)

    return ClientChecks(
        default=check(frontend.default.validation),
        per_port={one.port: check(one.tls.validation) for one in frontend.per_port},
    )


def named_authorities(gateway: Gateway, permits: Permits) -> frozenset[ObjectRef]:
    """Return the objects with certificates to trust that *gateway* names and may read."""
    frontend = gateway.spec.tls.frontend if gateway.spec.tls is not None else None
    if frontend is None:
        return frozenset()
    every = [frontend.default.validation, *(one.tls.validation for one in frontend.per_port)]
    references = [
        reference
        for validation in every
        for reference in (validation.ca_certificate_refs if validation is not None else ())
        if _may_refer(gateway, reference, permits)
    ]
    found = (holder_of(one, _namespace(gateway, one)) for one in references)
    return frozenset(one for one in found if one is not None)


def _check(
    gateway: Gateway, validation: FrontendTLSValidation, sources: TrustSources, permits: Permits
) -> ClientCheck:
    found: list[bytes] = []
    faults: list[RefFault] = []
    for index, reference in enumerate(validation.ca_certificate_refs):
        read = _look_up(gateway, reference, sources, permits)
        if isinstance(read, bytes):
            found.append(read)
        else:
            faults.append(RefFault(read.reason, f"caCertificateRefs[{index}]: {read.message}"))
    return ClientCheck(
        authorities=b"".join(found),
        required=validation.mode == "AllowValidOnly",
        faults=tuple(faults),
    )


def _look_up(
    gateway: Gateway, reference: ObjectReference, sources: TrustSources, permits: Permits
) -> bytes | RefFault:
    namespace = _namespace(gateway, reference)
    if not _may_refer(gateway, reference, permits):
        name = f"{reference.kind} {namespace}/{reference.name}"
        text = f"no ReferenceGrant in namespace {namespace} allows {name}"
        return RefFault(REF_NOT_PERMITTED, text)
    if is_bundle(reference) and reference.namespace is not None:
        return RefFault(INVALID_REF, "namespace: a ClusterTrustBundle is of none; remove it")
    holder = holder_of(reference, namespace)
    if holder is None:
        text = f"{kind_text(reference)} holds no certificates to trust; use {HOLDERS}"
        return RefFault(INVALID_KIND, text)
    read = trusted(holder, sources)
    return RefFault(INVALID_REF, read.message) if isinstance(read, CertificateFault) else read


def _namespace(gateway: Gateway, reference: ObjectReference) -> str:
    return reference.namespace or gateway.metadata.namespace


def _may_refer(gateway: Gateway, reference: ObjectReference, permits: Permits) -> bool:
    own, namespace = gateway.metadata.namespace, _namespace(gateway, reference)
    if is_bundle(reference):
        return True
    return permitted(
        Referrer(own, kind=Gateway.kind),
        Referent(namespace, reference.name, reference.group, reference.kind),
        permits,
    )
