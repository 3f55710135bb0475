"""What of Gateway API is served, as GatewayClass and XMesh say it in status.supportedFeatures.

Source: Gateway API v1.7, package `features`; GEP-2162. The names are those of the API, and the
official suite runs the tests of exactly these. What v1.6 named otherwise has both names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

CORE = (
    "GRPCRoute",
    "Gateway",
    "HTTPRoute",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "UDPRoute",
)
GATEWAY = (
    "ClusterTrustBundle",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayInfrastructure",
    "GatewayListenerFilters",
    "GatewayPort8080",
    "GatewayRouteHostnameIntersectionPrecedence",
    "GatewayStaticAddresses",
    "ListenerSet",
)
BACKEND_TLS = ("BackendTLSPolicy", "BackendTLSPolicySANValidation")
HTTP_ROUTE = (
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteRetryCodes",
    "HTTPRouteRetryBackendTimeout",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
)
MESH = (
    "Mesh",
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
)
"""Of routes on Services."""
TLS_ROUTE = ("TLSRouteModeMixed", "TLSRouteModeTerminate")
GRPC_ROUTE = ("GRPCRouteNamedRouteRule", "GRPCRouteRequestHeaderModifier")
ON_SERVICES = (
    "GRPCRoute",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteParentRefPort",
    "HTTPRouteResponseHeaderModification",
)
"""Of routes anywhere, what the official suite tests on Services."""
SUPPORTED_FEATURES = tuple(
    sorted({*CORE, *GATEWAY, *BACKEND_TLS, *HTTP_ROUTE, *GRPC_ROUTE, *TLS_ROUTE})
)
"""Of a GatewayClass, in the order that the API asks for."""
ROUTABILITY = "GatewayAddressRoutability"
"""Only said where the API server keeps what it asks for."""
ROUTABILITY_CLUSTER = "GatewayAddressRoutabilityCluster"
"""Besides only where Services are given addresses."""


def supported_features(
    *, routability: bool, of_cluster: bool, missing: Collection[str] = ()
) -> tuple[str, ...]:
    """Return what a GatewayClass says.

    Args:
        routability: whether addresses have one.
        of_cluster: whether there are addresses of a cluster.
        missing: kinds that the API server does not know.
    """
    inner = (ROUTABILITY_CLUSTER,) if of_cluster else ()
    more = (ROUTABILITY, *inner) if routability else ()
    every = sorted((*SUPPORTED_FEATURES, *more))
    return _without(every, missing)


MESH_FEATURES = tuple(sorted({*MESH, *ON_SERVICES}))
"""Of an XMesh, in the same order. It and a GatewayClass say nothing about each other."""


def mesh_features(missing: Collection[str] = ()) -> tuple[str, ...]:
    """Return what an XMesh says; *missing* are kinds that the API server does not know."""
    return _without(MESH_FEATURES, missing)


def _without(features: Iterable[str], missing: Collection[str]) -> tuple[str, ...]:
    """Return those whose names do not begin with that of a missing kind."""
    gone = tuple(missing)
    return tuple(one for one in features if not one.removeprefix("Mesh").startswith(gone))
