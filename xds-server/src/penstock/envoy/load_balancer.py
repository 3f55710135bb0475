"""Listeners and clusters of Services of type LoadBalancer: what comes is passed on as it is."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value, UInt64Value

from penstock.envoy.wire import pack, socket_address
from penstock.pb.envoy.config.core.v3 import address_pb2, udp_socket_config_pb2
from penstock.pb.envoy.config.listener.v3 import (
    listener_components_pb2,
    listener_pb2,
    udp_listener_config_pb2,
)
from penstock.pb.envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from penstock.pb.envoy.extensions.filters.udp.udp_proxy.v3 import route_pb2, udp_proxy_pb2

_BUFFER = UInt32Value(value=32 * 1024)
_ATTEMPTS = UInt32Value(value=3)
"""Endpoints that are tried: one that went a moment ago costs no connection."""
_IDLE = Duration(seconds=3600)
_LARGEST = UInt64Value(value=65_535)
"""Bytes of a datagram: all there are. By itself Envoy drops what is larger than 1,500."""


class BalancedListener(msgspec.Struct, frozen=True, kw_only=True):
    """A port of a LoadBalancer on a node."""

    name: str
    cluster: str
    addresses: tuple[tuple[str, int, str], ...]
    """(address, port, network namespace path); the first is the listener's own."""
    sources: tuple[str, ...] = ()
    """Networks of the clients that are let in; () for all."""
    by_source: bool = False
    """Whether a client is led to the same endpoint each time."""


def balanced(listener: BalancedListener) -> listener_pb2.Listener:
    """Build a listener for TCP. It may open before its addresses are on a link of the node."""
    proxy = tcp_proxy_pb2.TcpProxy(
        stat_prefix="load_balancer",
        cluster=listener.cluster,
        idle_timeout=_IDLE,
        max_connect_attempts=_ATTEMPTS,
    )
    if listener.by_source:
        proxy.hash_policy.add().source_ip.SetInParent()
    chain = listener_components_pb2.FilterChain(
        name=listener.name,
        filters=[
            listener_components_pb2.Filter(
                name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy)
            )
        ],
    )
    if listener.sources:  # a connection that fits no chain is closed
        chain.filter_chain_match.source_prefix_ranges.extend(_ranges(listener.sources))
    result = _opened(listener, address_pb2.SocketAddress.TCP)
    result.filter_chains.append(chain)
    return result


def balanced_datagrams(listener: BalancedListener) -> listener_pb2.Listener:
    """Build a listener for UDP: datagrams of one client go to one endpoint while they keep coming.

    It lets in all sources, whatever `listener` says.
    """
    proxy = udp_proxy_pb2.UdpProxyConfig(stat_prefix="load_balancer")
    proxy.upstream_socket_config.max_rx_datagram_size.CopyFrom(_LARGEST)
    if listener.by_source:
        proxy.hash_policies.add(source_ip=True)
    action = proxy.matcher.on_no_match.action
    action.name = "route"
    action.typed_config.CopyFrom(pack(route_pb2.Route(cluster=listener.cluster)))
    result = _opened(listener, address_pb2.SocketAddress.UDP)
    sizes = udp_socket_config_pb2.UdpSocketConfig(max_rx_datagram_size=_LARGEST)
    result.udp_listener_config.CopyFrom(
        udp_listener_config_pb2.UdpListenerConfig(downstream_socket_config=sizes)
    )
    result.listener_filters.append(
        listener_components_pb2.ListenerFilter(
            name="envoy.filters.udp_listener.udp_proxy", typed_config=pack(proxy)
        )
    )
    return result


def _opened(
    listener: BalancedListener, protocol: address_pb2.SocketAddress.Protocol
) -> listener_pb2.Listener:
    addresses = [socket_address(*one) for one in listener.addresses]
    for address in addresses:
        address.socket_address.protocol = protocol
    result = listener_pb2.Listener(
        name=listener.name,
        address=addresses[0],
        per_connection_buffer_limit_bytes=_BUFFER,
        enable_reuse_port=BoolValue(value=True),
        freebind=BoolValue(value=True),
    )
    for address in addresses[1:]:
        result.additional_addresses.add(address=address)
    return result


def _ranges(networks: Sequence[str]) -> list[address_pb2.CidrRange]:
    parsed = sorted({ipaddress.ip_network(one.strip(), strict=False) for one in networks}, key=str)
    return [
        address_pb2.CidrRange(
            address_prefix=str(one.network_address), prefix_len=UInt32Value(value=one.prefixlen)
        )
        for one in parsed
    ]
