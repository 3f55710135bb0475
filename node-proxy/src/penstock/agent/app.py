"""The agent: all parts joined, from start to end.

Start: what is on disk goes into Envoy's view and the kernel, then the pods of an earlier agent,
then the sockets open and Envoy is started or adopted, then the controller is asked for what is new.
End by SIGTERM: everything goes on without the agent; with a drain time Envoy is stopped too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog

from penstock.ads.client import DEFAULT_BACK_OFF, AdsClient
from penstock.ads.dial import FLEET_BACK_OFF
from penstock.ads.store import SnapshotStore
from penstock.agent.access_log import AccessLogService
from penstock.agent.admin import EnvoyAdmin
from penstock.agent.api import AgentApi
from penstock.agent.capture import Capture, lab_placement
from penstock.agent.config import Config
from penstock.agent.datapath import Affected, NodeDatapath
from penstock.agent.envoy_view import EnvoyView
from penstock.agent.flows import FlowLog
from penstock.agent.health import Health
from penstock.agent.hindrance import hindrance
from penstock.agent.kubernetes_node import KubernetesNode, kubepods_of, placement, write_start
from penstock.agent.lab_node import LabNode
from penstock.agent.no_kernel import NoKernel
from penstock.agent.node import Node, write_bootstrap
from penstock.agent.node_ads import NodeAds
from penstock.agent.pipeline import Pipeline
from penstock.agent.pods import Pods
from penstock.agent.status import Facts, StatusView
from penstock.agent.store import NodeStore
from penstock.agent.sweeper import Sweeper
from penstock.meta.clock import Clock
from penstock.meta.errors import PenstockError
from penstock.runtime.clock import SystemClock
from penstock.runtime.files import in_memory
from penstock.runtime.stop import stop_signal

log = structlog.get_logger(__name__)


class Agent:
    """One node's agent."""

    def __init__(self, config: Config) -> None:
        """Build all parts and restore their state; nothing runs yet.

        Raises:
            PenstockError: the datapath is not possible here.
        """
        self._config = config
        paths = config.paths
        for folder in (paths.root, paths.state, paths.logs, paths.netns):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        clock = SystemClock()
        self._capture, envoy_cgroup = _open_capture(config)
        state = self._capture.state if self._capture else NodeDatapath(NoKernel())
        kernel = self._capture.kernel if self._capture else NoKernel()
        self._state = state
        self._flows = FlowLog()
        self._store = NodeStore(paths.state / "snapshot", secrets=in_memory(paths.state))
        snapshots = SnapshotStore()
        admin = EnvoyAdmin(paths.envoy_admin)
        self._view = EnvoyView(config.node, snapshots, admin, on_change=self._on_change)
        self._ads = NodeAds(
            config.node,
            store=snapshots,
            view=self._view,
            access_log=AccessLogService(config.node, state, self._flows),
            clock=clock,
        )
        self._pods = Pods(
            paths.state / "pods.json", state, kernel, self._view, on_affected=self._on_affected,
            hindrance=self._hindrance,
            unpoliced=config.kubernetes.unpoliced if config.kubernetes else frozenset(),
        )  # fmt: skip
        self._node = self._make_node(clock, envoy_cgroup)
        self._sweeper = self._make_sweeper()
        self._pipeline = Pipeline(
            store=self._store,
            view=self._view,
            datapath=state,
            envoy=self._ads,
            on_affected=self._on_affected,
            swept=self._swept,
            on_change=self._on_change,
            on_told=self._node.told,
            on_synced=self._on_synced,
            on_carried=self._ads.carried,
            on_unreadable=self._ads.unreadable,
        )
        self._controller = self._client(clock)
        self._api = AgentApi(
            view=self._status_view(),
            pods=self._pods,
            admin=admin,
            flows=self._flows,
            object_uid=self._node.object_uid,
        )
        self._health = Health(self._not_ready)
        self._has_state = len(self._store.snapshot) > 0
        self._synced = asyncio.Event()
        self._ready = asyncio.Event()
        self._woken: set[asyncio.Task[None]] = set()

    def _make_node(self, clock: Clock, envoy_cgroup: Path | None) -> Node:
        options = write_bootstrap(self._config)
        where = self._config.kubernetes
        review = functools.partial(self._pods.review, everyone=True)
        if where is None:
            return LabNode(self._config, options, envoy_cgroup, review=review, clock=clock)
        if self._capture is None:
            raise PenstockError("on Kubernetes the agent needs eBPF: leave --only-gateways out")
        write_start(self._config.paths, options)
        return KubernetesNode(
            self._config,
            where,
            capture=self._capture,
            pods=self._pods,
            gateways_are_served=self._gateways_are_served,
            in_touch=lambda: self._controller.connected,
            reports=self._ads.reports,
            review=review,
            clock=clock,
        )

    def _make_sweeper(self) -> Sweeper | None:
        if self._capture is None:
            return None
        return self._capture.sweeper(
            self._pod_netns,
            gateways=self._node.gateways_netns,
            envoy_cgroups=self._node.envoy_cgroups,
        )

    def _client(self, clock: Clock) -> AdsClient:
        return AdsClient(
            self._node.controller,
            self._config.node,
            apply=self._pipeline.take,
            versions=self._pipeline.versions,
            clock=clock,
            random=random.random,
            reports=None if self._node.reports_itself else self._ads.reports,
            back_off=FLEET_BACK_OFF if self._config.kubernetes else DEFAULT_BACK_OFF,
        )

    def _status_view(self) -> StatusView:
        return StatusView(
            self._config.node,
            facts=self._facts(),
            store=self._store,
            view=self._view,
            pods=self._pods,
            state=self._state,
            flows=self._flows,
            datapath=self._config.datapath,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until *stop* is set.

        Raises:
            PenstockError: a socket cannot be opened, or a part failed for good.
        """
        self._pipeline.restore()
        self._pods.restore()
        self._node.changed()
        if self._has_state:
            self._ready.set()
        if self._capture is not None:
            self._capture.read_events(self._flows)
        running = [asyncio.create_task(part) for part in self._parts()]
        stopping = asyncio.create_task(stop.wait())
        try:
            await self._api.start(self._config.paths.agent_api)
            if self._config.health is not None:
                await self._health.start(*self._config.health)
            log.info("agent ready", node=self._config.node, datapath=self._config.datapath)
            await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
            if self._config.drain > 0:
                await self._node.envoy.stop(drain=self._config.drain)
            for task in running:
                if task.done() and not task.cancelled() and (error := task.exception()):
                    raise error
        finally:
            await self._end([stopping, *running])

    def _parts(self) -> list[Coroutine[Any, Any, None]]:
        parts: list[Coroutine[Any, Any, None]] = [
            self._store.run(), self._pipeline.run(), self._controller.run(), self._serve_envoy(),
            self._ads.run(), *self._node.parts(self._ready),
        ]  # fmt: skip
        if self._sweeper is not None:
            parts.append(self._sweeper.run())
        if self._capture is not None:
            parts.append(self._capture.run(self._on_affected))
        return parts

    async def _serve_envoy(self) -> None:
        """Serve and supervise Envoy once there is something to say to it.

        Without a last-good state an Envoy of an earlier agent would be told that all is gone.
        """
        if not self._has_state:
            await self._synced.wait()
            await self._pipeline.idle()
            self._ready.set()
        await self._ads.start(self._config.paths.node_ads)
        await self._node.envoy.run()

    async def _end(self, tasks: list[asyncio.Task[Any]]) -> None:
        await self._health.stop()
        await self._api.stop()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await self._ads.stop()
        self._store.close()
        if self._capture is not None:
            self._capture.close()

    def _facts(self) -> Facts:
        def counters() -> dict[str, int]:
            found = self._capture.datapath.counters() if self._capture else {}
            destroyed = self._sweeper.destroyed if self._sweeper else 0
            return {**found, "connections_ended": destroyed}

        return Facts(
            controller_connected=lambda: self._controller.connected,
            envoy_connected=lambda: self._ads.connected,
            envoy=self._node.envoy.status,
            counters=counters,
        )

    def _pod_netns(self) -> dict[str, Path]:
        root = self._config.paths.root
        registered = self._pods.registered()
        return {uid: root / pod.request.netns for uid, pod in registered.items() if pod.policed}

    def _hindrance(self, netns: str) -> str:
        if self._capture is None:
            return ""
        return hindrance(self._config.paths.root / netns, self._node.envoy_cgroups())

    def _on_affected(self, affected: Affected) -> None:
        if self._sweeper is not None:
            self._sweeper.affected(affected)

    async def _swept(self) -> None:
        if self._sweeper is not None:
            await self._sweeper.quiet()

    def _on_synced(self) -> None:
        self._synced.set()
        if self._capture is not None:
            self._capture.kernel.forget_others(self._state)
        self._node.synced()

    def _gateways_are_served(self) -> bool:
        return self._ads.connected and self._view.serves_gateways()

    def _on_change(self) -> None:
        self._node.changed()
        self._look_again()

    def _not_ready(self) -> str:
        """Return why this node does not serve yet or any more; "" if it does."""
        if not self._ready.is_set():
            if self._controller.connected:
                return "not all resources have come from the controller yet"
            return "no resources: the controller was never reached"
        if not self._ads.connected:
            return "Envoy is not connected"
        return self._node.missing()

    def _look_again(self) -> None:
        """Let requests that wait for a pod look again."""
        task = asyncio.get_running_loop().create_task(self._pods.changed())
        self._woken.add(task)
        task.add_done_callback(self._woken.discard)


def _open_capture(config: Config) -> tuple[Capture | None, Path | None]:
    """Return the kernel's part, and Envoy's cgroup where that is known beforehand.

    Raises:
        PenstockError: the datapath is not possible here.
    """
    if not config.datapath:
        return None, None
    if config.kubernetes is not None:
        where = config.kubernetes
        return Capture(config.node, placement(config, where, kubepods_of(where))), None
    place, envoy = lab_placement(config)
    capture = Capture(config.node, place)
    capture.attach_envoy(envoy)
    capture.attach_pods()
    return capture, envoy


async def serve(config: Config) -> None:
    """Run an agent until SIGTERM or SIGINT.

    Raises:
        PenstockError: it cannot run here.
    """
    stop = stop_signal()
    if not config.datapath:
        log.warning("no eBPF datapath: gateways are served, pods are not captured")
    await Agent(config).run(stop)
