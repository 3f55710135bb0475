"""TLS that pods send to Services with TLSRoutes: the server name says where it goes, unread.

A pod's egress listener hands on all TLS, whatever routes there are, through a tunnel (CONNECT) to
one listener of the node. That one finds the Service's scope, which has a virtual host for each
server name, ends the tunnel, and dials an endpoint from inside of the client's pod. Routes that
change change the scope; open connections go on, and no listener changes.

Nobody reads what is sent, so no filter judges: the mark "unread" asks the kernel to, on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from penstock.envoy import hop
from penstock.envoy.cluster import base, bind
from penstock.envoy.hop import Hop
from penstock.envoy.http_connection_manager import access_log, http_filter, router, scoped_routes
from penstock.envoy.rbac import NAMESPACE_KEY
from penstock.envoy.route import INVALID_CLUSTER
from penstock.envoy.scope import SCOPE_HEADER, server_name_key
from penstock.envoy.wire import ads, exact, pack
from penstock.ir.route import Backend, ServiceBackend, ServicePort
from penstock.ir.server_name import ServerName, Way
from penstock.meta.marks import UNREAD
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.core.v3 import base_pb2
from penstock.pb.envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from penstock.pb.envoy.config.route.v3 import route_components_pb2 as route_pb2
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from penstock.pb.envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

SERVER_NAMES = Hop(name="sni", socket="sni.sock", headers="x-penstock-sni")
CLUSTER = "sni"
"""Leads to the listener."""
ASKED_HEADER = "x-penstock-sni-asked"
"""What the client connected to, for the log."""
_NAMESPACE = "x-penstock-sni-namespace"
_CONNECT = "CONNECT"
_PORT = 443
"""Some port, as CONNECT wants one; it is not looked at."""
_NOBODY, _NOT_NOW = 404, 503
_HCM = hcm_pb2.HttpConnectionManager


def passed_name(target: ServicePort) -> str:
    """Return the name of the Cluster, and of its endpoints, by which TLS gets to a Service port."""
    return f"{CLUSTER}|{target}"


def tls_chain(
    name: str, before: Sequence[listener_components_pb2.Filter]
) -> listener_components_pb2.FilterChain:
    """Build the filter chain of an egress listener for TLS.

    Args:
        name: of the chain.
        before: filters that say who the client is.
    """
    written = {
        SCOPE_HEADER: server_name_key("%DOWNSTREAM_LOCAL_ADDRESS%"),
        ASKED_HEADER: "%DOWNSTREAM_LOCAL_ADDRESS%",
        _NAMESPACE: f"%FILTER_STATE({NAMESPACE_KEY}:PLAIN)%",
        **SERVER_NAMES.who,
    }
    proxy = tcp_proxy_pb2.TcpProxy(stat_prefix=CLUSTER, cluster=CLUSTER, idle_timeout=Duration())
    proxy.tunneling_config.hostname = f"%REQUESTED_SERVER_NAME%:{_PORT}"
    for header, value in written.items():
        proxy.tunneling_config.headers_to_add.add(
            header=base_pb2.HeaderValue(key=header, value=value),
            append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
    tunnel = listener_components_pb2.Filter(
        name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy)
    )
    result = listener_components_pb2.FilterChain(name=name, filters=[*before, tunnel])
    result.filter_chain_match.transport_protocol = "tls"
    return result


def cluster() -> cluster_pb2.Cluster:
    """Build the cluster that leads to the listener."""
    return hop.cluster(SERVER_NAMES, CLUSTER)


def listener() -> listener_pb2.Listener:
    """Build the listener behind the tunnels."""
    result = _HCM(
        stat_prefix=CLUSTER,
        codec_type=_HCM.HTTP1,
        skip_xff_append=True,
        generate_request_id=BoolValue(value=False),
        forward_client_cert_details=_HCM.ALWAYS_FORWARD_ONLY,
        stream_idle_timeout=Duration(),
        access_log=[access_log(f"%FILTER_STATE({hop.LISTENER_STATE}:PLAIN)%", (ASKED_HEADER,))],
        http_filters=[http_filter("penstock.client", hop.client(SERVER_NAMES)), router()],
    )
    result.upgrade_configs.add(upgrade_type=_CONNECT)
    scoped_routes(result.scoped_routes, strip_port=False)
    return hop.listener(SERVER_NAMES, result)


def passed_cluster(target: ServicePort, *, node_netns: str) -> cluster_pb2.Cluster:
    """Build the cluster by which TLS gets to a Service port; *node_netns* as for `policed`."""
    result = base(passed_name(target))
    result.type = cluster_pb2.Cluster.EDS
    result.eds_cluster_config.eds_config.CopyFrom(ads())
    result.upstream_bind_config.CopyFrom(bind(UNREAD if node_netns else 0, None))
    return result


def virtual_hosts(names: Iterable[ServerName]) -> Iterator[route_pb2.VirtualHost]:
    """Build what a scope has for each server name."""
    for name in names:
        yield route_pb2.VirtualHost(
            name=name.hostname, domains=[name.hostname], routes=map(_route, name.ways)
        )


def _route(way: Way) -> route_pb2.Route:
    result = route_pb2.Route()
    result.match.connect_matcher.SetInParent()
    if way.clients:
        match = route_pb2.HeaderMatcher(name=_NAMESPACE, string_match=exact(way.clients))
        result.match.headers.append(match)
    if not sum(one.weight for one in way.backends):
        result.direct_response.status = _NOT_NOW if way.backends else _NOBODY
        return result
    to = result.route
    to.timeout.SetInParent()
    to.upgrade_configs.add(upgrade_type=_CONNECT).connect_config.SetInParent()
    for backend in way.backends:
        to.weighted_clusters.clusters.add(
            name=_cluster_of(backend), weight=UInt32Value(value=backend.weight)
        )
    return result


def _cluster_of(backend: Backend) -> str:
    return passed_name(backend.target) if isinstance(backend, ServiceBackend) else INVALID_CLUSTER
