"""The kind XBackend: a place outside of the cluster by its name in DNS, or pods by their labels.

Source: Gateway API CRDs v1.6 and v1.7, experimental channel; GEP-4894. Both are read: v1.6 has
`port.port`, v1.7 `port.number` and the type EndpointSelector. Rules that only v1.7 has are no
matter of reading: see `external_backends`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta
from typing_extensions import override

from penstock.core.objects import ApiStruct, Object
from penstock.gatewayapi.backend_tls_policy import BackendTLSPolicyValidation
from penstock.gatewayapi.fields import (
    CORE_GROUP,
    PortNumber,
    PreciseHostname,
    SecretObjectReference,
    at_most,
    one_of,
)
from penstock.gatewayapi.session_persistence import SessionPersistence
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.meta.problems import Problem

X_GROUP = "gateway.networking.x-k8s.io"
Protocol = Literal["TCP", "HTTP", "HTTP2", "HTTP11", "H2C", "MCP", "GRPC", "WSS"]
CLUSTER_DOMAIN = ".cluster.local"
MAX_LABELS = 64
LabelValue = Annotated[
    str, Meta(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
]


class BackendPort(ApiStruct, frozen=True, kw_only=True):
    """Which port to connect to."""

    number: PortNumber | None = None
    port: PortNumber | None = None
    """v1.6."""
    name: Annotated[str, Meta(max_length=63)] | None = None
    """v1.6."""

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield that there is no number."""
        if self.number is None and self.port is None:
            yield Problem("number", "required field is missing")


class ExternalHostname(ApiStruct, frozen=True, kw_only=True):
    """A name in DNS."""

    hostname: PreciseHostname

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield a name that the CRD does not allow."""
        if self.hostname.endswith(CLUSTER_DOMAIN):
            yield Problem("hostname", f"must not end with {CLUSTER_DOMAIN}", "use a Service")
        elif self.hostname.rpartition(".")[2].isdigit():
            yield Problem("hostname", "must not be an IP address")


class EndpointSelector(ApiStruct, frozen=True, kw_only=True):
    """Pods of the same namespace."""

    match_labels: dict[str, LabelValue]

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD's limits do not allow."""
        yield from at_most("matchLabels", self.match_labels, MAX_LABELS)
        if not self.match_labels:
            yield Problem("matchLabels", "must have at least one element")


class BackendTLS(ApiStruct, frozen=True, kw_only=True):
    """How TLS is spoken."""

    mode: Literal["None", "ServerOnly", "ClientAndServer"] = "None"
    validation: BackendTLSPolicyValidation | None = None
    client_certificate_ref: SecretObjectReference | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        if (self.mode == "ClientAndServer") != (self.client_certificate_ref is not None):
            yield Problem(
                "clientCertificateRef", "must be given exactly if mode is ClientAndServer"
            )


class BackendSpec(ApiStruct, frozen=True, kw_only=True):
    """Where it is, and what it speaks."""

    type: Literal["ExternalHostname", "EndpointSelector"]
    port: BackendPort
    external_hostname: ExternalHostname | None = None
    endpoint_selector: EndpointSelector | None = None
    protocol: Protocol | None = None
    tls: BackendTLS = msgspec.field(default_factory=BackendTLS)
    session_persistence: SessionPersistence | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        members: dict[str, object | None] = {
            "externalHostname": self.external_hostname,
            "endpointSelector": self.endpoint_selector,
        }
        yield from one_of(members, self.type, self.type[0].lower() + self.type[1:])
        if self.session_persistence is not None and self.type != "EndpointSelector":
            yield Problem("sessionPersistence", f"must not be given: type is {self.type}")


class XBackend(Object, frozen=True, kw_only=True):
    """A place that requests and connections can be sent to."""

    api_versions: ClassVar[tuple[str, ...]] = (f"{X_GROUP}/v1alpha1",)
    kind: ClassVar[str] = "XBackend"

    spec: BackendSpec

    @property
    def authorities(self) -> tuple[ObjectRef, ...]:
        """Return the objects with certificates to trust that it names."""
        validation = self.spec.tls.validation
        return () if validation is None else validation.holders(self.metadata.namespace)

    @property
    def trusts_system(self) -> bool:
        """Return whether it asks for the authorities of the system."""
        validation = self.spec.tls.validation
        return validation is not None and validation.trusts_system

    @property
    def certificate(self) -> NamespacedName | None:
        """Return the Secret with the certificate that is to be shown, permitted or not."""
        ref = self.spec.tls.client_certificate_ref
        if ref is None or (ref.group, ref.kind) != (CORE_GROUP, "Secret"):
            return None
        return NamespacedName(ref.namespace or self.metadata.namespace, ref.name)
