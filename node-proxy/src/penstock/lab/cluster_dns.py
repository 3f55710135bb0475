"""The cluster DNS as other parts see it: a Service and the pod behind it.

No such pod runs: the lab answers at its addresses from inside the node's network namespace. The
objects are there so that policies that allow DNS by the usual labels mean what they say.
"""

from __future__ import annotations

from penstock.core.kinds import Service, ServicePort, ServiceSpec
from penstock.core.objects import ObjectMeta
from penstock.core.pods import (
    Container,
    ContainerPort,
    Pod,
    PodCondition,
    PodIP,
    PodSpec,
    PodStatus,
    Protocol,
)

NAMESPACE = "kube-system"
LABELS = {"k8s-app": "kube-dns"}
POD_ADDRESSES = ("10.244.0.10", "fd44::a")
SERVICE_ADDRESSES = ("10.96.0.10", "fd96::a")
UID = "00000000-0000-0000-0000-0000000000d5"
_PORTS: tuple[tuple[str, Protocol], ...] = (("dns", "UDP"), ("dns-tcp", "TCP"))


def pod(node: str) -> Pod:
    """Return the pod that answers, ready, on *node*."""
    ports = tuple(
        ContainerPort(name=name, container_port=53, protocol=protocol) for name, protocol in _PORTS
    )
    return Pod(
        metadata=ObjectMeta(name="coredns", namespace=NAMESPACE, uid=UID, labels=LABELS),
        spec=PodSpec(
            containers=(Container(name="coredns", image="penstock.dev/dns", ports=ports),),
            service_account_name="coredns",
            node_name=node,
        ),
        status=PodStatus(
            phase="Running",
            conditions=(PodCondition(type="Ready", status="True"),),
            pod_ip=POD_ADDRESSES[0],
            pod_ips=tuple(PodIP(ip=address) for address in POD_ADDRESSES),
        ),
    )


def service() -> Service:
    """Return the Service kube-dns."""
    ports = tuple(ServicePort(name=name, port=53, protocol=protocol) for name, protocol in _PORTS)
    return Service(
        metadata=ObjectMeta(name="kube-dns", namespace=NAMESPACE, labels=LABELS),
        spec=ServiceSpec(
            selector=LABELS,
            ports=ports,
            cluster_ip=SERVICE_ADDRESSES[0],
            cluster_ips=SERVICE_ADDRESSES,
            ip_families=("IPv4", "IPv6"),
        ),
    )
