"""What comes out of fuzzed objects passes the real Envoy's own validation."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings

from penstock.compiler.compile import Compiler
from support.compiled_envoy import CompiledEnvoy, compiled_envoy
from support.fuzzed import GOOD, Things, some
from support.objects import added

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def envoy(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[CompiledEnvoy]:
    async with compiled_envoy(tmp_path_factory.mktemp("e"), drain=1) as running:
        yield running


@settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(things=some())
async def test_envoy_takes_whatever_is_compiled(envoy: CompiledEnvoy, things: Things) -> None:
    compiler = Compiler()
    compiler.apply(added([*GOOD, *things]))
    # A listener whose unix sockets change cannot take over those that stay.
    await envoy.run([])
    await envoy.run(compiler.resources("n1"))
