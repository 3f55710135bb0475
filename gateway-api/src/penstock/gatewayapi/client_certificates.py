"""Certificates of clients: by which authorities listeners check them.

Source: Gateway API v1.7, GatewaySpec.tls.frontend; GEP-91. What is said for a port goes before the
default; only HTTPS listeners check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from penstock.core.kinds import ConfigMap
from penstock.gatewayapi.certificates import AUTHORITIES_KEY, CertificateFault, read_authorities
from penstock.gatewayapi.fields import CORE_GROUP, ObjectReference
from penstock.gatewayapi.grants import Referent, Referrer, permitted
from penstock.gatewayapi.resources import FrontendTLSValidation, Gateway, ReferenceGrant
from penstock.meta.names import NamespacedName

INVALID_REF, INVALID_KIND = "InvalidCACertificateRef", "InvalidCACertificateKind"
REF_NOT_PERMITTED, NO_VALID = "RefNotPermitted", "NoValidCACertificate"

Grants = Callable[[str], Iterable[ReferenceGrant]]
"""ReferenceGrants of a namespace."""
ConfigMaps = Callable[[NamespacedName], ConfigMap | None]


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


def client_checks(gateway: Gateway, config_maps: ConfigMaps, grants: Grants) -> ClientChecks:
    """Return how clients of *gateway* are checked."""
    frontend = gateway.spec.tls.frontend if gateway.spec.tls is not None else None
    if frontend is None:
        return NO_CHECKS

    def check(validation: FrontendTLSValidation | None) -> ClientCheck | None:
        return None if validation is None else _check(gateway, validation, config_maps, grants)

    return ClientChecks(
        default=check(frontend.default.validation),
        per_port={one.port: check(one.tls.validation) for one in frontend.per_port},
    )


def named_authorities(gateway: Gateway, grants: Grants) -> frozenset[NamespacedName]:
    """Return the ConfigMaps that *gateway* names and may read."""
    frontend = gateway.spec.tls.frontend if gateway.spec.tls is not None else None
    if frontend is None:
        return frozenset()
    every = [frontend.default.validation, *(one.tls.validation for one in frontend.per_port)]
    return frozenset(
        _target(gateway, reference)
        for validation in every
        for reference in (validation.ca_certificate_refs if validation is not None else ())
        if _is_config_map(reference) and _may_refer(gateway, reference, grants)
    )


def _check(
    gateway: Gateway, validation: FrontendTLSValidation, config_maps: ConfigMaps, grants: Grants
) -> ClientCheck:
    found: list[bytes] = []
    faults: list[RefFault] = []
    for index, reference in enumerate(validation.ca_certificate_refs):
        read = _look_up(gateway, reference, config_maps, grants)
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
    gateway: Gateway, reference: ObjectReference, config_maps: ConfigMaps, grants: Grants
) -> bytes | RefFault:
    name = _target(gateway, reference)
    if not _may_refer(gateway, reference, grants):
        text = f"no ReferenceGrant in namespace {name.namespace} allows {reference.kind} {name}"
        return RefFault(REF_NOT_PERMITTED, text)
    if not _is_config_map(reference):
        kind = f"{reference.group}/{reference.kind}" if reference.group else reference.kind
        return RefFault(INVALID_KIND, f"{kind} holds no certificates to trust; use ConfigMap")
    there = config_maps(name)
    if there is None:
        return RefFault(INVALID_REF, f"ConfigMap {name} does not exist")
    read = read_authorities(there.files().get(AUTHORITIES_KEY, b""))
    if isinstance(read, CertificateFault):
        return RefFault(INVALID_REF, f"ConfigMap {name}: {AUTHORITIES_KEY} {read.message}")
    return read


def _target(gateway: Gateway, reference: ObjectReference) -> NamespacedName:
    return NamespacedName(reference.namespace or gateway.metadata.namespace, reference.name)


def _is_config_map(reference: ObjectReference) -> bool:
    return (reference.group, reference.kind) == (CORE_GROUP, "ConfigMap")


def _may_refer(gateway: Gateway, reference: ObjectReference, grants: Grants) -> bool:
    name = _target(gateway, reference)
    own = gateway.metadata.namespace
    return permitted(
        Referrer(own, kind=Gateway.kind),
        Referent(name.namespace, name.name, reference.group, reference.kind),
        grants(name.namespace) if name.namespace != own else (),
    )
