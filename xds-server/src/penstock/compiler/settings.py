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
    CLUSTER = "cluster"
    """On the nodes that answer for the Gateway's addresses, in their own network namespaces."""


class Addressing(enum.Enum):
    """Where Gateways of a cluster get their addresses from."""

    POOL = "pool"
    """From a pool; one node answers for each address."""
    NODES = "nodes"
    """The addresses of the nodes, each of which serves every Gateway."""
    LOAD_BALANCER = "loadbalancer"
    """From a Service of type LoadBalancer that somebody else gives an address: a cloud. Every node
    serves every Gateway at the node ports of its Service."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Names and ranges of the cluster."""

    cluster: str = "default"
    """Name of the cluster, part of identities."""
    gateway_pool: str = GATEWAY_NETWORK
    """Addresses for Gateways, as `penstock.core.ranges` reads them. A lab's only node has all of
    them as local, and keeps the first for itself."""
    addressing: Addressing = Addressing.POOL
    system_namespace: str = ""
    """Namespace of Penstock's own pods, which are not captured; "" for none."""
    node_netns: str = netns_of(NODE_NETNS)
    """Network namespace of the node, relative to Envoy's working folder."""
    host_netns: str = netns_of(HOST_NETNS)
    """Network namespace in which Gateways are published, relative to Envoy's working folder."""
    reach: Reach = Reach.NODE
    system_authorities: bytes = b""
    """Certificates in PEM for wellKnownCACertificates: System; empty if there are none."""
    published_offset: int = 8000
    """Ports below 1024 are published that much higher."""

    @property
    def dial_netns(self) -> str:
        """Return the network namespace from where Gateways dial; "" is where Envoy runs.

        The node's in a lab. In a cluster that of Envoy's own pod, by whose address servers know
        that a request comes from a Gateway.
        """
        return "" if self.reach is Reach.HOST else self.node_netns
