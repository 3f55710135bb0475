"""The five steps with the whole mesh: policy, refusal, canary, failures, mistakes."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

from penstock.cli.demo.load_process import LoadProcess
from penstock.cli.demo.script import Script
from penstock.cli.demo.stage import Stage
from penstock.cli.demo.steps import (
    CONNECTIONS,
    OK,
    PATIENCE,
    RATE,
    break_and_mend,
    canary,
    check_steady,
    first,
    kill_envoy,
    kill_part,
)
from penstock.cli.load import Answer

SAVED_SECONDS = 1.0
FORBIDDEN = 403
_FRONTEND, _INTRUDER, _ORDERS = "deploy/frontend", "deploy/intruder", "deploy/orders-v1"
_ALLOWED = ("GET", "http://orders/public")
_FORBIDDEN = ("POST", "http://orders/public")


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
    script.step(3, f"Canary: weights move under {RATE} requests/s from the frontend")
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
    http, kernel = await _forbidden(stage, "50", "50")
    saved = stage.save("policy.yaml", policy)
    http_denied = await first(http, saved, lambda answer: answer.status == FORBIDDEN)
    refused = await first(kernel, saved, lambda answer: "refused" in answer.error)
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


async def failures(stage: Stage, script: Script, load: LoadProcess) -> None:
    """Step 4: parts of Penstock are killed under the same load; nothing passes un-policed."""
    script.step(4, "kill -9 of controller, agent, Envoy, under the same load")
    for name in ("controller", "agent"):
        await kill_part(stage, script, load, name)
    http, kernel = await _forbidden(stage, "200", "100")
    killed, back = await kill_envoy(stage, script, load)
    await asyncio.sleep(1.5)
    for one in (http, kernel):
        await one.stop()
    tried = http.since(killed).total + kernel.since(killed).total
    passed = http.since(killed).with_status(OK) + kernel.since(killed).with_status(OK)
    sent = f"{tried} forbidden requests meanwhile"
    script.check(sent, "0 let through", str(passed), holds=passed == 0 and tried > 0)
    check_steady(script, load, back)


async def _forbidden(stage: Stage, *rates: str) -> tuple[LoadProcess, LoadProcess]:
    """Start what policy forbids: on an open connection, and with a new one for each request."""
    http = await stage.load(_FRONTEND, *_FORBIDDEN, rates[0], "4")
    kernel = await stage.load(_INTRUDER, *_ALLOWED, rates[1], "4", "new")
    for load in (http, kernel):
        await load.wait_for_results(PATIENCE)
    return http, kernel


async def broken_file(stage: Stage, script: Script, load: LoadProcess) -> None:
    """Step 5: a mistake in a file harms nobody, is named, and heals."""
    script.step(5, "A broken YAML file: the last good one stays in force")

    async def still_right() -> None:
        frontend = [Expectation(*_ALLOWED, 200), Expectation(*_FORBIDDEN, 403)]
        await check_all(stage, script, _FRONTEND, frontend)
        await check_all(stage, script, _INTRUDER, [Expectation(*_ALLOWED, 0)])

    await break_and_mend(
        stage, script, load, file="policy.yaml", word="toPorts", still_right=still_right
    )
    await load.stop()
