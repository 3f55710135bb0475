"""Clusters: one for each Service port and role, and one for the applications themselves.

A mesh cluster dials from inside the client's pod, with the pod's own address, wherever the client
is: the listener's network namespace travels as filter state. Its connections carry the mark
"policed" because its two upstream filters enforce the client's egress rules and the server's
ingress rules on the endpoint that was chosen. The mark is a privilege, so it never stands without
the filters: `policed` builds both or none.
"""

from __future__ import annotations

import enum
import functools
import hashlib

import msgspec
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from penstock.envoy.wire import ads, extension, pack, type_url
from penstock.ir.route import ServicePort
from penstock.ir.upstream import Upstream
from penstock.meta.marks import GATEWAY, POLICED, POLICED_GATEWAY
from penstock.meta.names import NamespacedName
from penstock.pb.envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from penstock.pb.envoy.config.core.v3 import (
    address_pb2,
    config_source_pb2,
    protocol_pb2,
    socket_option_pb2,
)
from penstock.pb.envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from penstock.pb.envoy.extensions.filters.http.upstream_codec.v3 import upstream_codec_pb2
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from penstock.pb.envoy.extensions.local_address_selectors.filter_state_override.v3 import (
    config_pb2 as override_pb2,
)
from penstock.pb.envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as options_pb2

APP_CLUSTER = "app"
"""The application of the pod whose ingress listener took the request."""

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_SOL_SOCKET, _SO_MARK = 1, 36
_CONNECT_TIMEOUT = Duration(seconds=2)
_MANY = UInt32Value(value=1 << 16)


class Role(enum.StrEnum):
    """For whom a cluster of a Service port is."""

    MESH = "mesh"
    GATEWAY = "gw"
    AUTH = "auth"
    AUTH_GRPC = "auth-grpc"
    """For questions whether a request may pass, by HTTP and by gRPC; they leave from a Gateway."""
    TRACES = "traces"
    """For what a Gateway tells a collector of its requests."""


JUDGED = frozenset({Role.MESH, Role.GATEWAY})
"""Roles whose requests the upstream filters of the cluster see."""


class Protocol(enum.StrEnum):
    """What the endpoints speak."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    SAME = "same"
    """As the client: HTTP/1.1 or HTTP/2 without TLS."""


def cluster_name(role: Role, target: ServicePort) -> str:
    """Return the name of the Cluster and of its ClusterLoadAssignment."""
    return f"{role}|{target}"


def showing_name(target: ServicePort, secret: NamespacedName) -> str:
    """Return the name of a Cluster for Gateways that show a certificate to the endpoints."""
    return f"{cluster_name(Role.GATEWAY, target)}|{secret}"


def met_name(target: ServicePort, upstream: Upstream) -> str:
    """Return the name of a Cluster for routes that say how the endpoints are met."""
    digest = hashlib.blake2b(msgspec.json.encode(upstream), digest_size=6).hexdigest()
    return f"{cluster_name(Role.GATEWAY, target)}|{digest}"


def auth_cluster_name(target: ServicePort, grpc: bool) -> str:  # noqa: FBT001 - of a callback
    """Return the name of the Cluster in which a Service port is asked whether requests may pass."""
    return cluster_name(Role.AUTH_GRPC if grpc else Role.AUTH, target)


def egress_rules_name(target: ServicePort) -> str:
    """Return the name of the extension config with the clients' egress rules."""
    return f"eg|{target}"


def ingress_rules_name(target: ServicePort) -> str:
    """Return the name of the extension config with the servers' ingress rules."""
    return f"in|{target}"


def policed(
    role: Role, target: ServicePort, protocol: Protocol, *, node_netns: str
) -> cluster_pb2.Cluster:
    """Build the cluster of a Service port for *role*.

    Args:
        role: for whom it is.
        target: the Service port.
        protocol: what the endpoints speak.
        node_netns: the node's network namespace, from where gateways dial; "" is the present one,
            and no eBPF: nobody reads marks there, and to set one is a right that an ordinary user
            has not.
    """
    return _policed(role, str(target), protocol, node_netns)


def policed_bytes(role: Role, target: ServicePort, protocol: Protocol, *, node_netns: str) -> bytes:
    """Return what `policed` builds, serialised.

    These clusters differ in their names only, so one is built for each length of a name, and all
    others are that one with the name put in.
    """
    place = str(target).encode()
    blank = _BLANK * len(place)
    return _blank_cluster(role, len(place), protocol, node_netns).replace(blank, place)


@functools.lru_cache(maxsize=2048)
def _blank_cluster(role: Role, length: int, protocol: Protocol, node_netns: str) -> bytes:
    blank = _BLANK.decode() * length
    return _policed(role, blank, protocol, node_netns).SerializeToString(deterministic=True)


_BLANK = b"~"
"""Stands in no name and nowhere else in a cluster."""


def _policed(role: Role, place: str, protocol: Protocol, node_netns: str) -> cluster_pb2.Cluster:
    result = base(f"{role}|{place}")
    result.type = cluster_pb2.Cluster.EDS
    result.eds_cluster_config.eds_config.CopyFrom(ads())
    filters = [rules_of(f"eg|{place}"), rules_of(f"in|{place}")]
    mark = POLICED if role is Role.MESH else POLICED_GATEWAY
    source = bind(mark if node_netns else 0, None if role is Role.MESH else node_netns)
    result.upstream_bind_config.CopyFrom(source)
    result.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(spoken(protocol, filters))
    return result


