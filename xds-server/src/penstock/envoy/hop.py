"""Listeners of the node behind a unix socket, on which Envoy goes on for the client of a pod.

What Envoy sends to itself forgets who began it. So whoever leads there says in headers, which Envoy
itself writes, who the client is, from where to dial, and by which listener it came. Behind the
socket all of that is filter state again.

The sockets lie in the run folder, where only root can reach them.
"""

from __future__ import annotations

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from penstock.envoy.http_connection_manager import LISTENER_NAME
from penstock.envoy.rbac import IDENTITY_KEY
from penstock.envoy.wire import pack
from penstock.pb.envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from penstock.pb.envoy.config.core.v3 import address_pb2, base_pb2, substitution_format_string_pb2
from penstock.pb.envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from penstock.pb.envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from penstock.pb.envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from penstock.pb.envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)

BIND_STATE = "envoy.network.upstream_bind_override.network_namespace"
"""Filter state from where connections are dialled."""
LISTENER_STATE = "penstock.listener"
"""Filter state by which listener the client came."""
BUFFER = UInt32Value(value=32 * 1024)
_ROOT_ONLY = 0o600
_MANY = UInt32Value(value=1 << 16)


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """One of these listeners."""

    name: str
    """Of the listener."""
    socket: str
    """Below the folder that Envoy runs in."""
    headers: str
    """What the names of its headers begin with."""

    @property
    def who(self) -> dict[str, str]:
        """Return the headers that say who the client is, with format strings of values."""
        return {
            f"{self.headers}-identity": f"%FILTER_STATE({IDENTITY_KEY}:PLAIN)%",
            f"{self.headers}-netns": f"%FILTER_STATE({BIND_STATE}:PLAIN)%",
            f"{self.headers}-listener": LISTENER_NAME,
        }


def client(hop: Hop) -> set_filter_state_pb2.Config:
    """Return the filter that takes over who asks, as the listener that took the request said it."""
    kept = {IDENTITY_KEY: f"{hop.headers}-identity", LISTENER_STATE: f"{hop.headers}-listener"}
    values = [
        value_pb2.FilterStateValue(
            object_key=key, factory_key="envoy.string", format_string=text(f"%REQ({header})%")
        )
        for key, header in kept.items()
    ]
    netns = value_pb2.FilterStateValue(
        object_key=BIND_STATE,
        factory_key="envoy.hashable_string",
        shared_with_upstream=value_pb2.FilterStateValue.ONCE,
        format_string=text(f"%REQ({hop.headers}-netns)%"),
        skip_if_empty=True,
    )
    netns.format_string.omit_empty_values = True
    return set_filter_state_pb2.Config(on_request_headers=[*values, netns])


def cluster(hop: Hop, name: str) -> cluster_pb2.Cluster:
    """Build a cluster that leads there."""
    here = endpoint_components_pb2.Endpoint(address=_socket(hop))
    assignment = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    assignment.endpoints.add(lb_endpoints=[endpoint_components_pb2.LbEndpoint(endpoint=here)])
    result = cluster_pb2.Cluster(name=name, load_assignment=assignment)
    result.connect_timeout.CopyFrom(Duration(seconds=2))
    result.circuit_breakers.thresholds.append(
        circuit_breaker_pb2.CircuitBreakers.Thresholds(
            max_connections=_MANY, max_pending_requests=_MANY, max_requests=_MANY
        )
    )
    return result


def listener(hop: Hop, manager: hcm_pb2.HttpConnectionManager) -> listener_pb2.Listener:
    """Build the listener, which hands what comes to *manager*."""
    taken = listener_components_pb2.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=pack(manager)
    )
    return listener_pb2.Listener(
        name=hop.name,
        address=_socket(hop),
        per_connection_buffer_limit_bytes=BUFFER,
        filter_chains=[listener_components_pb2.FilterChain(name=hop.name, filters=[taken])],
        enable_reuse_port=BoolValue(value=False),
    )


def _socket(hop: Hop) -> address_pb2.Address:
    return address_pb2.Address(pipe=address_pb2.Pipe(path=hop.socket, mode=_ROOT_ONLY))


def text(template: str) -> substitution_format_string_pb2.SubstitutionFormatString:
    """Return a format string."""
    return substitution_format_string_pb2.SubstitutionFormatString(
        text_format_source=base_pb2.DataSource(inline_string=template)
    )
