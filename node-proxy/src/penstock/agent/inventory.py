"""The pods of this node that run already, found and registered without a CNI plugin.

The API server says which Pods there are. The cgroup of a Pod has its uid in the name; a process in
it has the Pod's network namespace; and the container runtime keeps that under a name in /run/netns,
which stays when the process ends. Pods that are gone, from the list and from the machine, are
unregistered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from penstock.agent.kubepods import Kubepods, named_namespaces, namespace_of
from penstock.agent.pods import PodError, PodRequest, Pods
from penstock.core.events import Batch, EventType
from penstock.core.pods import Pod

LOOK_SECONDS = 5.0
"""How often it is looked for pods whose processes were not there yet."""
CAPTURE_SECONDS = 20.0
"""How long the first pods are waited for before the programs are attached to all pods."""
NETNS_FOLDER = Path("/run/netns")
STATIC_UID = "kubernetes.io/config.hash"
"""Annotation of a Pod from a file of the kubelet: the uid that its cgroup has, not the object."""

log = structlog.get_logger(__name__)


class PodInventory:
    """Keeps `Pods` in step with the API server and the machine."""

    def __init__(
        self,
        pods: Pods,
        kubepods: Kubepods,
        *,
        on_complete: Callable[[], None],
        netns_folder: Path = NETNS_FOLDER,
        proc: Path = Path("/proc"),
    ) -> None:
        """Know nothing yet.

        Args:
            pods: the registered pods.
            kubepods: where pods have their cgroups.
            on_complete: is told once, when all that runs is registered and captured, or has been
                waited for long enough.
            netns_folder: where the container runtime keeps network namespaces.
            proc: processes as the node sees them.
        """
        self._pods = pods
        self._kubepods = kubepods
        self._on_complete = on_complete
        self._netns_folder = netns_folder
        self._proc = proc
        self._known: dict[str, Pod] = {}
        self._listed = asyncio.Event()
        self._changed = asyncio.Event()
        self._refused: dict[str, str] = {}

    @property
    def listed(self) -> bool:
        """Return whether the API server has said which Pods there are."""
        return self._listed.is_set()

    async def take(self, batch: Batch) -> None:
        """Take what a source says of the Pods of this node."""
        for event in batch.events:
            if not isinstance(event.object, Pod):
                continue
            if event.type is EventType.DELETED:
                self._known.pop(event.object.metadata.uid, None)
            else:
                self._known[event.object.metadata.uid] = event.object
        self._listed.set()
        self._changed.set()

    def object_uid(self, uid: str) -> str:
        """Return the uid of the Pod object for the *uid* that the container runtime knows."""
        found = (pod for pod in self._known.values() if _machine_uid(pod) == uid)
        return next((pod.metadata.uid for pod in found), uid)

    async def run(self, ready: asyncio.Event) -> None:
        """Work until cancelled; begin when *ready* is set: resources are there for the pods."""
        await self._listed.wait()
        await ready.wait()
        await self.look()
        await self._captured()
        self._on_complete()
        while True:
            self._changed.clear()
            await self.look()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Register what runs, unregister what is gone, and look again at what was hindered."""
        self._pods.review()
        registered = self._pods.registered()
        wanted = [pod for uid, pod in self._known.items() if uid not in registered]
        await self._register(pod for pod in wanted if _runs(pod))
        alive = {uid for uid, pod in self._known.items() if not _has_ended(pod)}
        for uid in registered.keys() - alive:
            if self._pods.is_gone(uid):
                log.info("pod is gone", uid=uid)
                await self._pods.unregister(uid)
        for uid in self._refused.keys() - self._known.keys():
            del self._refused[uid]

    async def _captured(self) -> None:
        """Return when the registered pods are captured, or long enough has been waited."""
        deadline = time.monotonic() + CAPTURE_SECONDS
        while closed := await self._closed():
            if time.monotonic() > deadline:
                log.warning("pods that are not captured will be closed", pods=closed)
                return
            await asyncio.sleep(0.1)

    async def _closed(self) -> list[str]:
        return [uid for uid in self._pods.registered() if await self._pods.missing(uid)]

    async def _register(self, found: Iterable[Pod]) -> None:
        pods = list(found)
        if not pods:
            return
        cgroups = self._kubepods.all()
        names = named_namespaces(self._netns_folder)
        for pod in pods:
            cgroup = cgroups.get(_machine_uid(pod))
            netns = names.get(namespace_of(cgroup, self._proc)) if cgroup else None
            if cgroup is None or netns is None:
                self._refuse(pod, "its cgroup or its network namespace is not found")
                continue
            request = PodRequest(
                uid=pod.metadata.uid,
                namespace=pod.metadata.namespace,
                name=pod.metadata.name,
                netns=str(netns),
                addresses=pod.addresses,
            )
            try:
                await self._pods.add(request)
            except PodError as error:
                self._refuse(pod, str(error))
            else:
                self._refused.pop(request.uid, None)
                log.info("pod found", uid=request.uid, pod=str(pod.key), netns=str(netns))

    def _refuse(self, pod: Pod, reason: str) -> None:
        uid = pod.metadata.uid
        if self._refused.get(uid) != reason:
            self._refused[uid] = reason
            log.warning("pod not registered; it stays closed", pod=str(pod.key), reason=reason)


def _machine_uid(pod: Pod) -> str:
    return pod.metadata.annotations.get(STATIC_UID, pod.metadata.uid)


def _runs(pod: Pod) -> bool:
    """Return whether a pod has a network namespace of its own, with addresses, and has not ended.

    While its init containers run it is Pending.
    """
    return not pod.spec.host_network and not _has_ended(pod) and bool(pod.addresses)


def _has_ended(pod: Pod) -> bool:
    return pod.status.phase in {"Succeeded", "Failed"}
