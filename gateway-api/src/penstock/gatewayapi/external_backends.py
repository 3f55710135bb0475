"""What XBackends come to: where requests go, or why they cannot.

Source: Gateway API v1.7, BackendSpec; GEP-4894.
"""

from __future__ import annotations

from penstock.gatewayapi.backend_tls import (
    Authorities,
    authorities_of,
    tls_of,
    validation_fault,
)
from penstock.gatewayapi.conditions import fails, holds
from penstock.gatewayapi.external_backend_kind import XBackend
from penstock.gatewayapi.faults import Fault
from penstock.gatewayapi.trust import TrustSources
from penstock.ir.backend_tls import BackendTls
from penstock.ir.external import External
from penstock.meta.conditions import Condition
from penstock.meta.names import Origin

_HTTP2 = frozenset({"HTTP2", "H2C", "GRPC"})
_INVALID = "Invalid"


def external(backend: XBackend, sources: TrustSources) -> External | Fault:
    """Return the place of *backend*, or why nothing is sent there."""
    spec = backend.spec
    if spec.external_hostname is None:
        return Fault("spec.type", f"{spec.type} is not served; use a Service", _INVALID)
    if spec.protocol == "TCP":
        return Fault("spec.protocol", "TCP is not spoken by routes for requests", _INVALID)
    if spec.protocol in ("HTTP2", "WSS") and spec.tls.mode == "None":
        return Fault("spec.tls", f"needs TLS: protocol is {spec.protocol}", _INVALID)
    tls = _tls(backend, sources)
    if isinstance(tls, Fault):
        return tls
    return External(
        hostname=spec.external_hostname.hostname,
        port=spec.port.number or spec.port.port or 0,
        http2=spec.protocol in _HTTP2,
        tls=tls,
        origin=Origin(backend.ref),
    )


def _tls(backend: XBackend, sources: TrustSources) -> BackendTls | Fault | None:
    given = backend.spec.tls
    if given.mode == "None":
        return None
    if given.mode == "ClientAndServer":
        return Fault("spec.tls.mode", "ClientAndServer is not served; use ServerOnly", _INVALID)
    if given.validation is None:
        return Fault("spec.tls.validation", "is missing: nobody would be trusted", _INVALID)
    found: Authorities = authorities_of(given.validation, backend.metadata.namespace, sources)
    fault = validation_fault(given.validation, found)
    if fault is not None:
        return Fault("spec.tls.validation", fault.message, fault.reason)
    return tls_of(given.validation, found, Origin(backend.ref))


def backend_condition(backend: XBackend, found: External | Fault) -> Condition:
    """Return the condition of *backend* at every Gateway that sends there."""
    generation = backend.metadata.generation
    if isinstance(found, Fault):
        return fails("Accepted", found.reason, generation, str(found))
    return holds("Accepted", "Accepted", generation)
