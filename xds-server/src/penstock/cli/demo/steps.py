"""What the demo does with and without rights: weights, killed parts, a broken file."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from penstock.cli.demo.load_process import LoadProcess, Tally
from penstock.cli.demo.script import Script
from penstock.cli.demo.stage import Stage, kill
from penstock.cli.load import Answer
from penstock.runtime.processes import ProcessId

RATE, CONNECTIONS = 800, 16
SPLITS = ((100, 0), (90, 10), (50, 50), (0, 100))
REQUESTS = 4000
"""For each split: chance alone moves 50/50 by 0.8 points then, so 3 points tell something."""
POINTS = 3.0
BACK_SECONDS = 2.0
PATIENCE = 20.0
OK = 200
_WEIGHT = re.compile(r"weight: \d+")


async def first(load: LoadProcess, moment: float, wanted: Callable[[Answer], bool]) -> float | None:
    """Return when the first answer after *moment* that is *wanted* came; None if none does."""
    await load.wait_until(lambda: load.first(moment, wanted) is not None, PATIENCE)
    return load.first(moment, wanted)


async def canary(stage: Stage, script: Script, load: LoadProcess) -> None:
    """Move the weights of canary.yaml under load; nothing may fail."""
    text = (stage.folder / "canary.yaml").read_text()
    began = time.monotonic()
    await load.wait_until(lambda: load.since(began).total > RATE // 4, PATIENCE)
    for weights in SPLITS:
        moment = await set_weights(stage, text, weights)
        await load.wait_until(lambda: load.since(moment).total >= REQUESTS, PATIENCE)  # noqa: B023 - awaited before the next turn
        show_split(script, load.since(moment), weights)
    whole = load.since(began)
    said = f"{whole.failures} {whole.complaints}".strip()
    sent = f"all {whole.total} requests of this step"
    script.check(sent, "0 failures", said, holds=whole.failures == 0)


def show_split(script: Script, tally: Tally, weights: tuple[int, int]) -> None:
    """Show and check how requests were split."""
    shares = {"v1": tally.share("v1"), "v2": tally.share("v2")}
    holds = (
        tally.failures == 0
        and tally.total >= REQUESTS // 2
        and all(
            abs(share * 100 - weight) <= POINTS
            for share, weight in zip(shares.values(), weights, strict=True)
        )
    )
    said = f"{tally.total} requests, {tally.failures} failures"
    script.split(f"{weights[0]}/{weights[1]}", shares, said, holds=holds)


async def set_weights(stage: Stage, text: str, weights: tuple[int, int]) -> float:
    """Save canary.yaml with *weights* and return when Envoy has them, monotonic."""
    values = iter(weights)
    changed = _WEIGHT.sub(lambda _: f"weight: {next(values)}", text)
    if (stage.folder / "canary.yaml").read_text() != changed:
        before = stage.resource_versions("Runtime")
        stage.save("canary.yaml", changed)

        def in_force() -> bool:
            now = stage.resource_versions("Runtime")
            return now != before and all(acked for _, acked in now.values())

        await stage.eventually(in_force, PATIENCE)
        await asyncio.sleep(0.1)  # requests that were on their way
    return time.monotonic()


async def kill_part(stage: Stage, script: Script, load: LoadProcess, name: str) -> None:
    """Kill the controller or the agent; nothing may fail, and it must come back."""
    old: ProcessId | None = getattr(stage.processes(), name)
    moment = time.monotonic()
    kill(old)

    def runs_again() -> bool:
        new: ProcessId | None = getattr(stage.processes(), name)
        return new is not None and new != old and new.alive and stage.is_whole()

    back = await stage.eventually(runs_again, PATIENCE)
    seconds = time.monotonic() - moment
    await asyncio.sleep(1.0)
    tally = load.since(moment)
    said = f"{tally.failures} in {tally.total} requests {tally.complaints}".strip()
    again = f"again whole after {seconds:.1f} s" if back else "does not come back"
    script.check(
        f"kill -9 {name}: {again}",
        "0 failures",
        said,
        holds=back and tally.failures == 0 and tally.total > 0,
    )


async def kill_envoy(stage: Stage, script: Script, load: LoadProcess) -> tuple[float, float]:
    """Kill Envoy and check that it is back soon; return when it was killed and was back."""
    moment = time.monotonic()
    kill(stage.envoy())
    failed = await first(load, moment, lambda answer: answer.status == 0)
    back = await first(load, failed or moment, lambda answer: answer.status == OK)
    seconds = (back or float("inf")) - moment
    script.check(
        f"kill -9 envoy: {load.since(moment, back or 0).failures} requests failed",
        f"back in < {BACK_SECONDS:.0f} s",
        f"{seconds:.2f} s",
        holds=seconds < BACK_SECONDS,
    )
    return moment, back or moment


def check_steady(script: Script, load: LoadProcess, back: float) -> None:
    """Check that nothing failed any more once Envoy was back."""
    after = load.since(back + 0.5)
    said = f"{after.failures} in {after.total} {after.complaints}".strip()
    holds = after.failures == 0 and after.total > 0
    script.check("requests from 0.5 s after its return", "0 failures", said, holds=holds)


async def break_and_mend(
    stage: Stage,
    script: Script,
    load: LoadProcess,
    *,
    file: str,
    word: str,
    still_right: Callable[[], Awaitable[None]],
) -> None:
    """Save a mistake, check that it is named and harms nobody, mend it.

    Args:
        stage: where it happens.
        script: told what is found.
        load: must go on without failures.
        file: which one to break.
        word: the first "word:" in the file loses its colon.
        still_right: checks that the last good version is in force.
    """
    good = (stage.folder / file).read_text()
    lines = good.splitlines(keepends=True)
    place = next(index for index, line in enumerate(lines) if f"{word}:" in line)
    lines[place] = lines[place].replace(f"{word}:", word)
    moment = stage.save(file, "".join(lines))
    await stage.eventually(lambda: bool(stage.problems().items), PATIENCE)
    found = stage.problems().items[:1]
    for one in found:
        script.note(f"{Path(one.file).name}:{one.line}:{one.column}: {one.text}")
    named = f"{file}:{found[0].line}" if found else "nothing"
    near = bool(found) and found[0].line in (place + 1, place + 2)
    expected = f"{file}:{place + 1} or {place + 2}"
    script.check(f"saved: {word} without its colon", expected, named, holds=near)
    await still_right()
    stage.save(file, good)
    healed = await stage.eventually(lambda: not stage.problems().items, PATIENCE)
    said = "none" if healed else "still there"
    script.check("mended and saved", "no problems", said, holds=healed)
    await still_right()
    tally = load.since(moment)
    script.check(
        f"{tally.total} requests of the load meanwhile",
        "0 failures",
        f"{tally.failures} {tally.complaints}".strip(),
        holds=tally.failures == 0 and tally.total > 0,
    )
