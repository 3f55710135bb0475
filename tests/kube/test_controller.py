"""`penstock controller` over a real API server."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from support.controllers import Controller, running
from support.kube import KubeApi, gateway_api_crds, path_of, policy_crds
from support.penstock_process import eventually
from support.source_suite import NO_PORT, policy, service

PATIENCE = 30.0


@pytest.fixture
def started(bare_api: KubeApi, tmp_path: Path) -> Generator[Controller]:
    bare_api.install([*gateway_api_crds(), *policy_crds()])
    bare_api.namespace("shop")
    bare_api.apply(service("one"))
    with running(tmp_path, "--kubeconfig", str(bare_api.kubeconfig)) as made:
        assert eventually(made.synced, PATIENCE), made.log.read_text()
        yield made


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
    with running(tmp_path, "--kubeconfig", str(tmp_path / "none")) as made:
        assert made.process.wait(PATIENCE) == 2
    assert made.log.read_text().count("\n") == 1
    assert "kubeconfig cannot be read" in made.log.read_text()
