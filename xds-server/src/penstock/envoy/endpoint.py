"""Cluster load assignments."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from penstock.pb.envoy.config.endpoint.v3 import endpoint_pb2

Place = tuple[str, int]
"""Address and port."""
SOCKET_MATCH, SOCKET = "envoy.transport_socket_match", "socket"
"""Where the metadata of an endpoint name its transport socket."""


def load_assignment(
    cluster: str,
    endpoints: Iterable[Place],
    weights: Iterable[int] = (),
    sockets: Iterable[str] = (),
) -> endpoint_pb2.ClusterLoadAssignment:
    """Build the assignment of *cluster*; an empty one is an answer too: requests get 503.

    Args:
        cluster: its name.
        endpoints: who is ready.
        weights: of each of them, 1 or more; all are equal without.
        sockets: for each of them the name of the transport socket of the cluster by which it is
            met, "" for that of the others.
    """
    result = endpoint_pb2.ClusterLoadAssignment(cluster_name=cluster)
    locality = result.endpoints.add()
    shares, met_by = iter(weights), iter(sockets)
    for address, port in endpoints:
        made = locality.lb_endpoints.add()
        place = made.endpoint.address.socket_address
        place.address, place.port_value = address, port
        if weight := next(shares, 0):
            made.load_balancing_weight.value = weight
        if name := next(met_by, ""):
            made.metadata.filter_metadata[SOCKET_MATCH].update({SOCKET: name})
    return result


def assignment_bytes(cluster: str, endpoints: tuple[Place, ...]) -> bytes:
    """Return the same, serialised, where all endpoints are equal.

    A Service has the same endpoints in every cluster, so they are serialised once for all.
    """
    named = endpoint_pb2.ClusterLoadAssignment(cluster_name=cluster)
    return named.SerializeToString(deterministic=True) + _unnamed(endpoints)


@functools.lru_cache(maxsize=64)
def _unnamed(endpoints: tuple[Place, ...]) -> bytes:
    """Return what follows the name."""
    return load_assignment("", endpoints).SerializeToString(deterministic=True)
