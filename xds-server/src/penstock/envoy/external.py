"""Clusters of places outside of the cluster, found by DNS.

Who answers for a name in DNS decides where requests go. What no name should lead to is refused
after it is looked up: the node itself, and addresses that mean something on its link only, as those
by which clouds give out credentials.

Pods dial from where they are, with their own address and without a mark: what they reach is judged
there, too, should it be a pod. Gateways say by a mark that they are Gateways, for the same reason.
"""

from __future__ import annotations

import functools

from penstock.envoy.cluster import (
    HTTP_OPTIONS,
    Protocol,
    base,
    bind,
    egress_rules_name,
    rules_of,
    spoken,
)
from penstock.envoy.rbac import Network, refusing
from penstock.envoy.upstream_tls import secure
from penstock.envoy.wire import extension, pack
from penstock.ir.external import External, target_of_xbackend
from penstock.meta.marks import GATEWAY
from penstock.meta.names import NamespacedName
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.core.v3 import extension_pb2
from penstock.pb.envoy.extensions.clusters.common.dns.v3 import dns_pb2
from penstock.pb.envoy.extensions.clusters.dns.v3 import dns_cluster_pb2
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from penstock.pb.envoy.extensions.network.dns_resolver.cares.v3 import (
    cares_dns_resolver_pb2 as cares_pb2,
)

REFUSED: tuple[Network, ...] = (
    ("0.0.0.0", 8),  # noqa: S104 - nothing listens
    ("127.0.0.0", 8),
    ("169.254.0.0", 16),
    ("::", 127),
    ("::ffff:0.0.0.0", 104),
    ("::ffff:127.0.0.0", 104),
    ("::ffff:169.254.0.0", 112),
    ("fe80::", 10),
    ("100.100.100.200", 32),
    ("168.63.129.16", 32),
    ("fd00:ec2::", 32),
    ("fd20:ce::254", 128),
)
"""What no name may lead to. The last four are like 169.254.0.0/16 in Alibaba Cloud, Azure (its own
agent's), AWS and Google Cloud, elsewhere."""


def external_name(backend: NamespacedName, *, mesh: bool) -> str:
    """Return the name of the cluster of an XBackend, for Gateways or for pods."""
    return f"{'mesh-host' if mesh else 'host'}|{backend}"


def external_rules_name(backend: NamespacedName) -> str:
    """Return the name of the extension config with the clients' egress rules."""
    return egress_rules_name(target_of_xbackend(backend))


def external_cluster(
    name: NamespacedName, place: External, protocol: Protocol, *, mesh: bool, node_netns: str
) -> cluster_pb2.Cluster:
    """Build the cluster of an XBackend.

    Args:
        name: of the XBackend.
        place: where it is.
        protocol: what it is spoken to in.
        mesh: for pods, each of which dials from where it is.
        node_netns: network namespace from where Gateways dial; "" is the present one.
    """
    result = base(external_name(name, mesh=mesh))
    dns = dns_cluster_pb2.DnsCluster(respect_dns_ttl=True)
    dns.dns_lookup_family = dns_pb2.V4_PREFERRED
    dns.typed_dns_resolver_config.CopyFrom(_whole_names())
    result.cluster_type.name = "envoy.cluster.dns"
    result.cluster_type.typed_config.CopyFrom(pack(dns))
    # Else a name that nobody answers for keeps all other clusters waiting.
    result.wait_for_warm_on_init.value = False
    result.load_assignment.cluster_name = result.name
    endpoint = result.load_assignment.endpoints.add().lb_endpoints.add().endpoint
    endpoint.address.socket_address.address = place.hostname
    endpoint.address.socket_address.port_value = place.port
    mark = GATEWAY if node_netns and not mesh else 0
    result.upstream_bind_config.CopyFrom(bind(mark, None if mesh else node_netns))
    filters = [rules_of(external_rules_name(name))] if mesh else []
    options = spoken(protocol, [*filters, _refusal()])
    result.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(options)
    if place.tls is not None:
        secure(result, place.tls, http2=protocol is Protocol.HTTP2)
    return result


@functools.cache
def _whole_names() -> extension_pb2.TypedExtensionConfig:
    """Return a resolver for names as they are written; nobody may change it.

    With the search domains of a cluster "web.shop.svc" would be a Service of whatever namespace.
    """
    cares = cares_pb2.CaresDnsResolverConfig()
    cares.dns_resolver_options.no_default_search_domain = True
    return extension("envoy.network.dns_resolver.cares", cares)


@functools.cache
def _refusal() -> hcm_pb2.HttpFilter:
    return hcm_pb2.HttpFilter(name="penstock.refused", typed_config=pack(refusing(REFUSED)))