def asked(
    role: Role, target: ServicePort, protocol: Protocol, *, node_netns: str
) -> cluster_pb2.Cluster:
    """Build a cluster for questions, which upstream filters do not see.

    The kernel of the server's node judges the connection. Arguments as of `policed`.
    """
    result = balanced(cluster_name(role, target), node_netns=node_netns)
    result.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(spoken(protocol, []))
    return result


def balanced(name: str, *, node_netns: str, by_source: bool = False) -> cluster_pb2.Cluster:
    """Build a cluster for bytes or datagrams at which nobody looks: the mark says only by whom.

    Args:
        name: of the cluster.
        node_netns: as for `policed`.
        by_source: whether a hash of the client's address chooses the endpoint.
    """
    result = base(name)
    result.type = cluster_pb2.Cluster.EDS
    if by_source:
        result.lb_policy = cluster_pb2.Cluster.MAGLEV
    result.eds_cluster_config.eds_config.CopyFrom(ads())
    result.upstream_bind_config.CopyFrom(bind(GATEWAY if node_netns else 0, node_netns))
    return result


def application() -> cluster_pb2.Cluster:
    """Build the cluster of the ingress listeners: the original destination, from inside the pod.

    Source and destination are the pod's own address, so the connection needs no mark.
    """
    result = base(APP_CLUSTER)
    result.type = cluster_pb2.Cluster.ORIGINAL_DST
    result.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
    result.upstream_bind_config.CopyFrom(bind(0, None))
    result.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(spoken(Protocol.SAME, []))
    return result


def base(name: str) -> cluster_pb2.Cluster:
    """Return what all clusters have in common."""
    result = cluster_pb2.Cluster(name=name, connect_timeout=_CONNECT_TIMEOUT)
    # Endpoint changes are applied one by one, and no endpoint means 503, never "all of them".
    result.common_lb_config.update_merge_window.CopyFrom(Duration())
    result.common_lb_config.healthy_panic_threshold.value = 0
    result.circuit_breakers.thresholds.append(
        circuit_breaker_pb2.CircuitBreakers.Thresholds(
            max_connections=_MANY,
            max_pending_requests=_MANY,
            max_requests=_MANY,
            max_retries=_MANY,  # by itself Envoy repeats three requests at a time
        )
    )
    return result


def bind(mark: int, netns: str | None) -> address_pb2.BindConfig:
    """Dial from *netns* ("" is where Envoy runs), or with None from the pod of the listener.

    Where there are namespaces they are named: after a listener could not be opened in one, Envoy's
    threads may be left in it.
    """

    def any_address(address: str) -> address_pb2.SocketAddress:
        return address_pb2.SocketAddress(
            address=address, port_value=0, network_namespace_filepath=netns or ""
        )

    result = address_pb2.BindConfig(source_address=any_address("0.0.0.0"))  # noqa: S104 - all addresses are meant
    # Without a source address of its own family an IPv6 endpoint is a local connection failure.
    result.extra_source_addresses.add().address.CopyFrom(any_address("::"))
    if netns is None:
        result.local_address_selector.CopyFrom(
            extension(
                "envoy.upstream.local_address_selector.filter_state_override",
                override_pb2.Config(),
            )
        )
    if mark:
        signed = mark - (1 << 32) if mark >= 1 << 31 else mark
        result.socket_options.append(
            socket_option_pb2.SocketOption(
                description="penstock mark",
                level=_SOL_SOCKET,
                name=_SO_MARK,
                int_value=signed,
                state=socket_option_pb2.SocketOption.STATE_PREBIND,
            )
        )
    return result


def spoken(protocol: Protocol, filters: list[hcm_pb2.HttpFilter]) -> Any:
    """Return the options of a cluster that speaks *protocol*, with upstream *filters* if any."""
    result = options_pb2.HttpProtocolOptions()
    match protocol:
        case Protocol.HTTP1:
            result.explicit_http_config.http_protocol_options.SetInParent()
        case Protocol.HTTP2:
            result.explicit_http_config.http2_protocol_options.SetInParent()
        case Protocol.SAME:
            same = result.use_downstream_protocol_config
            same.http_protocol_options.CopyFrom(protocol_pb2.Http1ProtocolOptions())
            same.http2_protocol_options.CopyFrom(protocol_pb2.Http2ProtocolOptions())
    if filters:
        codec = hcm_pb2.HttpFilter(
            name="envoy.filters.http.upstream_codec",
            typed_config=pack(upstream_codec_pb2.UpstreamCodec()),
        )
        result.http_filters.extend([*filters, codec])
    return pack(result)


def rules_of(name: str) -> hcm_pb2.HttpFilter:
    """Return an upstream filter whose rules are the extension config *name*."""
    source = config_source_pb2.ExtensionConfigSource(
        config_source=ads(), type_urls=[type_url(http_rbac_pb2.RBAC)]
    )
    return hcm_pb2.HttpFilter(name=name, config_discovery=source)
