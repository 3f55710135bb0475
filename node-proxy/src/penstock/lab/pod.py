"""One pod: network namespace, cgroup, registration with the agent, containers, end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from penstock.core.pods import Container
from penstock.lab import cgroups, logs
from penstock.lab.addressing import family_of
from penstock.lab.agent_client import (
    AgentClient,
    AgentUnavailableError,
    PodNotCapturedError,
    PodRegistration,
)
from penstock.lab.cluster import Desired, PodPlan, PodState
from penstock.lab.container import ContainerContext, ContainerRunner
from penstock.lab.environment import environment, expand, expand_all
from penstock.lab.images import command_of
from penstock.lab.launch import Mount, Spec
from penstock.lab.network import LabNetwork, NetworkError, PodNetwork
from penstock.lab.podfiles import PodFiles
from penstock.lab.process import StartError
from penstock.lab.volumes import VolumeFolders
from penstock.meta.clock import Clock
from penstock.meta.paths import NODE_NETNS, RunPaths, netns_of

_RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0)


class PodContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the pods of a lab share."""

    paths: RunPaths
    cgroup: Path
    """Of the instance."""
    network: LabNetwork
    volumes: VolumeFolders
    files: PodFiles
    agent: AgentClient
    clock: Clock
    drain_seconds: float
    """Between a pod's leaving its EndpointSlices and SIGTERM: time for clients to hear of it."""
    want: Callable[[], Desired]
    changed: Callable[[], None]
    """Called after each change of a pod's state."""
    agent_answered: Callable[[str], None]
    """Called with "" or with why the agent did not register a pod."""


