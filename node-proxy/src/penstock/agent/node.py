"""The two kinds of node: a machine of the lab's, and one of a Kubernetes cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol

from penstock.ads.dial import Dialer
from penstock.agent.bootstrap import BootstrapOptions, bootstrap, to_json
from penstock.agent.config import Config
from penstock.agent.envoy_process import Envoy, EnvoyOptions
from penstock.runtime.files import replace_file


class Node(Protocol):
    """What differs between kinds of nodes."""

    @property
    def envoy(self) -> Envoy:
        """Return the one that cares for Envoy."""
        ...

    @property
    def controller(self) -> str | Dialer:
        """Return how the controller is reached."""
        ...

    @property
    def reports_itself(self) -> bool:
        """Return whether `parts` tells all controllers what is in force here."""
        ...

    def gateways_netns(self) -> Path:
        """Return the network namespace from which Gateways dial."""
        ...

    def envoy_cgroups(self) -> frozenset[int]:
        """Return the ids of the cgroups that Envoy's sockets are in."""
        ...

    def parts(self, ready: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        """Return what runs beside; *ready* is set when there are resources for the pods."""
        ...

    def synced(self) -> None:
        """Take that the controller has said everything."""
        ...

    def told(self, type_url: str) -> None:
        """Take that what a controller has just said of a type has arrived."""
        ...

    def changed(self) -> None:
        """Take that resources have changed."""
        ...

    def missing(self) -> str:
        """Return why pods are not served yet; "" if they are."""
        ...

    def object_uid(self, uid: str) -> str:
        """Return the uid of a pod's object for the one that the container runtime knows."""
        ...


def write_bootstrap(config: Config) -> EnvoyOptions:
    """Write Envoy's bootstrap; return how Envoy is told of it, from the run folder."""
    paths = config.paths
    options = BootstrapOptions(
        node=config.node,
        admin_socket=paths.envoy_admin.name,
        ads_socket=paths.node_ads.name,
    )
    text = to_json(bootstrap(options))
    replace_file(paths.envoy_bootstrap, text.encode(), durable=True)
    return EnvoyOptions(bootstrap=paths.envoy_bootstrap, concurrency=config.concurrency)
