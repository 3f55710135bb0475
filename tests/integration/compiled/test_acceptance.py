"""The real Envoy takes all resources of every golden case, in whatever order the cases come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from support import golden
from support.compiled_envoy import CompiledEnvoy, compiled_envoy

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def envoy(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[CompiledEnvoy]:
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as running:
        yield running


@pytest.mark.parametrize("name", golden.case_names())
async def test_every_resource_is_accepted_and_in_force(envoy: CompiledEnvoy, name: str) -> None:
    # A listener whose unix sockets change cannot take over those that stay.
    await envoy.run([])
    await envoy.run(golden.compiled(name).resources)
    assert await _waiting(envoy) == []


async def test_everything_can_be_taken_away(envoy: CompiledEnvoy) -> None:
    await envoy.run(golden.compiled("shop").resources)
    await envoy.run([])
    assert await _waiting(envoy) == []


async def _waiting(envoy: CompiledEnvoy) -> list[str]:
    """Return clusters and listeners that warm, and resources in error."""
    dump = await envoy.admin("/config_dump?include_eds=on")
    return [f"{place} {key}" for place, key in _keys(dump, "") if _is_trouble(key)]


def _is_trouble(key: str) -> bool:
    return "warming" in key or key == "error_state"


def _keys(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield every (name of what is around it, key) in JSON."""
    if isinstance(value, dict):
        here = str(value.get("name", place))
        for key, below in value.items():
            yield here, key
            yield from _keys(below, here)
    elif isinstance(value, list):
        for below in value:
            yield from _keys(below, place)
