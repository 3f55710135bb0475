"""`penstock controller` over a real API server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.client import controller
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths
from support.kube import KubeApi, gateway_api_crds, path_of, policy_crds
from support.penstock_process import environment, eventually
from support.source_suite import NO_PORT, policy, service

PATIENCE = 30.0


class Controller:
    def __init__(self, folder: Path, *options: str) -> None:
        self.paths = RunPaths(folder / "run")
        self.paths.root.mkdir(mode=0o700)
        self.log = folder / "controller.log"
        command = ["controller", "--run-dir", str(self.paths.root), *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "penstock.cli", *command],
                env=environment(),
                stdout=log,
                stderr=log,
            )

    def ask(self, path: str) -> dict[str, Any]:
        try:
            return controller(self.paths).get(path, dict[str, Any])
        except PenstockError:
            return {}

    def synced(self) -> bool:
        return bool(self.ask("/v1/health").get("synced"))

    def names(self) -> set[str]:
        items = self.ask("/v1/objects?kind=Service&namespace=shop").get("items", [])
        return {one["metadata"]["name"] for one in items}

    def problems(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.ask("/v1/problems").get("items", [])
        return items


@pytest.fixture
def started(bare_api: KubeApi, tmp_path: Path) -> Generator[Controller]:
    bare_api.install([*gateway_api_crds(), *policy_crds()])
    bare_api.namespace("shop")
    bare_api.apply(service("one"))
    made = Controller(tmp_path, "--kubeconfig", str(bare_api.kubeconfig))
    try:
        assert eventually(made.synced, PATIENCE), made.log.read_text()
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def test_objects_come_from_the_api_server_and_stay_when_it_is_killed(
    bare_api: KubeApi, started: Controller
) -> None:
    assert started.names() == {"one"}
    bare_api.kill_api_server()
    assert started.names() == {"one"}
    bare_api.spawn_api_server()
    bare_api.wait_until_ready()
    bare_api.apply(service("two"))
    assert eventually(lambda: started.names() == {"one", "two"}, PATIENCE), started.log.read_text()
    started.process.terminate()
    assert started.process.wait(PATIENCE) == 0


def test_mistakes_are_told_without_a_file(bare_api: KubeApi, started: Controller) -> None:
    bare_api.apply(policy("p", NO_PORT))
    assert eventually(lambda: bool(started.problems()), PATIENCE)
    problem = started.problems()[0]
    assert problem["file"] == ""
    assert problem["ref"] == {"kind": "CiliumNetworkPolicy", "namespace": "shop", "name": "p"}


def test_statuses_are_written_and_the_lease_is_given_back(
    bare_api: KubeApi, started: Controller
) -> None:
    raw = policy("p", NO_PORT)
    bare_api.apply(raw)

    def valid() -> list[str]:
        status = bare_api.request("GET", path_of(raw))[1].get("status", {})
        return [one["status"] for one in status.get("conditions", []) if one["type"] == "Valid"]

    def holder() -> str:
        lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/penstock-status"
        return str(bare_api.request("GET", lease)[1]["spec"]["holderIdentity"])

    assert eventually(lambda: valid() == ["False"], PATIENCE), started.log.read_text()
    assert holder() != ""
    started.process.terminate()
    assert started.process.wait(PATIENCE) == 0
    assert holder() == ""


def test_kubeconfig_that_is_missing_is_one_line(tmp_path: Path) -> None:
    made = Controller(tmp_path, "--kubeconfig", str(tmp_path / "none"))
    assert made.process.wait(PATIENCE) == 2
    assert made.log.read_text().count("\n") == 1
    assert "kubeconfig cannot be read" in made.log.read_text()
