"""From the objects of a folder to the pods that must run, and from running pods to objects.

Pure: no clock, no kernel. Source: Kubernetes, the Deployment and EndpointSlice controllers and the
kubelet's part of a pod's status.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from penstock.core.decode import Decoded
from penstock.core.deployments import Deployment
from penstock.core.kinds import ConfigMap, EndpointSlice, Namespace, Secret, Service
from penstock.core.nodes import Node, NodeAddress, NodeSpec, NodeStatus
from penstock.core.objects import Broken, Object, ObjectMeta
from penstock.core.pods import Pod, PodCondition, PodIP, PodStatus
from penstock.lab import cluster_dns, endpoints
from penstock.lab.addressing import NODE_ADDRESSES, POD_RANGES, PodAddresses, assign
from penstock.lab.fingerprint import fingerprint
from penstock.meta.names import NamespacedName

K = TypeVar("K", bound=Object)

NODE_NAME = "lab"


class PodPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that must run."""

    pod: Pod
    """As it would be stored: name, namespace, uid, labels, spec; no status."""
    addresses: PodAddresses
    owner: str = ""
    """Name of the Deployment in the same namespace, "" for a bare pod."""
    ordinal: int = 0

    @property
    def uid(self) -> str:
        """Return the pod's uid: a hash of its name and spec, so that it is the same every run."""
        return self.pod.metadata.uid

    @property
    def key(self) -> NamespacedName:
        """Return namespace and name of the pod."""
        return self.pod.key


