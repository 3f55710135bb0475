"""A controller that starts with much to compile: a process of its own, and a copy that helps it."""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import AsyncGenerator, Generator
from functools import partial
from pathlib import Path

import pytest

from penstock.ads.client import AdsClient
from penstock.runtime.clock import SystemClock
from penstock.xds import types
from support.controllers import Controller
from support.controllers import running as controller
from support.nodes import Memory, running
from support.real_envoy import eventually

COUNT = 1500
"""Services: more roots than a compiler compiles alone."""
HELPED = "a second process"


def service(index: int, port: int = 80) -> str:
    """Return a Service as YAML, which JSON is."""
    address = f"10.96.{index // 250}.{index % 250 + 1}"
    return json.dumps({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"s{index}", "namespace": "shop"},
        "spec": {"clusterIP": address, "ports": [{"port": port}]},
    })  # fmt: skip


@contextlib.contextmanager
def on(processors: set[int]) -> Generator[None]:
    """Let what is started meanwhile run there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.asynccontextmanager
async def following(made: Controller) -> AsyncGenerator[Memory]:
    """Yield what a node has that follows the controller."""
    memory = Memory()
    client = AdsClient(
        f"unix:{made.paths.controller_ads}",
        "n1",
        apply=memory.apply,
        versions=memory.versions,
        clock=SystemClock(),
        random=random.random,
    )
    async with running(client.run()):
        yield memory


def has(memory: Memory, name: str) -> bool:
    """Return whether a port of a Service has come."""
    return name in memory.store.of_type(types.SERVICE)


def versions(memory: Memory) -> dict[str, dict[str, str]]:
    return {url: memory.versions(url) for url in types.SENDING_ORDER}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
async def test_nodes_get_the_same_with_help_and_without_and_changes_later(tmp_path: Path) -> None:
    source = tmp_path / "shop"
    source.mkdir()
    for index in range(COUNT):
        (source / f"{index}.yaml").write_text(service(index))
    one = min(os.sched_getaffinity(0))
    found = []
    for name, processors in (("helped", os.sched_getaffinity(0)), ("alone", {one})):
        with on(processors), controller(tmp_path / name, "--source", str(source)) as made:
            async with following(made) as memory:
                for index in range(COUNT):
                    await eventually(partial(has, memory, f"shop/s{index}/80/tcp"), 120)
                found.append(versions(memory))
                if name == "helped":
                    (source / f"{COUNT - 1}.yaml").write_text(service(COUNT - 1, port=81))
                    await eventually(partial(has, memory, f"shop/s{COUNT - 1}/81/tcp"), 120)
                    (source / f"{COUNT - 1}.yaml").write_text(service(COUNT - 1))
            assert (HELPED in made.log.read_text()) == (name == "helped")
    assert found[0] == found[1]
