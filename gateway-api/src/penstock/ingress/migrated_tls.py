"""What annotations say of TLS towards backends, as BackendTLSPolicies.

A policy always looks at certificates. Its authorities are in a ConfigMap that somebody has to make:
until then connections are refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.core.objects import ObjectMeta
from penstock.gatewayapi.backend_tls_policy import (
    BackendTLSPolicy,
    BackendTLSPolicySpec,
    BackendTLSPolicyValidation,
    PolicyTarget,
)
from penstock.gatewayapi.certificate_faults import AUTHORITIES_KEY
from penstock.gatewayapi.fields import LocalObjectReference
from penstock.ingress.derive import Derived
from penstock.ingress.resources import placed_backends
from penstock.meta.problems import Problem


def policies(of: Derived) -> Iterator[BackendTLSPolicy]:
    """Yield the policies for the Services behind an Ingress that speaks TLS to them."""
    tls = of.upstream_tls
    for name in _services(of) if tls is not None else ():
        namespace = of.ingress.metadata.namespace
        validation = BackendTLSPolicyValidation(
            ca_certificate_refs=(
                LocalObjectReference(group="", kind="ConfigMap", name=_config_map(of)),
            ),
            hostname=(tls.name if tls is not None else "") or f"{name}.{namespace}.svc",
        )
        yield BackendTLSPolicy(
            metadata=ObjectMeta(name=f"{of.ingress.metadata.name}-{name}", namespace=namespace),
            spec=BackendTLSPolicySpec(
                target_refs=(PolicyTarget(group="", kind="Service", name=name),),
                validation=validation,
            ),
        )


def lost(of: Derived) -> Iterator[Problem]:
    """Yield what is left to do, and what a policy cannot say."""
    asked = next((one.upstream for one in of.routes if one.upstream is not None), None)
    if asked is None:
        return
    if asked.http2:
        hint = "give the port of the Service appProtocol kubernetes.io/h2c"
        yield Problem("metadata.annotations", "a route does not make it HTTP/2", hint)
    if asked.tls is not None:
        text = f"BackendTLSPolicies believe the authorities in ConfigMap {_config_map(of)}"
        hint = f"make it, with those of the backends as {AUTHORITIES_KEY}; 503 until then"
        yield Problem("metadata.annotations", text, hint)
    if asked.tls is not None and asked.tls.secret is not None:
        text = f"Secret {asked.tls.secret} may have a certificate that is shown to backends"
        hint = "name it as clientCertificateRef in spec.tls.backend of the Gateway"
        yield Problem("metadata.annotations", text, hint)


def _services(of: Derived) -> tuple[str, ...]:
    named = (one.service for _, one in placed_backends(of.ingress))
    return tuple(dict.fromkeys(one.name for one in named if one is not None))


def _config_map(of: Derived) -> str:
    return f"{of.ingress.metadata.name}-authorities"