class PodRunner:
    """Runs one pod from its first to its last moment."""

    def __init__(self, plan: PodPlan, index: int, context: PodContext) -> None:
        """Prepare to run *plan*.

        Args:
            plan: its uid names files and the cgroup.
            index: a number that no other running pod has.
            context: shared parts.
        """
        self.plan = plan
        self._index = index
        self._context = context
        self._cgroup = cgroups.pod_cgroup(context.cgroup, plan.uid)
        policy = plan.pod.spec.restart_policy
        once = "Never" if policy == "Never" else "OnFailure"
        self._init: list[ContainerRunner] = [
            self._runner(one, one.restart_policy or once) for one in plan.pod.spec.init_containers
        ]
        self._main = [self._runner(one, policy) for one in plan.pod.spec.containers]
        self._registered = False
        self._terminating = False
        self._problem = ("ContainerCreating", "")
        self._phase = "Pending"
        self._changed_at = ""
        self._was_ready = False

    @property
    def containers(self) -> list[ContainerRunner]:
        """Return all containers, init containers first."""
        return [*self._init, *self._main]

    @property
    def cgroup(self) -> Path:
        """Return the pod's cgroup."""
        return self._cgroup

    @property
    def registered(self) -> bool:
        """Return whether the agent has captured the pod."""
        return self._registered

    def state(self) -> PodState:
        """Return what is known of the pod now."""
        ready = self._phase == "Running" and all(one.ready for one in self._main)
        if ready != self._was_ready or not self._changed_at:
            self._was_ready = ready
            stamp = time.gmtime(self._context.clock.now())
            self._changed_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", stamp)
        reason, message = ("", "") if ready else self._trouble()
        return PodState(
            plan=self.plan,
            phase=self._phase,
            ready=ready,
            terminating=self._terminating,
            reason="Terminating" if self._terminating else reason,
            message=message,
            restarts=sum(one.restarts for one in self.containers),
            changed_at=self._changed_at,
        )

    async def run(self) -> None:
        """Bring the pod up and run it until its containers are done or it is cancelled."""
        await self._set_up()
        await self.register()
        self._problem = ("", "")
        sidecars: list[asyncio.Task[None]] = []
        try:
            done = await self._run_init(sidecars) and await self._run_main()
        finally:
            for task in sidecars:
                task.cancel()
            await asyncio.gather(*sidecars, return_exceptions=True)
        self._phase = "Succeeded" if done else "Failed"
        self._context.changed()

    async def register(self) -> None:
        """Return when the agent has captured the pod; ask again until then."""
        addresses = self.plan.addresses
        meta = self.plan.pod.metadata
        registration = PodRegistration(
            uid=self.plan.uid,
            namespace=meta.namespace,
            name=meta.name,
            netns=netns_of(self.plan.uid),
            cgroup=str(self._cgroup),
            addresses=[addresses.ipv4, addresses.ipv6],
        )
        attempt = 0
        while True:
            try:
                await self._context.agent.put_pod(registration)
            except AgentUnavailableError as error:
                answered = isinstance(error, PodNotCapturedError)
                self._problem = ("NotCaptured" if answered else "AgentUnavailable", str(error))
                self._context.agent_answered("" if answered else str(error))
                self._context.changed()
                await self._context.clock.sleep(_RETRY_SECONDS[min(attempt, 3)])
                attempt += 1
            else:
                self._registered = True
                self._context.agent_answered("")
                return

    def mark_terminating(self) -> None:
        """Let the pod leave its EndpointSlices."""
        self._terminating = True
        self._context.changed()

    async def stop(self, running: asyncio.Task[None]) -> None:
        """End the containers with grace, then remove everything that belongs to the pod.

        Args:
            running: the task of `run`.
        """
        alive = [one for one in self.containers if one.running]
        if alive and self.state().ready:
            await self._context.clock.sleep(self._context.drain_seconds)
        grace = self.plan.pod.spec.termination_grace_period_seconds
        await asyncio.gather(*(one.stop(grace) for one in alive))
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await running
        await self._unregister()
        await asyncio.to_thread(cgroups.remove, self._cgroup)
        await self._context.network.remove(self.plan.uid)
        self._context.volumes.remove(self.plan.uid)
        self._context.files.remove(self.plan.uid)

    def refresh(self) -> None:
        """Write the contents of volumes again if ConfigMaps or Secrets changed."""
        with contextlib.suppress(Exception):
            self._context.volumes.fill(self.plan, self._context.want())

    def log_of(self, container: str) -> Path:
        """Return the log file of one of the pod's containers."""
        meta = self.plan.pod.metadata
        return logs.log_path(self._context.paths.logs, meta.namespace, meta.name, container)

    def _runner(self, container: Container, policy: str) -> ContainerRunner:
        context = ContainerContext(
            address=self.plan.addresses.ipv4,
            cgroup=self._cgroup / container.name,
            log=self.log_of(container.name),
            make_spec=self._spec,
            connect=self._connect,
            clock=self._context.clock,
            changed=self._context.changed,
        )
        return ContainerRunner(container, policy, context)

    async def _set_up(self) -> None:
        for one in self.containers:
            (self._cgroup / one.container.name).mkdir(parents=True, exist_ok=True)
        addresses = self.plan.addresses
        network = PodNetwork(
            uid=self.plan.uid, ipv4=addresses.ipv4, ipv6=addresses.ipv6, index=self._index
        )
        while True:
            try:
                await self._context.network.make_pod(network)
            except NetworkError as error:
                self._problem = ("FailedCreatePodSandBox", str(error))
                self._context.changed()
                await self._context.clock.sleep(_RETRY_SECONDS[-1])
            else:
                self._context.files.write(self.plan)
                return

    async def _run_init(self, sidecars: list[asyncio.Task[None]]) -> bool:
        """Run init containers one after the other; return whether all went well.

        Args:
            sidecars: gets the tasks of those that go on beside the main containers.
        """
        for one in self._init:
            if one.container.restart_policy != "Always":
                await one.run()
                if one.exit_code:
                    return False
                continue
            sidecars.append(asyncio.create_task(one.run()))
            while not one.started:
                await self._context.clock.sleep(_RETRY_SECONDS[0])
        return True

    async def _run_main(self) -> bool:
        """Run the containers until their policies are satisfied; return whether all ended well."""
        self._phase = "Running"
        self._context.changed()
        async with asyncio.TaskGroup() as group:
            for one in self._main:
                group.create_task(one.run())
        return not any(one.exit_code for one in self._main)

    async def _spec(self, container: Container) -> Spec:
        plan, context = self.plan, self._context
        if plan.pod.spec.host_network:
            raise StartError(f"Pod {plan.key}: the lab has no hostNetwork; remove the field")
        place = f"Pod {plan.key} container {container.name}"
        command = command_of(container, place)
        context.volumes.fill(plan, context.want())
        fields = {"metadata.name": plan.key.name, "metadata.namespace": plan.key.namespace}
        given = {name: expand(value, fields) for name, value in command.env.items()}
        base = context.files.base_environment(plan) | given
        env = environment(container, plan, context.want(), base)
        mounts: list[Mount] = [
            *context.files.mounts(plan),
            *context.volumes.mounts(plan, container),
        ]
        return Spec(
            cgroup=str(self._cgroup / container.name),
            netns=str(context.network.path(plan.uid)),
            join=0,
            hostname=plan.pod.spec.hostname or plan.pod.metadata.name,
            hide=str(context.paths.root),
            scratch=str(context.files.scratch),
            mounts=mounts,
            cwd=expand(container.working_dir, env) or "/",
            env=env,
            argv=list(expand_all(command.argv, env)),
        )

    async def _connect(self, host: str, port: int) -> socket.socket:
        """Return a socket of the node that is connected to *host*."""
        family = family_of(host)
        made = await self._context.network.open_socket(NODE_NETNS, family, socket.SOCK_STREAM)
        try:
            await asyncio.get_running_loop().sock_connect(made, (host, port))
        except BaseException:
            made.close()
            raise
        return made

    async def _unregister(self) -> None:
        """Tell the agent that the pod goes; without an answer give up after a few tries."""
        for pause in _RETRY_SECONDS:
            try:
                await self._context.agent.delete_pod(self.plan.uid)
            except AgentUnavailableError as error:
                self._context.agent_answered(str(error))
                await self._context.clock.sleep(pause)
            else:
                self._registered = False
                return

    def _trouble(self) -> tuple[str, str]:
        """Return reason and message of the first thing that keeps the pod from being ready."""
        if self._problem[0]:
            return self._problem
        waiting = [one for one in self.containers if one.reason not in ("", "Completed")]
        return (waiting[0].reason, waiting[0].message) if waiting else ("", "")


def host_environment() -> dict[str, str]:
    """Return what containers inherit from this machine: where programs are."""
    default = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": os.environ.get("PATH", default), "HOME": "/root", "LANG": "C.UTF-8"}
