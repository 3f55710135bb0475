"""A node as Kubernetes makes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.kubernetes_node import PODS, Node
from support.pods_api import serving_pods
from support.topology import Topology, checked_topology


@pytest.fixture(scope="module")
def topology() -> Iterator[Topology]:
    with checked_topology(PODS) as made:
        yield made


@pytest.fixture
async def node(topology: Topology, tmp_path: Path) -> AsyncIterator[Node]:
    async with serving_pods() as (api, access):
        made = Node(topology, tmp_path, api, access)
        await made.controller.start()
        try:
            yield made
        finally:
            await made.controller.stop()
            made.close()
