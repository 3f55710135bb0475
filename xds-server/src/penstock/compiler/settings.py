"""What is fixed for one run of the compiler."""

from __future__ import annotations

import enum

import msgspec

from penstock.meta.networks import GATEWAY_NETWORK
from penstock.meta.paths import HOST_NETNS, NODE_NETNS, netns_of


class Reach(enum.Enum):
    """Where listeners of Gateways open."""

    NODE = "node"
    """At the Gateway's own address on the node, and published on the host's loopback."""
    HOST = "host"
    """On the host's loopback only: no namespaces, no eBPF."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Names and ranges of the cluster."""

    cluster: str = "default"
    """Name of the cluster, part of identities."""
    gateway_network: str = GATEWAY_NETWORK
    """Pool of Gateway addresses; every node has all of it as local."""
    node_netns: str = netns_of(NODE_NETNS)
    """Network namespace of the node, relative to Envoy's working folder."""
    host_netns: str = netns_of(HOST_NETNS)
    """Network namespace in which Gateways are published, relative to Envoy's working folder."""
    reach: Reach = Reach.NODE
    published_offset: int = 8000
    """Ports below 1024 are published that much higher."""
