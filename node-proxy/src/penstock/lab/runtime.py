"""The lab itself: keeps the pods of a folder running and tells the rest of Penstock about them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from penstock.core.decode import Decoded
from penstock.core.events import Batch, EventType
from penstock.core.kinds import BUILTIN_KINDS
from penstock.lab import cgroups, logs, teardown
from penstock.lab.agent_client import AgentClient
from penstock.lab.cluster import ClusterState, PodPlan, desired, observe
from penstock.lab.cluster_dns import POD_ADDRESSES
from penstock.lab.dns import DnsServer
from penstock.lab.network import LabNetwork
from penstock.lab.pod import PodContext, PodRunner, host_environment
from penstock.lab.podfiles import PodFiles
from penstock.lab.rollout import next_steps
from penstock.lab.state import (
    ContainerRecord,
    LabRecord,
    PodRecord,
    write_state,
)
from penstock.lab.store import ObjectStore
from penstock.lab.volumes import VolumeFolders
from penstock.lab.zone import build_zone
from penstock.meta.clock import Clock
from penstock.meta.names import ObjectRef
from penstock.meta.paths import NODE_NETNS, RunPaths, netns_of
from penstock.runtime.processes import own_process, process_of
from penstock.sources.file import FileSource
from penstock.sources.registry import registry

_TICK_SECONDS = 5.0
_GATHER_SECONDS = 0.01
"""Changes that come so close together are handled at once."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person who watches wants to know."""

    kind: Literal[
        "pod-starting", "pod-ready", "pod-not-ready", "pod-stopping", "pod-gone", "agent", "problem"
    ]
    pod: str = ""
    """ "namespace/name"; "" if it is not about one pod."""
    message: str = ""


class LabOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What can be set."""

    nameserver: str = "10.96.0.10"
    """Where pods send their DNS questions: the Service, which eBPF translates."""
    drain_seconds: float = 1.0
    """Between a ready pod's leaving its EndpointSlices and SIGTERM."""


