"""Filter chains of Gateways that pass on what comes as it is: TLS by server name, connections."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
from google.protobuf.duration_pb2 import Duration

from penstock.envoy.cluster import balanced
from penstock.envoy.endpoint import SOCKET
from penstock.envoy.http_connection_manager import to_agent
from penstock.envoy.tls import TlsChain, filter_chain
from penstock.envoy.upstream_tls import secured
from penstock.envoy.wire import pack
from penstock.ir.backend_tls import BackendTls
from penstock.pb.envoy.config.accesslog.v3 import accesslog_pb2
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.listener.v3 import listener_components_pb2
from penstock.pb.envoy.extensions.access_loggers.grpc.v3 import als_pb2
from penstock.pb.envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

_IDLE = Duration(seconds=3600)
SERVER_NAME_TAG = "server-name"
"""Custom tag of the log of connections: the server name that TLS asked for, or "-"."""


class StreamChain(msgspec.Struct, frozen=True, kw_only=True):
    """What comes to a port for a server name, or all of it, and the cluster that gets it."""

    name: str
    cluster: str
    server_name: str = ""
    """Exact, "*.a.test", or "" for all that no other chain has."""
    over_tls: bool = False
    """Whether it is TLS; what is not is refused then."""
    ended: TlsChain | None = None
    """How TLS is ended here; None leaves that to the endpoints."""


def stream_chain(chain: StreamChain) -> listener_components_pb2.FilterChain:
    """Build a filter chain.

    An endpoint that does not answer ends the connection: another one would get the share of those
    that have to be refused.
    """
    proxy = tcp_proxy_pb2.TcpProxy(
        stat_prefix="stream", cluster=chain.cluster, idle_timeout=_IDLE, access_log=[_log()]
    )
    filters = [
        listener_components_pb2.Filter(
            name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy)
        )
    ]
    if chain.ended is not None:
        return filter_chain(chain.ended, filters)
    result = listener_components_pb2.FilterChain(name=chain.name, filters=filters)
    if chain.server_name:
        result.filter_chain_match.server_names.append(chain.server_name)
    if chain.over_tls:
        result.filter_chain_match.transport_protocol = "tls"
    return result


def _log() -> accesslog_pb2.AccessLog:
    """Tell the agent of each connection when it has ended."""
    config = als_pb2.TcpGrpcAccessLogConfig(common_config=to_agent())
    config.common_config.custom_tags.add(tag=SERVER_NAME_TAG, value="%REQUESTED_SERVER_NAME%")
    return accesslog_pb2.AccessLog(name="envoy.access_loggers.tcp_grpc", typed_config=pack(config))


def stream_cluster(
    name: str, sockets: Mapping[str, BackendTls], *, node_netns: str
) -> cluster_pb2.Cluster:
    """Build the cluster of a filter chain.

    Its endpoints have a name of their own for every set of sockets: Envoy takes a new set only
    together with the endpoints that are meant for it, and never meets one by the wrong socket.

    Args:
        name: of the cluster.
        sockets: by name, those of endpoints to which TLS is spoken.
        node_netns: as for `balanced`.
    """
    result = balanced(name, node_netns=node_netns)
    for socket in sorted(sockets):
        match = result.transport_socket_matches.add(name=socket)
        match.match.update({SOCKET: socket})
        match.transport_socket.CopyFrom(secured(sockets[socket]))
    if sockets:
        made = b"".join(
            one.SerializeToString(deterministic=True) for one in result.transport_socket_matches
        )
        digest = hashlib.blake2b(made, digest_size=6).hexdigest()
        result.eds_cluster_config.service_name = f"{name}|{digest}"
    return result


def assignment_name(cluster: cluster_pb2.Cluster) -> str:
    """Return the name of the ClusterLoadAssignment of a cluster."""
    return cluster.eds_cluster_config.service_name or cluster.name
