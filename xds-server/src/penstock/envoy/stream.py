"""Filter chains of Gateways that pass on what comes as it is: TLS by server name, connections."""

from __future__ import annotations

import msgspec
from google.protobuf.duration_pb2 import Duration

from penstock.envoy.tls import TlsChain, filter_chain
from penstock.envoy.wire import pack
from penstock.pb.envoy.config.listener.v3 import listener_components_pb2
from penstock.pb.envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

_IDLE = Duration(seconds=3600)


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
    proxy = tcp_proxy_pb2.TcpProxy(stat_prefix="stream", cluster=chain.cluster, idle_timeout=_IDLE)
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
