"""Routes that pass on what comes as it is, and TLS towards Services, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.core.objects import Broken, Object
from support import objects
from support.pki import Issued

SINCE = "2026-01-02T00:00:00Z"


def route(
    kind: str,
    name: str,
    backends: Sequence[tuple[str, int]],
    *,
    since: str = SINCE,
    namespace: str = "shop",
    **spec: Any,
) -> Object | Broken:
    """Return a route of Gateway front to port 80 of Services, and to XBackends, by weight."""
    refs = [objects.backend_ref(one, weight) | {"namespace": "shop"} for one, weight in backends]
    return objects.gateway_api(
        kind,
        name,
        {"parentRefs": [{"name": "front"}], "rules": [{"backendRefs": refs}], **spec},
        namespace,
        creationTimestamp=since,
    )


def tls(
    service: str, authority: Issued, hostname: str = ""
) -> tuple[Object | Broken, Object | Broken]:
    """Return a ConfigMap with an authority, and the policy that a Service is met with TLS.

    The endpoints are asked for as *hostname*, else as `SERVICE.internal`.
    """
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "ca", "namespace": "shop"},
        "data": {"ca.crt": authority.pem},
    }
    policy = {
        "targetRefs": [{"group": "", "kind": "Service", "name": service}],
        "validation": {
            "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}],
            "hostname": hostname or f"{service}.internal",
        },
    }
    return objects.made(config_map), objects.gateway_api("BackendTLSPolicy", service, policy)
