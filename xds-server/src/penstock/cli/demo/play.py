"""The demo from start to end."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

from penstock.cli.demo.gateways_only import play_gateways
from penstock.cli.demo.script import Script
from penstock.cli.demo.shop import play_shop
from penstock.cli.demo.stage import Stage
from penstock.cli.mode import Mode, mode_here
from penstock.cli.output import complain
from penstock.meta.errors import PenstockError
from penstock.runtime.stop import stop_signal

INTERRUPTED = 130


def run(folder: Path | None) -> int:
    """Play the demo and return the exit status: 0 if everything was as expected.

    Args:
        folder: the shop's YAML; None is examples/shop of the present folder.

    Raises:
        PenstockError: the shop is not there, or it cannot be started.
    """
    shop = folder or Path("examples/shop")
    if not (shop / "policy.yaml").is_file():
        raise PenstockError(f"{shop} is not the shop; run this in the repository, or give --folder")
    return asyncio.run(_run(shop, mode_here(only_gateways=False)))


async def _run(shop: Path, mode: Mode) -> int:
    """Play until the end or a signal; clean up in any case."""
    script, began = Script(), time.monotonic()
    stage = Stage(only_gateways=not mode.full)
    playing = asyncio.create_task(_play(shop, mode, stage, script))
    waiting = asyncio.create_task(stop_signal(signal.SIGHUP).wait())
    try:
        await asyncio.wait({playing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        interrupted = not playing.done()
        for task in (playing, waiting):
            task.cancel()
        outcome = (await asyncio.gather(playing, waiting, return_exceptions=True))[0]
        left = await stage.stop()
    if interrupted:
        complain(f"interrupted; left behind: {', '.join(left) or 'nothing'}")
        return INTERRUPTED
    if isinstance(outcome, BaseException):
        raise outcome
    got = ", ".join(left) or "nothing"
    script.check("left behind after the end", "nothing", got, holds=not left)
    return script.end(time.monotonic() - began)


async def _play(shop: Path, mode: Mode, stage: Stage, script: Script) -> None:
    if mode.full:
        await play_shop(shop, stage, script)
    else:
        await play_gateways(shop.parent / "gateway", stage, script, mode.missing[0])
