"""Type URLs that Penstock serves, and in which order a client gets them.

Sending: what is referred to goes before what refers to it. Runtime keys of a canary come first, a
listener last, so that a request never meets a route without its cluster. Envoy's resources come
before the kernel's: a verdict that sends a connection to Envoy finds the listener, a Service that
is redirected to Envoy finds the routes. Of ours, a Policy goes before the Workload that it is for
(an identity without Policy is closed), a Service after both, and an Address last: nobody is
attracted before there is a listener.

Removal is the reverse, with one exception: Envoy wants endpoints for as long as it has the cluster,
so a ClusterLoadAssignment leaves after its Cluster.
"""

from __future__ import annotations

from typing import Final

_PREFIX: Final = "type.googleapis.com/"

RUNTIME: Final = _PREFIX + "envoy.service.runtime.v3.Runtime"
SECRET: Final = _PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
CLUSTER: Final = _PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINTS: Final = _PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
EXTENSION: Final = _PREFIX + "envoy.config.core.v3.TypedExtensionConfig"
ROUTES: Final = _PREFIX + "envoy.config.route.v3.RouteConfiguration"
SCOPE: Final = _PREFIX + "envoy.config.route.v3.ScopedRouteConfiguration"
LISTENER: Final = _PREFIX + "envoy.config.listener.v3.Listener"
POLICY: Final = _PREFIX + "penstock.node.v1.Policy"
PEER: Final = _PREFIX + "penstock.node.v1.Peer"
WORKLOAD: Final = _PREFIX + "penstock.node.v1.Workload"
SERVICE: Final = _PREFIX + "penstock.node.v1.Service"
ADDRESS: Final = _PREFIX + "penstock.node.v1.Address"

ENVOY_TYPES: Final = (RUNTIME, SECRET, CLUSTER, ENDPOINTS, EXTENSION, ROUTES, SCOPE, LISTENER)
NODE_TYPES: Final = (PEER, POLICY, WORKLOAD, SERVICE, ADDRESS)
SENDING_ORDER: Final = ENVOY_TYPES + NODE_TYPES
WHOLE: Final = _PREFIX + "penstock.node.v1.Whole"
"""There are none of this type. An agent is answered when it has everything of the other types."""
REMOVAL_ORDER: Final = (
    ADDRESS, SERVICE, WORKLOAD, POLICY, PEER, LISTENER, SCOPE, ROUTES, EXTENSION, CLUSTER,
    ENDPOINTS, SECRET, RUNTIME,
)  # fmt: skip

LEGACY_WILDCARD: Final = frozenset({CLUSTER, SCOPE, LISTENER})
"""Types of which a first request without names means all. Source: xDS protocol, wildcard."""

ALONE: Final = frozenset({ROUTES, SCOPE})
"""Types that go to Envoy one resource to a response: it refuses such a response as a whole."""


def short(type_url: str) -> str:
    """Return the message name: "Cluster"."""
    return type_url.rpartition(".")[2]
