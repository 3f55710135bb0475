"""The kind XTelemetryPolicy: traces of what Gateways are asked.

Source: Gateway API v1.7 CRD, experimental channel; GEP-4768.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta
from typing_extensions import override

from penstock.core.objects import ApiStruct, Object, names
from penstock.gatewayapi.external_backend_kind import X_GROUP, XBackend
from penstock.gatewayapi.fields import (
    CORE_GROUP,
    GATEWAY_GROUP,
    BackendObjectReference,
    HeaderName,
    HeaderValue,
    LocalObjectReference,
    at_most,
    one_of,
    unique,
)
from penstock.gatewayapi.filters import MAX_HEADERS, Fraction
from penstock.ir.external import target_of_xbackend
from penstock.ir.route import ServicePort
from penstock.meta.names import NamespacedName
from penstock.meta.problems import Problem

MAX_TARGETS = 16
Mode = Literal["Enabled", "Disabled", "ImplementationDefault"]
_DEFAULT: Mode = "ImplementationDefault"

AttributeName = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[a-zA-Z0-9_.:/-]+\Z")]
AttributeKey = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[a-z0-9_.-]+\Z")]
Literally = Annotated[str, Meta(min_length=1, max_length=1024)]
ServiceName = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[a-zA-Z0-9_.:/-]+\Z")]
SpanName = Annotated[
    str,
    Meta(
        min_length=1, max_length=256, pattern=r"^[a-zA-Z0-9_.:/-]+( [a-zA-Z0-9_.:/-]+)*\Z"
    ),
]  # fmt: skip


class ExportHeader(ApiStruct, frozen=True, kw_only=True):
    """A header of what is sent to the collector."""

    sensitive: ClassVar[frozenset[str]] = names("value")

    name: HeaderName
    value: HeaderValue


class TracingProvider(ApiStruct, frozen=True, kw_only=True):
    """Where the collector is."""

    backend_ref: BackendObjectReference
    headers: tuple[ExportHeader, ...] = ()

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        ref = self.backend_ref
        yield from at_most("headers", self.headers, MAX_HEADERS)
        yield from unique("headers", (one.name for one in self.headers), "the name")
        if (ref.group, ref.kind) == (CORE_GROUP, "Service") and ref.port is None:
            yield Problem("backendRef.port", "required field is missing: a Service has ports")
        if (ref.group, ref.kind) == (X_GROUP, XBackend.kind) and ref.port is not None:
            yield Problem("backendRef.port", "must not be given: an XBackend has its own")


class ParentBasedSampling(ApiStruct, frozen=True, kw_only=True):
    """Whether it counts that the client has decided already."""

    mode: Mode = _DEFAULT
    sampling_rate: Fraction | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        if self.sampling_rate is not None and self.mode != "Enabled":
            yield Problem("samplingRate", "must not be given unless mode is Enabled")


class Attribute(ApiStruct, frozen=True, kw_only=True):
    """What a span says beside what it always says."""

    name: AttributeName
    source_type: Literal["Header", "Literal", "Attribute"]
    header_name: HeaderName | None = None
    literal_value: Literally | None = None
    attribute_key: AttributeKey | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield a member that does not belong to the source."""
        members = {
            "headerName": self.header_name,
            "literalValue": self.literal_value,
            "attributeKey": self.attribute_key,
        }
        wanted = {"Header": "headerName", "Literal": "literalValue", "Attribute": "attributeKey"}
        yield from one_of(dict(members), self.source_type, wanted[self.source_type])


class TracingConfig(ApiStruct, frozen=True, kw_only=True):
    """Whether requests are traced, how many, and what is told of them."""

    mode: Mode = _DEFAULT
    provider: TracingProvider | None = None
    sampling_rate: Fraction | None = None
    parent_based_sampling: ParentBasedSampling | None = None
    service_name: ServiceName | None = None
    span_name: SpanName | None = None
    attributes: tuple[Attribute, ...] = ()

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        yield from unique("attributes", (one.name for one in self.attributes), "the name")
        if self.mode == "Enabled":
            if self.provider is None:
                yield Problem("provider", "required field is missing: mode is Enabled")
            return
        given: dict[str, object | None] = {
            "provider": self.provider,
            "samplingRate": self.sampling_rate,
            "parentBasedSampling": self.parent_based_sampling,
            "serviceName": self.service_name,
            "spanName": self.span_name,
            "attributes": self.attributes or None,
        }
        for name, value in given.items():
            if value is not None:
                yield Problem(name, "must not be given unless mode is Enabled")


class TelemetryPolicySpec(ApiStruct, frozen=True, kw_only=True):
    """For which Gateways, and what."""

    target_refs: tuple[LocalObjectReference, ...]
    tracing: TracingConfig = TracingConfig()

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        yield from at_most("targetRefs", self.target_refs, MAX_TARGETS)
        if not self.target_refs:
            yield Problem("targetRefs", "must have at least one element")


class XTelemetryPolicy(Object, frozen=True, kw_only=True):
    """Traces of Gateways."""

    api_versions: ClassVar[tuple[str, ...]] = (f"{X_GROUP}/v1alpha1",)
    kind: ClassVar[str] = "XTelemetryPolicy"

    spec: TelemetryPolicySpec

    @property
    def targets(self) -> tuple[LocalObjectReference, ...]:
        """Return what the policy is for, each once."""
        return tuple(dict.fromkeys(self.spec.target_refs))

    @property
    def gateways(self) -> tuple[NamespacedName, ...]:
        """Return the Gateways that the policy names."""
        here = self.metadata.namespace
        return tuple(NamespacedName(here, one.name) for one in self.targets if is_gateway(one))

    @property
    def collectors(self) -> tuple[ServicePort, ...]:
        """Return where traces are meant to go, permitted or not."""
        ref = None if self.provider is None else self.provider.backend_ref
        if ref is None:
            return ()
        name = NamespacedName(ref.namespace or self.metadata.namespace, ref.name)
        if (ref.group, ref.kind) == (X_GROUP, XBackend.kind):
            return (target_of_xbackend(name),)
        return () if ref.port is None else (ServicePort(name, ref.port),)

    @property
    def provider(self) -> TracingProvider | None:
        """Return the collector, if there is to be any."""
        return self.spec.tracing.provider


def is_gateway(target: LocalObjectReference) -> bool:
    """Tell whether a target is a Gateway."""
    return (target.group, target.kind) == (GATEWAY_GROUP, "Gateway")
