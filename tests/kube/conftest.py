"""One API server for all tests that do no harm to it, and new ones for those that do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from support.kube import KubeApi, gateway_api_crds, kube_api, policy_crds
from support.status_objects import made_anew


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[KubeApi]:
    """Serve every kind that Penstock knows."""
    with kube_api(tmp_path_factory.mktemp("kube")) as running:
        running.install([*gateway_api_crds(), *policy_crds()])
        yield running


@pytest_asyncio.fixture(autouse=True)
async def no_connection_is_left() -> AsyncGenerator[None]:
    """End what asyncio itself forgets.

    A TLS connection whose maker is cancelled between connecting and the first byte of the
    handshake is closed by nobody (`_SSLProtocolTransport.close` does nothing in that state). Tests
    here end clients at any moment.
    """
    yield
    transports: dict[int, asyncio.Transport] = vars(asyncio.get_running_loop())["_transports"]
    for transport in list(transports.values()):
        transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.fixture
def objects(api: KubeApi) -> list[dict[str, Any]]:
    """Make a Gateway of ours with a route, and a policy; return them."""
    return made_anew(api)


@pytest.fixture
def bare_api(tmp_path: Path) -> Generator[KubeApi]:
    """Serve the kinds of Kubernetes itself, to this test only."""
    (tmp_path / "kube").mkdir()
    with kube_api(tmp_path / "kube") as running:
        yield running
