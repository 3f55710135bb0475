"""The kind BackendTLSPolicy: TLS from Gateways to the endpoints of a Service.

Source: Gateway API v1.7 CRD, experimental channel; GEP-1897.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta
from typing_extensions import override

from penstock.core.objects import ApiStruct, Broken, Object
from penstock.gatewayapi.authority_holders import SYSTEM, holder_of
from penstock.gatewayapi.fields import (
    CORE_GROUP,
    GATEWAY_GROUP,
    Group,
    Hostname,
    Kind,
    LocalObjectReference,
    LongText,
    ObjectName,
    PreciseHostname,
    SectionName,
    at_most,
    one_of,
)
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.meta.problems import Problem

MAX_TARGETS, MAX_AUTHORITIES, MAX_NAMES, MAX_OPTIONS = 16, 8, 5, 16


class PolicyTarget(ApiStruct, frozen=True, kw_only=True):
    """What the policy is for, in its own namespace."""

    group: Group
    kind: Kind
    name: ObjectName
    section_name: SectionName | None = None
    """Name of a port of the Service; None is all that have no policy of their own."""


class SubjectAltName(ApiStruct, frozen=True, kw_only=True):
    """A name that the certificate may have."""

    type: Literal["Hostname", "URI"]
    hostname: Hostname | None = None
    uri: Annotated[str, Meta(min_length=1, max_length=253)] | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield a member that does not belong to the type."""
        members: dict[str, object | None] = {"hostname": self.hostname, "uri": self.uri}
        yield from one_of(members, self.type, self.type.lower())


class BackendTLSPolicyValidation(ApiStruct, frozen=True, kw_only=True):
    """How the certificate of an endpoint is checked."""

    ca_certificate_refs: tuple[LocalObjectReference, ...] = ()
    well_known_ca_certificates: Annotated[str, Meta(min_length=1, max_length=253)] | None = (
        msgspec.field(name="wellKnownCACertificates", default=None)
    )
    hostname: PreciseHostname
    subject_alt_names: tuple[SubjectAltName, ...] = ()

    def holders(self, namespace: str) -> tuple[ObjectRef, ...]:
        """Return the objects with certificates to trust that are named from *namespace*."""
        found = (holder_of(one, namespace) for one in self.ca_certificate_refs)
        return tuple(one for one in found if one is not None)

    @property
    def trusts_system(self) -> bool:
        """Return whether the authorities of the system are asked for."""
        return self.well_known_ca_certificates == SYSTEM

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        yield from at_most("caCertificateRefs", self.ca_certificate_refs, MAX_AUTHORITIES)
        yield from at_most("subjectAltNames", self.subject_alt_names, MAX_NAMES)
        if bool(self.ca_certificate_refs) == (self.well_known_ca_certificates is not None):
            text = "exactly one of caCertificateRefs and wellKnownCACertificates must be given"
            yield Problem("caCertificateRefs", text)


class BackendTLSPolicySpec(ApiStruct, frozen=True, kw_only=True):
    """For which Services, and how."""

    target_refs: tuple[PolicyTarget, ...]
    validation: BackendTLSPolicyValidation
    options: dict[str, LongText] = msgspec.field(default_factory=dict)

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        yield from at_most("targetRefs", self.target_refs, MAX_TARGETS)
        yield from at_most("options", self.options, MAX_OPTIONS)
        if not self.target_refs:
            yield Problem("targetRefs", "must have at least one element")


class BackendTLSPolicy(Object, frozen=True, kw_only=True):
    """TLS towards the endpoints of Services."""

    api_versions: ClassVar[tuple[str, ...]] = (f"{GATEWAY_GROUP}/v1", f"{GATEWAY_GROUP}/v1alpha3")
    kind: ClassVar[str] = "BackendTLSPolicy"

    spec: BackendTLSPolicySpec

    @property
    def services(self) -> tuple[NamespacedName, ...]:
        """Return the Services that the policy names, each once."""
        here = self.metadata.namespace
        named = (
            NamespacedName(here, one.name) for one in self.spec.target_refs if _is_service(one)
        )
        return tuple(dict.fromkeys(named))

    @property
    def authorities(self) -> tuple[ObjectRef, ...]:
        """Return the objects with certificates to trust that the policy names."""
        return self.spec.validation.holders(self.metadata.namespace)

    @property
    def trusts_system(self) -> bool:
        """Return whether the policy asks for the authorities of the system."""
        return self.spec.validation.trusts_system

    @property
    def targets(self) -> tuple[PolicyTarget, ...]:
        """Return the Services, and ports of them, that the policy names, each once."""
        return tuple(dict.fromkeys(one for one in self.spec.target_refs if _is_service(one)))

    def sections(self, service: str) -> frozenset[str | None]:
        """Return the ports of a Service that the policy names; None stands for all."""
        return frozenset(
            one.section_name
            for one in self.spec.target_refs
            if _is_service(one) and one.name == service
        )


def _is_service(target: PolicyTarget) -> bool:
    return (target.group, target.kind) == (CORE_GROUP, "Service")


def services_of_broken(policy: Broken) -> tuple[NamespacedName, ...]:
    """Return the Services that a policy names which is not understood, as far as it tells."""
    spec = policy.raw.get("spec")
    refs = spec.get("targetRefs") if isinstance(spec, dict) else None
    listed = refs if isinstance(refs, list) else []
    names = [one.get("name") for one in listed if isinstance(one, dict)]
    here = policy.metadata.namespace
    return tuple({NamespacedName(here, name): None for name in names if isinstance(name, str)})
