"""A fixed set of tests, of all profiles, that says soon whether something broke."""

from __future__ import annotations

QUICK = (
    "GRPCExactMethodMatching",
    "GatewayInvalidRouteKind",
    "GatewayModifyListeners",
    "GatewayObservedGenerationBump",
    "GatewaySecretReferenceGrantSpecific",
    "GatewayWithAttachedRoutes",
    "HTTPRouteCrossNamespace",
    "HTTPRouteExactPathMatching",
    "HTTPRouteHeaderMatching",
    "HTTPRouteHTTPSListener",
    "HTTPRouteInvalidCrossNamespaceParentRef",
    "HTTPRouteInvalidNonExistentBackendRef",
    "HTTPRouteListenerHostnameMatching",
    "HTTPRouteMatchingAcrossRoutes",
    "HTTPRouteReferenceGrant",
    "HTTPRouteRequestHeaderModifier",
    "HTTPRouteServiceTypes",
    "HTTPRouteSimpleSameNamespace",
    "HTTPRouteWeight",
    "ListenerSetHTTPRouting",
    "MeshHTTPRouteWeight",
    "TCPRouteWeightedRouting",
    "TLSRouteSimpleSameNamespace",
    "UDPRouteReferenceGrant",
)
