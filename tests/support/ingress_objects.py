"""Ingresses and what stands beside them, for tests."""

from __future__ import annotations

from typing import Any

from penstock.core.objects import Broken, Object
from penstock.ingress.resources import CONTROLLER_NAME, DEFAULT_ANNOTATION
from support.objects import made

Json = dict[str, Any]
CILIUM, NGINX = "ingress.cilium.io/", "nginx.ingress.kubernetes.io/"


def ingress_class(
    name: str = "penstock", controller: str = CONTROLLER_NAME, *, default: bool = False
) -> Object | Broken:
    return made(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {
                "name": name,
                "annotations": {DEFAULT_ANNOTATION: "true"} if default else {},
            },
            "spec": {"controller": controller},
        }
    )


def backend(service: str = "one", port: int | str = 80) -> Json:
    key = "number" if isinstance(port, int) else "name"
    return {"service": {"name": service, "port": {key: port}}}


def path(value: str = "/", kind: str = "Prefix", to: Json | None = None) -> Json:
    return {"path": value, "pathType": kind, "backend": to or backend()}


def rule(host: str, *paths: Json) -> Json:
    return ({"host": host} if host else {}) | {"http": {"paths": list(paths)}}


def ingress(
    name: str,
    *rules: Json,
    namespace: str = "shop",
    annotations: dict[str, str] | None = None,
    created: str = "2026-01-01T00:00:00Z",
    **spec: Any,
) -> Object | Broken:
    return made(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "annotations": annotations or {},
                "creationTimestamp": created,
            },
            "spec": {"ingressClassName": "penstock", "rules": list(rules)} | spec,
        }
    )
