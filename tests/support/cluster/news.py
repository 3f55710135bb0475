"""What a cluster says of itself when a test on it has failed."""

from __future__ import annotations

from support.cluster.cluster import Cluster

EVENTS = 40
"""How many are told, the newest."""


def news(cluster: Cluster) -> str:
    """Return nodes, pods, the endpoints of DNS and the newest events, as kubectl shows them."""
    asked = (
        ("get", "nodes", "-o", "wide"),
        ("get", "pods", "-A", "-o", "wide"),
        ("get", "endpointslices", "-n", "kube-system", "-o", "yaml"),
    )
    told = [cluster.kubectl(*words, check=False) for words in asked]
    events = cluster.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False)
    return "\n".join((*told, *events.splitlines()[-EVENTS:]))
