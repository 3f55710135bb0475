"""Identities and workloads from Pods and Namespaces.

The number of an identity depends on the set of identities that exist, not on the order in which
they came, so that replicas agree. That needs a table beside the engine; it is told of every Pod and
Namespace and keeps the collections `workloads` and `identities` true.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable

from penstock.compiler.database import Database, Identity, Peer, Workload
from penstock.core.addresses import StableAllocator
from penstock.core.pods import Pod
from penstock.ir.policy import Reserved
from penstock.meta.names import NamespacedName, Origin
from penstock.policy.identity import RESERVED_LABELS, canonical, identity_labels

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
NAME_LABEL, ENVOY_NAME = "app.kubernetes.io/name", "penstock-envoy"
"""Label of the pods in which Envoy runs, in the namespace of the system: from there Gateways dial
their backends, so what comes from there is INGRESS."""

Ports = tuple[tuple[str, int], ...]


class _Group:
    """The pods with one identity."""

    def __init__(self, labels: dict[str, str], namespace: str) -> None:
        self.labels = labels
        self.namespace = namespace
        self.members: dict[NamespacedName, Ports] = {}
        self.ports: Counter[tuple[str, int]] = Counter()

    def count(self, ports: Ports, by: int) -> None:
        """Add or take away the named ports of one pod."""
        for port in ports:
            self.ports[port] += by


class WorkloadTable:
    """Keeps `workloads` and `identities` of a database in step with Pods and Namespaces."""

    def __init__(self, db: Database) -> None:
        """Start with the reserved identities only."""
        self._db = db
        # 2**31 numbers, of which the first 2**16 are not ours: what an IPv4 network is made of.
        self._numbers = StableAllocator("0.0.0.0/1", reserved=["0.0.0.0/16"])
        self._pods: dict[NamespacedName, Pod] = {}
        self._texts: dict[NamespacedName, str] = {}
        self._groups: dict[str, _Group] = {}
        self._by_namespace: dict[str, dict[NamespacedName, None]] = {}
        self._namespace_labels: dict[str, dict[str, str]] = {}
        for number, labels in RESERVED_LABELS.items():
            identity = Identity(labels=dict(labels), namespace="", ports=())
            db.identities.set(int(number), identity)

    def set_namespace(self, name: str, labels: dict[str, str] | None) -> None:
        """Take over the labels of a namespace; None if it is gone."""
        if labels is None:
            self._namespace_labels.pop(name, None)
        else:
            self._namespace_labels[name] = labels
        for pod in list(self._by_namespace.get(name, {})):
            self._place(pod)

    def set_pod(self, pod: Pod) -> None:
        """Take over a pod that came or changed."""
        old = self._pods.get(pod.key)
        if old is not None and old.metadata.uid != pod.metadata.uid:
            self.remove_pod(pod.key)
        self._pods[pod.key] = pod
        self._by_namespace.setdefault(pod.metadata.namespace, {})[pod.key] = None
        self._place(pod.key)

    def remove_pod(self, name: NamespacedName) -> None:
        """Forget a pod."""
        pod = self._pods.pop(name, None)
        if pod is None:
            return
        self._by_namespace[name.namespace].pop(name, None)
        self._db.peers.remove(_peer_name(pod))
        self._db.workloads.remove(pod.metadata.uid)
        self._db.host_network.remove(name)
        self._leave(name)

    def _place(self, name: NamespacedName) -> None:
        """Give a pod the identity of its labels, or the reserved one that its addresses have."""
        pod = self._pods[name]
        if self._is_envoy(pod):
            self._leave(name)
            self._db.workloads.remove(pod.metadata.uid)
            self._publish_peer(pod)
            return
        self._db.peers.remove(_peer_name(pod))
        labels = self._labels_of(pod)
        text = canonical(labels)
        if self._texts.get(name) != text:
            self._leave(name)
            self._texts[name] = text
            group = self._groups.get(text)
            if group is None:
                group = self._groups[text] = _Group(labels, name.namespace)
                self._renumber(self._numbers.add(text) - {text})
            group.members[name] = ()
        self._publish_pod(name, text)
        self._publish_group(text)

    def _leave(self, name: NamespacedName) -> None:
        """Take a pod out of its identity, which goes with the last one."""
        text = self._texts.pop(name, None)
        if text is None:
            return
        group = self._groups[text]
        group.count(group.members.pop(name), -1)
        if group.members:
            self._publish_group(text)
            return
        self._db.identities.remove(self._number(text))
        del self._groups[text]
        self._renumber(self._numbers.remove(text) - {text})

    def _renumber(self, texts: Iterable[str]) -> None:
        """Publish the identities whose numbers changed because of a collision; a rare thing."""
        for text in sorted(texts):
            labels = self._groups[text].labels
            for number, identity in self._db.identities.snapshot().items():
                if identity.labels == labels:
                    self._db.identities.remove(number)
            for name in self._groups[text].members:
                self._publish_pod(name, text)
            self._publish_group(text)

    def _publish_pod(self, name: NamespacedName, text: str) -> None:
        pod = self._pods[name]
        if pod.spec.host_network:
            self._db.host_network.set(name, value=True)
        else:
            self._db.host_network.remove(name)
        workload = _workload(pod, self._number(text), captured=not self._is_system(pod))
        if not _has_no_address(pod) and (workload.addresses or workload.node):
            self._db.workloads.set(workload.uid, workload)
        else:
            self._db.workloads.remove(workload.uid)
        group = self._groups[text]
        if group.members[name] != workload.ports:
            group.count(group.members[name], -1)
            group.count(workload.ports, 1)
            group.members[name] = workload.ports

    def _publish_peer(self, pod: Pod) -> None:
        """Publish a pod of Envoy, as soon as it has a node and until it has ended."""
        if _has_no_address(pod) or not pod.spec.node_name:
            self._db.peers.remove(_peer_name(pod))
            return
        peer = Peer(
            origin=Origin.of("Pod", pod.key),
            node=pod.spec.node_name,
            addresses=pod.addresses,
            identity=int(Reserved.INGRESS),
        )
        self._db.peers.set(_peer_name(pod), peer)

    def _is_system(self, pod: Pod) -> bool:
        return pod.metadata.namespace == self._db.settings.system_namespace

    def _is_envoy(self, pod: Pod) -> bool:
        return self._is_system(pod) and pod.metadata.labels.get(NAME_LABEL) == ENVOY_NAME

    def _publish_group(self, text: str) -> None:
        group = self._groups[text]
        identity = Identity(
            labels=group.labels, namespace=group.namespace, ports=tuple(sorted(+group.ports))
        )
        self._db.identities.set(self._number(text), identity)

    def _number(self, text: str) -> int:
        address = self._numbers.get(text)
        return int(Reserved.INIT if address is None else ipaddress.ip_address(address))

    def _labels_of(self, pod: Pod) -> dict[str, str]:
        namespace = pod.metadata.namespace
        declared = self._namespace_labels.get(namespace, {})
        return identity_labels(
            namespace=namespace,
            pod_labels=pod.metadata.labels,
            namespace_labels={NAMESPACE_NAME_LABEL: namespace, **declared},
            service_account=pod.spec.service_account_name or "default",
            cluster=self._db.settings.cluster,
        )


def _has_no_address(pod: Pod) -> bool:
    """Tell whether the addresses in a pod's status are not its own (any more)."""
    return pod.spec.host_network or pod.status.phase in ("Succeeded", "Failed")


def _peer_name(pod: Pod) -> str:
    return f"pod/{pod.metadata.uid}"


def _workload(pod: Pod, identity: int, *, captured: bool) -> Workload:
    containers = pod.spec.containers
    ports = {(p.name, p.container_port) for c in containers for p in c.ports if p.name}
    return Workload(
        uid=pod.metadata.uid,
        name=pod.key,
        node=pod.spec.node_name,
        addresses=() if _has_no_address(pod) else pod.addresses,
        identity=identity,
        captured=captured,
        ports=tuple(sorted(ports)),
    )
