"""Cluster load assignments."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.pb.envoy.config.endpoint.v3 import endpoint_pb2


def load_assignment(
    cluster: str, endpoints: Iterable[tuple[str, int]]
) -> endpoint_pb2.ClusterLoadAssignment:
    """Build the assignment of *cluster*: ready (address, port) pairs, equal weights.

    An empty one is an answer too: requests get 503.
    """
    result = endpoint_pb2.ClusterLoadAssignment(cluster_name=cluster)
    locality = result.endpoints.add()
    for address, port in endpoints:
        place = locality.lb_endpoints.add().endpoint.address.socket_address
        place.address, place.port_value = address, port
    return result