class PodState(msgspec.Struct, frozen=True, kw_only=True):
    """A pod with what the runtime knows about it."""

    plan: PodPlan
    phase: str = "Pending"
    """Pending, Running, Succeeded or Failed. Source: Kubernetes, pod lifecycle."""
    ready: bool = False
    terminating: bool = False
    reason: str = ""
    """Why it is not ready, in one word, as CrashLoopBackOff."""
    message: str = ""
    restarts: int = 0
    changed_at: str = ""
    """RFC 3339 time of the last change of `ready`."""


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder asks for."""

    plans: tuple[PodPlan, ...]
    """By namespace and name."""
    deployments: Mapping[NamespacedName, Deployment]
    services: tuple[Service, ...]
    slices: tuple[EndpointSlice, ...]
    """Those that the user wrote."""
    config_maps: Mapping[NamespacedName, ConfigMap]
    secrets: Mapping[NamespacedName, Secret]
    namespaces: frozenset[str]
    """Those that the user wrote."""
    unreadable: frozenset[NamespacedName] = frozenset()
    """Deployments and pods that exist but did not decode: what runs of them goes on."""


class ClusterState(msgspec.Struct, frozen=True, kw_only=True):
    """The objects that the lab makes, besides those of the user."""

    namespaces: tuple[Namespace, ...]
    nodes: tuple[Node, ...]
    services: tuple[Service, ...]
    pods: tuple[Pod, ...]
    slices: tuple[EndpointSlice, ...]

    @property
    def objects(self) -> tuple[Object, ...]:
        """Return all of them, sorted by kind, namespace and name."""
        every = (*self.namespaces, *self.nodes, *self.services, *self.pods, *self.slices)
        return tuple(sorted(every, key=lambda one: one.ref))


def desired(objects: Iterable[Decoded], held: Mapping[str, PodAddresses] | None = None) -> Desired:
    """Return what *objects* ask for; their order does not matter.

    Args:
        objects: everything that the sources hold.
        held: addresses of running pods by "namespace/name", which they keep.
    """
    sorted_objects = sorted(objects, key=lambda one: one.ref)
    good = [one for one in sorted_objects if isinstance(one, Object)]
    deployments = _by_key(Deployment, good)
    unreadable = frozenset(
        one.key
        for one in sorted_objects
        if isinstance(one, Broken) and one.of_kind in ("Pod", "Deployment")
    )
    drafts = [*map(_bare, _of(Pod, good))]
    for deployment in deployments.values():
        drafts += replicas(deployment)
    return Desired(
        plans=_with_addresses(drafts, held or {}),
        deployments=deployments,
        services=tuple(_of(Service, good)),
        slices=tuple(_of(EndpointSlice, good)),
        config_maps=_by_key(ConfigMap, good),
        secrets=_by_key(Secret, good),
        namespaces=frozenset(one.metadata.name for one in _of(Namespace, good)),
        unreadable=unreadable,
    )


def replicas(deployment: Deployment) -> list[PodPlan]:
    """Return the pods of a Deployment when no rollout is going on, without addresses."""
    template = deployment.spec.template
    suffix = template_hash(deployment)
    return [
        PodPlan(
            pod=_identified(
                f"{deployment.metadata.name}-{suffix}-{ordinal}",
                deployment.metadata.namespace,
                template.metadata.labels,
                Pod(
                    metadata=ObjectMeta(name="x", annotations=template.metadata.annotations),
                    spec=template.spec,
                ),
            ),
            addresses=PodAddresses("", ""),
            owner=deployment.metadata.name,
            ordinal=ordinal,
        )
        for ordinal in range(deployment.spec.replicas)
    ]


def template_hash(deployment: Deployment) -> str:
    """Return five characters that change with the pod template and with nothing else."""
    digest = fingerprint(deployment.spec.template)
    return base64.b32encode(digest).decode().lower()[:5]


def observe(want: Desired, states: Iterable[PodState]) -> ClusterState:
    """Return the objects that describe the running pods.

    Args:
        want: what the user's folder asks for; its Services get EndpointSlices.
        states: every pod that runs, is about to run or is going away.
    """
    by_key = {state.plan.key: state for state in sorted(states, key=_terminating_first)}
    pods = tuple(_pod_object(by_key[key]) for key in sorted(by_key))
    every = (*pods, cluster_dns.pod(NODE_NAME))
    services = (*want.services, cluster_dns.service())
    slices = [made for service in services for made in endpoints.slices(service, every)]
    used = {one.metadata.namespace for one in every} | {"default"}
    return ClusterState(
        namespaces=tuple(_namespace(name) for name in sorted(used - want.namespaces)),
        nodes=(_node(),),
        services=(cluster_dns.service(),),
        pods=every,
        slices=tuple(slices),
    )


def simulate(objects: Iterable[Decoded]) -> ClusterState:
    """Return the objects of a lab in which every pod of *objects* runs and is ready."""
    want = desired(objects)
    return observe(want, [PodState(plan=p, phase="Running", ready=True) for p in want.plans])


def _terminating_first(state: PodState) -> tuple[bool, str]:
    """Sort so that of two pods with one name the one that stays comes last."""
    return (not state.terminating, state.plan.uid)


def _of(kind: type[K], objects: Iterable[Object]) -> list[K]:
    return [one for one in objects if isinstance(one, kind)]


def _by_key(kind: type[K], objects: Iterable[Object]) -> dict[NamespacedName, K]:
    return {one.key: one for one in _of(kind, objects)}


def _bare(pod: Pod) -> PodPlan:
    meta = pod.metadata
    identified = _identified(meta.name, meta.namespace, meta.labels, pod)
    return PodPlan(pod=identified, addresses=PodAddresses("", ""))


def _identified(name: str, namespace: str, labels: dict[str, str], pod: Pod) -> Pod:
    """Return *pod* with its name and a uid; labels may change without a new uid, the spec not."""
    text = b"\0".join((name.encode(), namespace.encode(), fingerprint(pod.spec)))
    digits = hashlib.sha256(text).hexdigest()
    uid = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))
    meta = ObjectMeta(
        name=name,
        namespace=namespace,
        uid=uid,
        labels=labels,
        annotations=pod.metadata.annotations,
    )
    return Pod(metadata=meta, spec=pod.spec)


def _with_addresses(drafts: list[PodPlan], held: Mapping[str, PodAddresses]) -> tuple[PodPlan, ...]:
    unique = {draft.key: draft for draft in drafts}
    keys = sorted(unique)
    given = assign([str(key) for key in keys], held)
    return tuple(msgspec.structs.replace(unique[key], addresses=given[str(key)]) for key in keys)


def _pod_object(state: PodState) -> Pod:
    pod, addresses = state.plan.pod, state.plan.addresses
    ready = PodCondition(
        type="Ready",
        status=str(state.ready),
        reason="" if state.ready else state.reason or "ContainersNotReady",
        message="" if state.ready else state.message,
        last_transition_time=state.changed_at,
    )
    meta = pod.metadata
    if state.terminating:
        stamp = state.changed_at or "1970-01-01T00:00:00Z"
        meta = msgspec.structs.replace(meta, deletion_timestamp=stamp)
    return Pod(
        metadata=meta,
        spec=msgspec.structs.replace(pod.spec, node_name=NODE_NAME),
        status=PodStatus(
            phase=state.phase,
            reason=state.reason,
            message=state.message,
            conditions=(ready,),
            host_ip=NODE_ADDRESSES[0],
            pod_ip=addresses.ipv4,
            pod_ips=(PodIP(ip=addresses.ipv4), PodIP(ip=addresses.ipv6)),
        ),
    )


def _namespace(name: str) -> Namespace:
    labels = {"kubernetes.io/metadata.name": name}
    return Namespace(metadata=ObjectMeta(name=name, labels=labels))


def _node() -> Node:
    return Node(
        metadata=ObjectMeta(name=NODE_NAME),
        spec=NodeSpec(pod_cidr=POD_RANGES[0], pod_cidrs=POD_RANGES),
        status=NodeStatus(
            addresses=tuple(
                NodeAddress(type="InternalIP", address=address) for address in NODE_ADDRESSES
            )
        ),
    )
