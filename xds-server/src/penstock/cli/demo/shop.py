"""The five steps with the whole mesh: policy, refusal, canary, failures, mistakes."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from penstock.cli.demo.load_process import OK, LoadProcess, Tally
from penstock.cli.demo.script import Script
from penstock.cli.demo.stage import Stage, kill
from penstock.cli.load import Answer
from penstock.lab.state import ProcessId

RATE, CONNECTIONS = 800, 16
SPLITS = ((100, 0), (90, 10), (50, 50), (0, 100))
REQUESTS = 4000
"""For each split: chance alone moves 50/50 by 0.8 points then, so 3 points tell something."""
POINTS = 3.0
BACK_SECONDS = 2.0
SAVED_SECONDS = 1.0
FORBIDDEN = 403
_PATIENCE = 20.0
_FRONTEND, _INTRUDER, _ORDERS = "deploy/frontend", "deploy/intruder", "deploy/orders-v1"
_ALLOWED = ("GET", "http://orders/public")
_FORBIDDEN = ("POST", "http://orders/public")
_WEIGHT = re.compile(r"weight: \d+")


class Expectation:
    """One request and what should come of it."""

    def __init__(self, method: str, url: str, status: int) -> None:
        """Expect *status*; 0 is a connection that the kernel refuses."""
        self.words = (method, url)
        self.status = status

    @property
    def expected(self) -> str:
        """Return what is expected, in words."""
        return str(self.status) if self.status else "connection refused"

    def holds(self, answer: Answer) -> bool:
        """Tell whether *answer* is what was expected."""
        refused = answer.error == "connection refused"
        return answer.status == self.status and (bool(self.status) or refused)


def got(answer: Answer) -> str:
    """Return an answer in words."""
    return f"{answer.status} {answer.version}".strip() if answer.status else answer.error


async def play_shop(shop: Path, stage: Stage, script: Script) -> None:
    """Play all steps."""
    shutil.copytree(shop, stage.folder, ignore=shutil.ignore_patterns("policy.yaml"))
    script.note(f"penstock up {stage.folder}: frontend, orders v1 and v2, payments, an intruder")
    began = time.monotonic()
    await stage.start()
    script.note(f"ready in {time.monotonic() - began:.1f} s")
    await without_policy(stage, script)
    await policy_applied(stage, script, (shop / "policy.yaml").read_text())
    load = await stage.load(_FRONTEND, *_ALLOWED, str(RATE), str(CONNECTIONS))
    await canary(stage, script, load)
    await failures(stage, script, load)
    await broken_file(stage, script, load)


async def check_all(
    stage: Stage, script: Script, pod: str, expectations: list[Expectation]
) -> None:
    """Send requests from *pod* and check what comes of each."""
    words = [word for one in expectations for word in one.words]
    answers = await stage.ask(pod, *words)
    name = pod.partition("/")[2]
    for one, answer in zip(expectations, answers, strict=True):
        sent = f"{name}: {' '.join(one.words)}"
        script.check(sent, one.expected, got(answer), holds=one.holds(answer))


async def without_policy(stage: Stage, script: Script) -> None:
    """Step 1: everybody may talk to everybody."""
    script.step(1, "No policy: all talk to all")
    every = [
        Expectation(*_ALLOWED, 200),
        Expectation(*_FORBIDDEN, 200),
        Expectation("GET", "http://orders/admin", 200),
    ]
    await check_all(stage, script, _FRONTEND, every)
    payments = Expectation("GET", "http://payments/", 200)
    await check_all(stage, script, _INTRUDER, [Expectation(*_ALLOWED, 200), payments])
    await check_all(stage, script, _ORDERS, [payments])
    await check_gateway(stage, script, "GET", 200)
    await check_gateway(stage, script, "POST", 200)


async def check_gateway(stage: Stage, script: Script, method: str, status: int) -> None:
    """Send a request from this machine, outside all pods, through the Gateway."""
    at = stage.gateway()
    found = await asyncio.to_thread(stage.ask_gateway, at, method, "/orders", "shop.test")
    sent = f"this machine: {method} http://{at}/orders"
    script.check(sent, str(status), str(found), holds=found == status)


async def policy_applied(stage: Stage, script: Script, policy: str) -> None:
    """Step 2: the policy is saved while everything runs."""
    script.step(2, "policy.yaml is saved: in force within a second, no restart, no sidecar")
    http = await stage.load(_FRONTEND, *_FORBIDDEN, "50", "2")
    kernel = await stage.load(_INTRUDER, *_ALLOWED, "50", "4", "new")
    for load in (http, kernel):
        await load.wait_until(lambda load=load: load.since(0).total > 0, _PATIENCE)  # type: ignore[misc]
    saved = stage.save("policy.yaml", policy)
    http_denied = await _first(http, saved, lambda answer: answer.status == FORBIDDEN)
    refused = await _first(kernel, saved, lambda answer: "refused" in answer.error)
    _check_delay(script, "open connection: first 403 after saving", saved, http_denied)
    _check_delay(script, "intruder: first refusal after saving", saved, refused)
    await asyncio.sleep(0.5)
    for load in (http, kernel):
        await load.stop()
    late = http.since(http_denied or 0).with_status(200) + kernel.since(refused or 0).with_status(
        200
    )
    script.check("requests let through after that", "0", str(late), holds=late == 0)
    await _policy_holds(stage, script)
    _tell_decision(stage, script)


async def _first(
    load: LoadProcess, moment: float, wanted: Callable[[Answer], bool]
) -> float | None:
    await load.wait_until(lambda: load.first(moment, wanted) is not None, _PATIENCE)
    return load.first(moment, wanted)


def _check_delay(script: Script, sent: str, saved: float, seen: float | None) -> None:
    seconds = None if seen is None else seen - saved
    said = "nothing" if seconds is None else f"{seconds:.2f} s"
    in_time = seconds is not None and seconds <= SAVED_SECONDS
    script.check(sent, f"within {SAVED_SECONDS:.0f} s", said, holds=in_time)


async def _policy_holds(stage: Stage, script: Script) -> None:
    frontend = [
        Expectation(*_ALLOWED, 200),
        Expectation(*_FORBIDDEN, 403),
        Expectation("GET", "http://orders/admin", 403),
        Expectation("GET", "http://payments/", 0),
    ]
    await check_all(stage, script, _FRONTEND, frontend)
    intruder = [Expectation(*_ALLOWED, 0), Expectation("GET", "http://payments/", 0)]
    await check_all(stage, script, _INTRUDER, intruder)
    await check_all(stage, script, _ORDERS, [Expectation("GET", "http://payments/", 200)])
    await check_gateway(stage, script, "GET", 200)
    await check_gateway(stage, script, "POST", 403)


def _tell_decision(stage: Stage, script: Script) -> None:
    """Show the last denials as `penstock observe` does, with the line that decided."""
    denied = stage.denials(2)
    for line in denied:
        script.note(f"observe: {line}")
    named = [line for line in denied if "policy.yaml:" in line]
    script.check(
        "penstock observe --verdict DENIED",
        "policy.yaml:LINE",
        f"{len(named)} of {len(denied)} lines name it",
        holds=bool(denied) and len(named) == len(denied),
    )


async def canary(stage: Stage, script: Script, load: LoadProcess) -> None:
    """Step 3: weights move under load."""
    script.step(3, f"Canary: weights move under {RATE} requests/s from the frontend")
    text = (stage.folder / "canary.yaml").read_text()
    began = time.monotonic()
    await load.wait_until(lambda: load.since(began).total > RATE // 4, _PATIENCE)
    for weights in SPLITS:
        moment = await set_weights(stage, text, weights)
        await load.wait_until(lambda: load.since(moment).total >= REQUESTS, _PATIENCE)  # noqa: B023
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

        await stage.eventually(in_force, _PATIENCE)
        await asyncio.sleep(0.1)  # requests that were on their way
    return time.monotonic()


async def failures(stage: Stage, script: Script, load: LoadProcess) -> None:
    """Step 4: parts of Penstock are killed under the same load."""
    script.step(4, "kill -9 of controller, agent, Envoy, under the same load")
    for name in ("controller", "agent"):
        await _kill_part(stage, script, load, name)
    await _kill_envoy(stage, script, load)


async def _kill_part(stage: Stage, script: Script, load: LoadProcess, name: str) -> None:
    old: ProcessId | None = getattr(stage.processes(), name)
    moment = time.monotonic()
    kill(old)

    def runs_again() -> bool:
        new: ProcessId | None = getattr(stage.processes(), name)
        return new is not None and new != old and new.alive and stage.is_whole()

    back = await stage.eventually(runs_again, _PATIENCE)
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


async def _kill_envoy(stage: Stage, script: Script, load: LoadProcess) -> None:
    """Nothing may pass un-policed while Envoy is away, and it must be back soon."""
    http = await stage.load(_FRONTEND, *_FORBIDDEN, "200", "4")
    kernel = await stage.load(_INTRUDER, *_ALLOWED, "100", "4", "new")
    for one in (http, kernel):
        await one.wait_until(lambda one=one: one.since(0).total > 0, _PATIENCE)  # type: ignore[misc]
    moment = time.monotonic()
    kill(stage.envoy())
    failed = await _first(load, moment, lambda answer: answer.status == 0)
    back = await _first(load, failed or moment, lambda answer: answer.status == OK)
    seconds = (back or float("inf")) - moment
    sent = f"kill -9 envoy: {load.since(moment, back or 0).failures} requests failed"
    script.check(
        sent, f"back in < {BACK_SECONDS:.0f} s", f"{seconds:.2f} s", holds=seconds < BACK_SECONDS
    )
    await asyncio.sleep(1.5)
    for one in (http, kernel):
        await one.stop()
    tried = http.since(moment).total + kernel.since(moment).total
    passed = http.since(moment).with_status(200) + kernel.since(moment).with_status(200)
    script.check(
        f"{tried} forbidden requests meanwhile", "0 let through", str(passed), holds=passed == 0
    )
    after = load.since((back or moment) + 0.5)
    said = f"{after.failures} in {after.total} {after.complaints}".strip()
    script.check(
        "requests from 0.5 s after its return", "0 failures", said, holds=after.failures == 0
    )


async def broken_file(stage: Stage, script: Script, load: LoadProcess) -> None:
    """Step 5: a mistake in a file harms nobody, is named, and heals."""
    script.step(5, "A broken YAML file: the last good one stays in force")
    good = (stage.folder / "policy.yaml").read_text()
    lines = good.splitlines(keepends=True)
    place = next(index for index, line in enumerate(lines) if "toPorts:" in line)
    lines[place] = lines[place].replace("toPorts:", "toPorts")
    moment = stage.save("policy.yaml", "".join(lines))
    told = await stage.eventually(lambda: bool(stage.problems().items), _PATIENCE)
    found = stage.problems().items[:1]
    for one in found:
        script.note(f"{Path(one.file).name}:{one.line}:{one.column}: {one.text}")
    near = told and found[0].line in (place + 1, place + 2)
    named = f"policy.yaml:{found[0].line}" if found else "nothing"
    script.check(
        "toPorts without its colon is saved",
        f"policy.yaml:{place + 1} or {place + 2}",
        named,
        holds=near,
    )
    still = [Expectation(*_ALLOWED, 200), Expectation(*_FORBIDDEN, 403)]
    await check_all(stage, script, _FRONTEND, still)
    await check_all(stage, script, _INTRUDER, [Expectation(*_ALLOWED, 0)])
    stage.save("policy.yaml", good)
    healed = await stage.eventually(lambda: not stage.problems().items, _PATIENCE)
    script.check(
        "mended and saved", "no problems", "none" if healed else "still there", holds=healed
    )
    await check_all(stage, script, _FRONTEND, still)
    tally = load.since(moment)
    said = f"{tally.failures} {tally.complaints}".strip()
    script.check(
        f"{tally.total} requests of the load meanwhile", "0 failures", said,
        holds=tally.failures == 0 and tally.total > 0,
    )  # fmt: skip
    await load.stop()
