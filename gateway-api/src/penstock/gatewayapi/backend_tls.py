"""Which BackendTLSPolicy holds for a port of a Service, and what it comes to.

Source: Gateway API v1.7, BackendTLSPolicySpec; GEP-713 (of policies for one target the oldest
counts, then the first by name). A policy with a port goes before one without, and both hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from penstock.gatewayapi.authority_holders import (
    HOLDERS,
    SYSTEM,
    holder_of,
    kind_text,
)
from penstock.gatewayapi.backend_tls_policy import (
    BackendTLSPolicy,
    BackendTLSPolicyValidation,
    PolicyTarget,
)
from penstock.gatewayapi.conditions import fails, holds
from penstock.gatewayapi.trust import TrustSources, trusted
from penstock.ir.backend_tls import BackendTls, RefusedTls
from penstock.meta.conditions import Condition
from penstock.meta.names import Origin

INVALID_REF, INVALID_KIND = "InvalidCACertificateRef", "InvalidKind"
CONFLICTED, TARGET_NOT_FOUND = "Conflicted", "TargetNotFound"
Ports = Callable[[str], Sequence[str] | None]
"""Names of the ports of a Service of the namespace; None if there is no such Service."""


class Fault(msgspec.Struct, frozen=True):
    """Why a policy, or one of its references, is not in force."""

    reason: str
    message: str


class Authorities(msgspec.Struct, frozen=True, kw_only=True):
    """What caCertificateRefs, or wellKnownCACertificates, came to."""

    pem: bytes = b""
    faults: tuple[Fault, ...] = ()
    system: bool = False
    """Whether the authorities of the system are known."""


def authorities(policy: BackendTLSPolicy, sources: TrustSources) -> Authorities:
    """Look up the certificates of *policy*."""
    return authorities_of(policy.spec.validation, policy.metadata.namespace, sources)


def authorities_of(
    validation: BackendTLSPolicyValidation, namespace: str, sources: TrustSources
) -> Authorities:
    """Look up the certificates that *validation* names in *namespace*."""
    found: list[bytes] = []
    faults: list[Fault] = []
    for index, one in enumerate(validation.ca_certificate_refs):
        path = f"caCertificateRefs[{index}]"
        holder = holder_of(one, namespace)
        if holder is None:
            text = f"{path}: {kind_text(one)} is not supported; use {HOLDERS}"
            faults.append(Fault(INVALID_KIND, text))
            continue
        read = trusted(holder, sources)
        if isinstance(read, bytes):
            found.append(read)
        else:
            faults.append(Fault(INVALID_REF, f"{path}: {read.message}"))
    return Authorities(pem=b"".join(found), faults=tuple(faults), system=sources.system)


def fault_of(policy: BackendTLSPolicy, found: Authorities) -> Fault | None:
    """Return why connections under *policy* fail, None if they need not."""
    return validation_fault(policy.spec.validation, found)


def validation_fault(validation: BackendTLSPolicyValidation, found: Authorities) -> Fault | None:
    """Return why nobody has a valid certificate under *validation*, None if somebody may."""
    known = validation.well_known_ca_certificates
    if known is not None and known != SYSTEM:
        text = f"wellKnownCACertificates {known} is not supported; use {SYSTEM}"
        return Fault("Invalid", text)
    if known is not None and not found.system:
        text = (
            f"wellKnownCACertificates {SYSTEM}: the controller knows no certificates of its system"
        )
        hint = "name them with --system-authorities (chart: systemAuthorities)"
        return Fault("Invalid", f"{text}; {hint}, or use caCertificateRefs")
    if known is None and not found.pem:
        return Fault("NoValidCACertificate", found.faults[0].message if found.faults else "")
    return None


def winner(
    policies: Iterable[BackendTLSPolicy], service: str, port: str
) -> BackendTLSPolicy | None:
    """Return the policy that holds for the port named *port* of *service*, None if none does."""
    every = sorted(policies, key=_rank)
    for section in (port, None):
        for one in every:
            if section in one.sections(service):
                return one
    return None


def target_faults(
    policy: BackendTLSPolicy, others: Sequence[BackendTLSPolicy], ports: Ports
) -> dict[PolicyTarget, Fault]:
    """Return the Services and ports of *policy* for which it does not hold, and why.

    Args:
        policy: one of the policies of a namespace.
        others: those for the same Services, with it or without.
        ports: of a Service, see `Ports`.
    """
    before = [one for one in others if _rank(one) < _rank(policy)]
    found: dict[PolicyTarget, Fault] = {}
    for target in policy.targets:
        there, section = ports(target.name), target.section_name
        name = f"Service {policy.metadata.namespace}/{target.name}"
        if there is None:
            found[target] = Fault(TARGET_NOT_FOUND, f"there is no {name}")
        elif section is not None and section not in there:
            text = f"{name} has no port named {section}; its ports: {', '.join(there) or 'none'}"
            found[target] = Fault(TARGET_NOT_FOUND, text)
        elif any(section in one.sections(target.name) for one in before):
            port = "" if section is None else f", port {section}"
            found[target] = Fault(CONFLICTED, f"an older policy is for {name}{port}")
    return found


def backend_tls(policy: BackendTLSPolicy, found: Authorities) -> BackendTls | RefusedTls:
    """Return what Gateways do towards a port under *policy*."""
    origin = Origin(policy.ref)
    if fault_of(policy, found) is not None:
        return RefusedTls(origin=origin)
    return tls_of(policy.spec.validation, found, origin)


def tls_of(
    validation: BackendTLSPolicyValidation, found: Authorities, origin: Origin
) -> BackendTls:
    """Return what is asked of endpoints under a *validation* without fault."""
    names = validation.subject_alt_names
    return BackendTls(
        server_name=validation.hostname,
        authorities=found.pem,
        system=validation.well_known_ca_certificates is not None,
        hostnames=tuple(one.hostname for one in names if one.hostname is not None)
        if names
        else (validation.hostname,),
        uris=tuple(one.uri for one in names if one.uri is not None),
        origin=origin,
    )


def policy_conditions(
    policy: BackendTLSPolicy, found: Authorities, lost: Mapping[PolicyTarget, Fault]
) -> tuple[Condition, ...]:
    """Return the conditions of *policy* at every Gateway that it concerns.

    Args:
        policy: the policy.
        found: what its references came to.
        lost: what `target_faults` says; one that holds somewhere is accepted.
    """
    generation = policy.metadata.generation
    fault = fault_of(policy, found)
    nowhere = "; ".join(one.message for one in lost.values())
    if lost and len(lost) == len(policy.targets):
        reasons = {one.reason for one in lost.values()}
        reason = CONFLICTED if CONFLICTED in reasons else TARGET_NOT_FOUND
        accepted = fails("Accepted", reason, generation, nowhere)
    elif fault is not None:
        accepted = fails("Accepted", fault.reason, generation, fault.message)
    else:
        accepted = holds("Accepted", "Accepted", generation, nowhere)
    if not found.faults:
        return accepted, holds("ResolvedRefs", "ResolvedRefs", generation)
    text = "; ".join(one.message for one in found.faults)
    return accepted, fails("ResolvedRefs", found.faults[0].reason, generation, text)


def _rank(policy: BackendTLSPolicy) -> tuple[str, str]:
    return policy.metadata.creation_timestamp, str(policy.key)
