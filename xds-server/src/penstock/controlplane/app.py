"""Start of the controller: reading begins first, the rest is imported and built meanwhile.

An API server with 10,000 routes takes a second to list them, and importing everything takes half
of that; so this module and what it imports stay small.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
from collections.abc import Callable

from penstock.controlplane.config import Config, source_of
from penstock.controlplane.reading import reading
from penstock.runtime.clock import SystemClock
from penstock.runtime.stop import stop_signal

START_SECONDS = 60.0
"""A start that takes longer is none in which seconds count."""


def run(config: Config) -> None:
    """Run the controller until SIGTERM or SIGINT."""
    # A copy that compiles (runtime/forked.py) has no use for gRPC, which would start threads in it.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
    asyncio.run(_main(config))


async def _main(config: Config) -> None:
    spare_collector(asyncio.get_running_loop().call_later)
    await serve(config, stop_signal())


def spare_collector(call_later: Callable[[float, Callable[[], None]], object]) -> None:
    """Collect no garbage while everything is read, of which nothing is garbage; World ends that.

    A server that does not answer for long leaves garbage at each attempt.
    """
    gc.disable()
    call_later(START_SECONDS, gc.enable)


async def serve(config: Config, stop: asyncio.Event) -> None:
    """Serve until *stop* is set.

    Raises:
        AdsError: a socket cannot be made.
    """
    clock = SystemClock()
    source = source_of(config, clock)
    async with reading(source) as begun:
        serving = await asyncio.to_thread(importlib.import_module, "penstock.controlplane.serving")
        await serving.serve(config, source, begun, clock, stop)
