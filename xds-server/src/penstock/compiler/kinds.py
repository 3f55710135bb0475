"""The kinds that are read, for those who must know no more: this module imports little."""

from __future__ import annotations

from penstock.core.crds import CustomResourceDefinition
from penstock.core.kinds import EndpointSlice, Namespace, Service
from penstock.core.nodes import Node
from penstock.core.objects import Object
from penstock.core.pods import Pod
from penstock.core.service_cidrs import ServiceCIDR
from penstock.gatewayapi.backend_tls_policy import BackendTLSPolicy
from penstock.gatewayapi.backend_traffic_policy import XBackendTrafficPolicy
from penstock.gatewayapi.external_backend_kind import XBackend
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.mesh import XMesh
from penstock.gatewayapi.resources import Gateway, GatewayClass, ReferenceGrant
from penstock.gatewayapi.routes import ROUTE_KINDS, ROUTE_TYPES
from penstock.gatewayapi.telemetry_policy import XTelemetryPolicy
from penstock.ingress.resources import KINDS as INGRESS_KINDS
from penstock.policy.resources import CiliumNetworkPolicy

KINDS: tuple[type[Object], ...] = (
    Namespace, Service, EndpointSlice, Pod, GatewayClass, Gateway, ListenerSet, *ROUTE_TYPES,
    ReferenceGrant, BackendTLSPolicy, CiliumNetworkPolicy, Node, XMesh, XBackendTrafficPolicy,
    XBackend, XTelemetryPolicy, CustomResourceDefinition, ServiceCIDR,
    *INGRESS_KINDS,
)  # fmt: skip
"""Kinds that change what nodes get, or have a status of ours."""

STATUS_KINDS = frozenset(
    {
        "BackendTLSPolicy", "CiliumNetworkPolicy", "Gateway", "GatewayClass", "ListenerSet",
        "Ingress", "Service", "XBackend", "XBackendTrafficPolicy", "XMesh",
        "XTelemetryPolicy", *ROUTE_KINDS,
    }
)  # fmt: skip
"""Kinds of which some objects have a status of ours."""
