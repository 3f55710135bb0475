"""Scoped route configurations: one per (role, destination), found by a header nobody can forge.

Every HTTP connection manager of a node shares one subscription. Early header mutation removes the
header that a client may have sent and sets ours, so the key says which listener took the request.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from google.protobuf.any_pb2 import Any
from google.protobuf.wrappers_pb2 import BoolValue

from penstock.pb.envoy.config.route.v3 import route_components_pb2, route_pb2, scoped_route_pb2

SCOPE_HEADER = "x-penstock-scope"
HIDDEN_HEADERS = (
    SCOPE_HEADER,
    "x-penstock-identity",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-is-timeout-retry",
    "x-envoy-original-dst-host",
    "x-envoy-original-path",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
    "x-original-url",
    "x-rewrite-url",
)
"""Request headers that no backend ever sees: ours, and those by which a client could steer."""


def egress_key(destination: str) -> str:
    """Return the key of what pods reach at "address:port"."""
    return f"eg|{destination}"


def server_name_key(destination: str) -> str:
    """Return the key of what pods reach at "address:port" by TLS, where server names matter."""
    return f"sni|{destination}"


def inbound_key(destination: str) -> str:
    """Return the key of what a pod offers at "address:port"."""
    return f"in|{destination}"


def gateway_key(listener: str, host: str) -> str:
    """Return the key of *host* ("*" for wildcards and all others) on a gateway's listener."""
    return f"gw|{listener}|{host}"


def destination(address: str, port: int) -> str:
    """Return "address:port" as Envoy prints it: IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def scope(
    key: str,
    hosts: Iterable[route_components_pb2.VirtualHost] = (),
    per_filter: dict[str, Any] | None = None,
) -> scoped_route_pb2.ScopedRouteConfiguration:
    """Build the scope named *key* with its routes inline; more hosts can be added in place."""
    result = scoped_route_pb2.ScopedRouteConfiguration(name=key)
    result.key.fragments.add(string_key=key)
    routes = result.route_configuration
    routes.MergeFromString(_common())
    routes.name = key
    for host in hosts:
        routes.virtual_hosts.append(host)
    for name, config in (per_filter or {}).items():
        routes.typed_per_filter_config[name].CopyFrom(config)
    return result


@functools.cache
def _common() -> bytes:
    """Return what the routes of all scopes have in common, as a RouteConfiguration."""
    return route_pb2.RouteConfiguration(
        request_headers_to_remove=HIDDEN_HEADERS,
        ignore_port_in_host_matching=True,
        # Inline routes are checked by default: the cluster of an invalid backend would have the
        # whole scope refused.
        validate_clusters=BoolValue(value=False),
    ).SerializeToString(deterministic=True)
