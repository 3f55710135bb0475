"""A fixed set of core tests that says soon whether something broke."""

from __future__ import annotations

QUICK = (
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
)
