from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.penstock_process import ROOT, Penstock, environment, eventually

pytestmark = pytest.mark.timeout(240)


@pytest.mark.usefixtures("rights")
def test_up_serves_the_shop_and_leaves_nothing_behind(penstock: Penstock) -> None:
    penstock.start()
    assert penstock.ask("deploy/frontend", "GET", "http://orders/public") == (200, "v1")
    assert penstock.ask("deploy/frontend", "POST", "http://orders/public")[0] == 403
    assert penstock.ask("deploy/intruder", "GET", "http://orders/public") == (
        0,
        "connection refused",
    )
    page = penstock.status()
    assert {pod["ready"] for pod in page["pods"]} == {True}
    (gateway,) = page["gateways"]
    assert through(gateway["reachable"][0]) == 200
    _conditions_are_true(penstock)
    diff = penstock.run("proxy", "diff")
    assert (diff.returncode, diff.stdout) == (0, "")
    _denials_name_the_line(penstock)
    assert penstock.run("exec", "deploy/orders-v1", "--", "sh", "-c", "exit 7").returncode == 7
    assert penstock.stop(signal.SIGINT) == 0
    assert penstock.remains() == []


def through(address: str) -> int:
    """Return the status of a request through the Gateway, from outside all pods."""
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/orders", headers={"host": "shop.test"})
        return connection.getresponse().status
    finally:
        connection.close()


def _conditions_are_true(penstock: Penstock) -> None:
    for kind in ("httproutes", "gateways", "cnp"):
        shown = penstock.run("get", kind)
        assert shown.returncode == 0
        assert "False" not in shown.stdout
        assert "True" in shown.stdout


def _denials_name_the_line(penstock: Penstock) -> None:
    shown = penstock.run("observe", "--verdict", "DENIED", "--pod", "shop/intruder")
    assert f"{penstock.folder}/policy.yaml:8" in shown.stdout


@pytest.mark.usefixtures("rights")
def test_down_removes_what_a_killed_up_left(penstock: Penstock) -> None:
    penstock.start()
    penstock.stop(signal.SIGKILL)
    assert penstock.remains() != []
    done = penstock.run("down")
    assert done.returncode == 0, done.stderr
    assert penstock.remains() == []


@pytest.mark.usefixtures("rights")
def test_ctrl_c_while_things_are_half_up_leaves_nothing(penstock: Penstock) -> None:
    penstock.start(wait=False)
    assert eventually((penstock.paths.netns / "node").exists, 30)
    assert penstock.stop(signal.SIGINT) == 0
    assert penstock.remains() == []


@pytest.mark.usefixtures("rights")
def test_a_mistake_is_told_with_its_line_and_heals(penstock: Penstock) -> None:
    penstock.start()
    file = penstock.folder / "policy.yaml"
    good = file.read_text()
    file.write_text(good.replace("toPorts:", "toPort:", 1))
    assert eventually(lambda: "policy.yaml:16:7" in penstock.said, 10), penstock.said
    assert "did you mean toPorts" in penstock.said
    assert penstock.ask("deploy/frontend", "GET", "http://orders/public") == (200, "v1")
    file.write_text(good)
    assert eventually(lambda: "mended" in penstock.said, 10)


def test_gateways_are_served_without_rights(penstock: Penstock) -> None:
    shutil.rmtree(penstock.folder)
    shutil.copytree(ROOT / "examples" / "gateway", penstock.folder)
    penstock.start("--only-gateways")
    assert "no pod is run" in penstock.said
    shown = penstock.run("get", "gateways")
    assert "True" in shown.stdout
    assert penstock.run("proxy", "diff").returncode == 0
    assert penstock.stop(signal.SIGTERM) == 0
    assert penstock.remains() == []


@pytest.mark.timeout(300)
def test_the_demo_passes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environ = environment() | {"TMPDIR": os.environ.get("TMPDIR", "/tmp")}
    done = subprocess.run(
        [sys.executable, "-m", "penstock.cli", "demo", "--folder", str(ROOT / "examples" / "shop")],
        env=environ,
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 failed" in done.stdout
