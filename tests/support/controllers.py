"""`penstock controller` as a process, and agents that follow one of several."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from penstock.ads.dial import Controller as Place
from penstock.cli.client import controller
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths
from support.kube import free_ports
from support.penstock_process import environment


class Controller:
    """One process; `place` and `metrics` are where it serves if it is started by `on_network`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.paths = RunPaths(folder / "run")
        self.paths.root.mkdir(mode=0o700, parents=True)
        self.log = folder / "controller.log"
        self.place = Place(host="127.0.0.1")
        self.metrics = 0
        self._command = ["controller", "--run-dir", str(self.paths.root), *options]
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "penstock.cli", *self._command],
                env=environment(),
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, path: str) -> dict[str, Any]:
        try:
            return controller(self.paths).get(path, dict[str, Any])
        except PenstockError:
            return {}

    def synced(self) -> bool:
        return bool(self.ask("/v1/health").get("synced"))

    def connected(self) -> list[str]:
        """Return the nodes that have a stream to it."""
        nodes = self.ask("/v1/health").get("nodes", {})
        return [name for name, said in nodes.items() if said["connected"]]

    def names(self) -> set[str]:
        items = self.ask("/v1/objects?kind=Service&namespace=shop").get("items", [])
        return {one["metadata"]["name"] for one in items}

    def problems(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.ask("/v1/problems").get("items", [])
        return items

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of its health and metrics; 0 if it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        return 0, ""

    def ready(self) -> bool:
        return self.get("/readyz")[0] == 200


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Generator[Controller]:
    """Run a controller meanwhile."""
    made = Controller(folder, *options)
    try:
        yield made
    finally:
        made.kill()


@contextlib.contextmanager
def on_network(folder: Path, *options: str) -> Generator[Controller]:
    """Run a controller that nodes reach by TCP on loopback."""
    ads, join, metrics = free_ports(3)
    addresses = (
        "--ads-address", f"127.0.0.1:{ads}", "--join-address", f"127.0.0.1:{join}",
        "--metrics-address", f"127.0.0.1:{metrics}",
    )  # fmt: skip
    with running(folder, *addresses, *options) as made:
        made.place = Place(host="127.0.0.1", ads=ads, join=join)
        made.metrics = metrics
        yield made
