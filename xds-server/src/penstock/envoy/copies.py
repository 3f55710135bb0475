"""Copies of requests: each is a request of its own, of the same client, on a listener of the node.

Envoy sends a copy without the connection that the request came by, so upstream filters would not
know who asks, and it would leave from elsewhere than the client's pod. Therefore a copy goes to a
unix socket first, with headers that Envoy itself writes: who the client is, from where to dial, by
which listener the request came, and to which cluster it goes. Behind the socket all of that is
filter state again, and the copy is judged, dialled and logged as any request of that client.

The socket lies in the run folder, where only root can reach it.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from penstock.envoy import hop
from penstock.envoy.cluster import HTTP_OPTIONS, Protocol, spoken
from penstock.envoy.hop import Hop
from penstock.envoy.http_connection_manager import access_log, http_filter, router
from penstock.envoy.scope import HIDDEN_HEADERS
from penstock.envoy.wire import pack
from penstock.ir.route import Mirror
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from penstock.pb.envoy.config.core.v3 import base_pb2
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.pb.envoy.config.route.v3 import route_components_pb2 as route_pb2
from penstock.pb.envoy.config.route.v3 import route_pb2 as routes_pb2
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from penstock.pb.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    header_mutation_pb2,
)
from penstock.pb.envoy.type.v3 import percent_pb2

COPIES = "copies"
"""The listener, and the first part of the names of the clusters that lead to it."""
HOP = Hop(name=COPIES, socket="copies.sock", headers="x-penstock-copy")
PROTOCOLS = (Protocol.HTTP1, Protocol.HTTP2)
"""In which copies can be sent."""

_CLUSTER = "x-penstock-copy-cluster"
_FORWARDED = "x-penstock-copy-forwarded-for"
_FORWARDED_FOR = "x-forwarded-for"
_SILENCE = Duration(seconds=300)
"""A copy that nobody answers ends then."""
_MILLION = 1_000_000
_HCM = hcm_pb2.HttpConnectionManager


def cluster_name(*, http2: bool) -> str:
    """Return the name of the cluster by which copies get to the listener."""
    return f"{COPIES}|{(Protocol.HTTP2 if http2 else Protocol.HTTP1).value}"


def policy(mirror: Mirror, to: str) -> route_pb2.RouteAction.RequestMirrorPolicy:
    """Return what a route says of copies.

    Args:
        mirror: which requests are copied.
        to: the cluster that they are for.
    """
    written = {
        **HOP.who,
        _CLUSTER: to,
        _FORWARDED: f"%REQ({_FORWARDED_FOR})%",
    }
    result = route_pb2.RouteAction.RequestMirrorPolicy(
        cluster=cluster_name(http2=mirror.http2),
        disable_shadow_host_suffix_append=True,
        request_headers_mutations=[one for pair in written.items() for one in _set(*pair)],
    )
    if mirror.numerator < mirror.denominator:
        share = result.runtime_fraction.default_value
        share.numerator = mirror.numerator * _MILLION // mirror.denominator
        share.denominator = percent_pb2.FractionalPercent.MILLION
    return result


def cluster(protocol: Protocol) -> cluster_pb2.Cluster:
    """Build the cluster by which copies get to the listener, in one of `PROTOCOLS`."""
    result = hop.cluster(HOP, cluster_name(http2=protocol is Protocol.HTTP2))
    result.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(spoken(protocol, []))
    return result


def listener() -> listener_pb2.Listener:
    """Build the listener for copies."""
    return hop.listener(HOP, _manager())


def _manager() -> hcm_pb2.HttpConnectionManager:
    """Return a manager that changes nothing: the request has been cleaned and rewritten before."""
    own = header_mutation_pb2.HeaderMutation(mutations=_set(_FORWARDED_FOR, f"%REQ({_FORWARDED})%"))
    result = _HCM(
        stat_prefix=COPIES,
        codec_type=_HCM.AUTO,
        skip_xff_append=True,
        generate_request_id=BoolValue(value=False),
        forward_client_cert_details=_HCM.ALWAYS_FORWARD_ONLY,
        max_request_headers_kb=UInt32Value(value=96),
        stream_idle_timeout=_SILENCE,
        access_log=[access_log(f"%FILTER_STATE({hop.LISTENER_STATE}:PLAIN)%")],
        route_config=_routes(),
        http_filters=[http_filter("penstock.client", hop.client(HOP)), router()],
    )
    mutation = result.early_header_mutation_extensions.add()
    mutation.name = "envoy.http.early_header_mutation.header_mutation"
    mutation.typed_config.CopyFrom(pack(own))
    result.upgrade_configs.add(upgrade_type="websocket")
    return result


def _routes() -> routes_pb2.RouteConfiguration:
    host = route_pb2.VirtualHost(name="*", domains=["*"])
    route = host.routes.add(match=route_pb2.RouteMatch(prefix="/"))
    route.route.cluster_header = _CLUSTER
    route.route.timeout.SetInParent()
    ours = (*HOP.who, _CLUSTER, _FORWARDED)
    return routes_pb2.RouteConfiguration(
        name=COPIES, virtual_hosts=[host], request_headers_to_remove=[*HIDDEN_HEADERS, *ours]
    )


def _set(name: str, value: str) -> Sequence[mutation_rules_pb2.HeaderMutation]:
    """Return that a header has this value and, where that is nothing, is not there at all."""
    return (
        mutation_rules_pb2.HeaderMutation(remove=name),
        mutation_rules_pb2.HeaderMutation(
            append=base_pb2.HeaderValueOption(
                append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
                header=base_pb2.HeaderValue(key=name, value=value),
            )
        ),
    )
