"""The kind XBackend: a place outside of the cluster, by its name in DNS.

Source: Gateway API CRDs v1.6 and v1.7, experimental channel; GEP-4894. Both are read: v1.6 has
`port.port`, v1.7 `port.number` and the type EndpointSelector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta
from typing_extensions import override

from penstock.core.objects import ApiStruct, Object
from penstock.gatewayapi.backend_tls_policy import BackendTLSPolicyValidation
from penstock.gatewayapi.fields import (
    PortNumber,
    PreciseHostname,
    SecretObjectReference,
    one_of,
)
from penstock.gatewayapi.session_persistence import SessionPersistence
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Problem

X_GROUP = "gateway.networking.x-k8s.io"
Protocol = Literal["TCP", "HTTP", "HTTP2", "HTTP11", "H2C", "MCP", "GRPC", "WSS"]
CLUSTER_DOMAIN = ".cluster.local"


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
    endpoint_selector: dict[str, Any] | None = None
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
        plain = self.tls.mode == "None"
        if self.protocol == "H2C" and not plain:
            yield Problem("tls.mode", "must be None: protocol is H2C")
        if self.session_persistence is not None and self.type != "EndpointSelector":
            yield Problem("sessionPersistence", f"must not be given: type is {self.type}")


class XBackend(Object, frozen=True, kw_only=True):
    """A place that requests can be sent to."""

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
