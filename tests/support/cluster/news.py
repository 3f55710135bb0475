"""What a cluster says of itself when a test on it has failed."""

from __future__ import annotations

from support.cluster.cluster import Cluster
from support.cluster.install import NAMESPACE

EVENTS = 40
"""How many are told, the newest."""


def news(cluster: Cluster) -> str:
    """Return what a failure is to be explained with, as kubectl shows it.

    That is nodes, pods, Services, Gateways, the endpoints of DNS, what the controllers logged last,
    and the newest events.
    """
    asked = (
        ("get", "nodes", "-o", "wide"),
        ("get", "pods", "-A", "-o", "wide"),
        ("get", "services", "-A", "-o", "wide"),
        ("get", "gateways", "-A", "-o", "yaml"),
        ("get", "endpointslices", "-n", "kube-system", "-o", "yaml"),
        ("logs", "-n", NAMESPACE, "deployment/penstock-controller", "--all-pods", "--tail=60"),
    )
    told = [cluster.kubectl(*words, check=False) for words in asked]
    events = cluster.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False)
    return "\n".join((*told, *events.splitlines()[-EVENTS:]))