class Lab:
    """Runs pods. `start`, then `update` whenever the user's objects change, then `stop`."""

    def __init__(
        self,
        paths: RunPaths,
        agent: AgentClient,
        clock: Clock,
        *,
        options: LabOptions | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """Prepare a lab in a run folder; nothing is made yet."""
        self._options = options or LabOptions()
        self._paths = paths
        self._agent = agent
        self._clock = clock
        self._tell = on_progress
        self._network = LabNetwork(paths)
        self._volumes = VolumeFolders(paths.root)
        self._files = PodFiles(paths.root, self._options.nameserver, host_environment())
        self._dns = DnsServer()
        self._store: ObjectStore | None = None
        self._want = desired(())
        self._pods: dict[str, PodRunner] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stopping: dict[str, asyncio.Task[None]] = {}
        self._free_index = 0
        self._wake = asyncio.Event()
        self._published = asyncio.Condition()
        self._loops: list[asyncio.Task[None]] = []
        self._agent_complaint = ""
        self._told_ready: dict[str, bool] = {}
        self._cgroup = Path()
        self.state: ClusterState = observe(self._want, ())

    async def start(self) -> None:
        """Make the node: run folder, cgroup, network namespace, cluster DNS.

        What an earlier instance left in the run folder is removed first.

        Raises:
            PenstockError: a right is missing (see `missing_rights`), or another lab runs here.
        """
        teardown.claim(self._paths)
        try:
            await self._make_node()
        except BaseException:
            await self.stop()
            raise

    def update(self, objects: Iterable[Decoded]) -> None:
        """Take *objects* as all that the user wants from now on."""
        held = {str(pod.plan.key): pod.plan.addresses for pod in self._pods.values()}
        self._want = desired(objects, held)
        for pod in self._pods.values():
            pod.refresh()
        self._wake.set()

    async def follow(self, folders: Sequence[Path]) -> None:
        """Take the objects of *folders*, and their changes, until cancelled.

        What is wrong in them is reported by the controller, which reads them too.
        """
        held: dict[ObjectRef, Decoded] = {}

        async def take(batch: Batch) -> None:
            for event in batch.events:
                if event.type is EventType.DELETED:
                    held.pop(event.object.ref, None)
                else:
                    held[event.object.ref] = event.object
            self.update(held.values())

        source = FileSource(folders, registry(BUILTIN_KINDS), self._clock)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(source.run(take))
            for loop in self._loops:
                tasks.create_task(_fail_with(loop))

    async def agent_restarted(self) -> None:
        """Tell a new agent about all pods; their processes go on meanwhile."""
        registered = [pod for pod in self._pods.values() if pod.registered]
        await asyncio.gather(*(pod.register() for pod in registered))

    def status(self) -> tuple[PodRecord, ...]:
        """Return every pod that runs, starts or ends, by namespace and name."""
        pods = sorted(self._pods.values(), key=lambda pod: (pod.plan.key, pod.plan.uid))
        return tuple(map(_record, pods))

    @property
    def settled(self) -> bool:
        """Return whether the wanted pods, and no others, run and are ready or done."""
        wanted = {plan.uid for plan in self._want.plans}
        return wanted == self._pods.keys() and all(
            record.is_ready_or_done for record in self.status()
        )

    async def wait_settled(self) -> None:
        """Return when the lab is settled and its objects are written."""
        await self.wait_for(lambda _: self.settled)

    async def wait_for(self, condition: Callable[[ClusterState], bool]) -> None:
        """Return when *condition* holds for the objects that are written."""
        async with self._published:
            await self._published.wait_for(lambda: condition(self.state))

    async def end_pods(self) -> None:
        """End all pods with grace, while the agent still lives; `stop` does what is left."""
        self._want = desired(())
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        for uid in [*self._pods.keys() - self._stopping.keys()]:
            self._stop_pod(uid)
        await asyncio.gather(*self._stopping.values(), return_exceptions=True)

    async def stop(self) -> None:
        """End all pods with grace and remove everything that the lab made."""
        await self.end_pods()
        await self._dns.stop()
        await self._agent.close()
        self._network.close()
        await asyncio.to_thread(teardown.teardown, self._paths)

    async def _make_node(self) -> None:
        self._cgroup = cgroups.instance_root(self._paths.root)
        (self._cgroup / "pods").mkdir(parents=True, exist_ok=True)
        self._paths.logs.mkdir(mode=0o700, exist_ok=True)
        self._write_state()
        self._store = ObjectStore(self._paths.objects)
        self._volumes.prepare()
        self._files.prepare()
        await self._network.make_node(POD_ADDRESSES)
        await self._dns.start(
            lambda family, kind: self._network.open_socket(NODE_NETNS, family, kind)
        )
        self._loops = [
            asyncio.create_task(self._reconcile_loop()),
            asyncio.create_task(self._tick_loop()),
        ]

    async def _reconcile_loop(self) -> None:
        while True:
            await self._wake.wait()
            await self._clock.sleep(_GATHER_SECONDS)
            self._wake.clear()
            self._take_steps()
            await self._publish()

    async def _tick_loop(self) -> None:
        """Rotate logs, and look after what nobody reported."""
        while True:
            await self._clock.sleep(_TICK_SECONDS)
            for log in self._paths.logs.glob("*.log"):
                logs.rotate(log)
            self._wake.set()

    def _take_steps(self) -> None:
        steps = next_steps(self._want, [pod.state() for pod in self._pods.values()])
        for uid in steps.stop:
            self._stop_pod(uid)
        for plan in steps.start:
            self._start_pod(plan)
        self._relabel()

    def _relabel(self) -> None:
        """Take over new labels and annotations of running pods: they need no restart."""
        wanted = {plan.uid: plan for plan in self._want.plans}
        for uid, pod in self._pods.items():
            if uid in wanted:
                pod.plan = msgspec.structs.replace(pod.plan, pod=wanted[uid].pod)

    def _start_pod(self, plan: PodPlan) -> None:
        self._free_index += 1
        context = PodContext(
            paths=self._paths,
            cgroup=self._cgroup,
            network=self._network,
            volumes=self._volumes,
            files=self._files,
            agent=self._agent,
            clock=self._clock,
            drain_seconds=self._options.drain_seconds,
            want=lambda: self._want,
            changed=self._wake.set,
            agent_answered=self._agent_answered,
        )
        pod = PodRunner(plan, self._free_index, context)
        self._pods[plan.uid] = pod
        self._running[plan.uid] = asyncio.create_task(self._run_pod(pod))
        self._tell(Progress(kind="pod-starting", pod=str(plan.key)))
        self._wake.set()

    async def _run_pod(self, pod: PodRunner) -> None:
        try:
            await pod.run()
        except Exception as error:
            self._tell(Progress(kind="problem", pod=str(pod.plan.key), message=repr(error)))
            raise

    def _stop_pod(self, uid: str) -> None:
        pod = self._pods[uid]
        pod.mark_terminating()
        self._tell(Progress(kind="pod-stopping", pod=str(pod.plan.key)))
        self._stopping[uid] = asyncio.create_task(self._end_pod(pod))

    async def _end_pod(self, pod: PodRunner) -> None:
        uid = pod.plan.uid
        try:
            await pod.stop(self._running[uid])
        finally:
            del self._pods[uid], self._running[uid], self._stopping[uid]
            self._told_ready.pop(uid, None)
            self._tell(Progress(kind="pod-gone", pod=str(pod.plan.key)))
            self._wake.set()

    async def _publish(self) -> None:
        """Write objects, names and state; a file system that refuses is told, not fatal."""
        assert self._store is not None  # noqa: S101  start() made it
        state = observe(self._want, [pod.state() for pod in self._pods.values()])
        try:
            self._store.write(state.objects)
            self._write_state()
        except OSError as error:
            self._tell(Progress(kind="problem", message=f"cannot write the run folder: {error}"))
        self._dns.zone = build_zone(
            services=(*self._want.services, *state.services),
            slices=(*self._want.slices, *state.slices),
            pods=state.pods,
            namespaces=self._want.namespaces | {one.metadata.name for one in state.namespaces},
        )
        self._tell_readiness()
        async with self._published:
            self.state = state
            self._published.notify_all()

    def _tell_readiness(self) -> None:
        for uid, pod in self._pods.items():
            state = pod.state()
            if state.ready != self._told_ready.get(uid, False):
                self._told_ready[uid] = state.ready
                if state.terminating:
                    continue  # it is meant to end: that it has gone is told
                kind: Literal["pod-ready", "pod-not-ready"] = (
                    "pod-ready" if state.ready else "pod-not-ready"
                )
                text = f"{state.reason} {state.message}".strip()
                self._tell(Progress(kind=kind, pod=str(pod.plan.key), message=text))

    def _agent_answered(self, complaint: str) -> None:
        """Tell once when the agent goes away and once when it is back."""
        if bool(complaint) != bool(self._agent_complaint):
            message = f"{complaint}; pods wait" if complaint else "the agent answers again"
            self._tell(Progress(kind="agent", message=message))
        self._agent_complaint = complaint

    def _write_state(self) -> None:
        record = LabRecord(process=own_process(), cgroup=str(self._cgroup), pods=self.status())
        write_state(self._paths, record)


async def _fail_with(loop: asyncio.Task[None]) -> None:
    """Raise what *loop* raises, whoever else waits for it."""
    await asyncio.wait({loop})
    if not loop.cancelled():
        loop.result()


def _record(pod: PodRunner) -> PodRecord:
    state, meta = pod.state(), pod.plan.pod.metadata
    containers = tuple(
        ContainerRecord(
            name=one.container.name,
            process=process_of(one.pid),
            cgroup=str(pod.cgroup / one.container.name),
            log=str(pod.log_of(one.container.name)),
            restarts=one.restarts,
            exit_code=one.exit_code,
        )
        for one in pod.containers
    )
    return PodRecord(
        uid=pod.plan.uid,
        namespace=meta.namespace,
        name=meta.name,
        netns=netns_of(pod.plan.uid),
        cgroup=str(pod.cgroup),
        addresses=(pod.plan.addresses.ipv4, pod.plan.addresses.ipv6),
        phase=state.phase,
        ready=state.ready,
        restarts=state.restarts,
        reason=state.reason,
        message=state.message,
        containers=containers,
    )
