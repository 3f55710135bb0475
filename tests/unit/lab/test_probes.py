from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from penstock.core.pods import Container, ContainerPort, ExecAction, Probe
from penstock.lab.probes import Prober, Verdict, watch
from support.fake_clock import FakeClock


class Script:
    """A prober whose answers are written down; the last one repeats."""

    def __init__(self, answers: str) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def ask(self, probe: Probe) -> Verdict:
        del probe
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return Verdict(ok=answer == "+")


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def told(probe: Probe, script: Script, seconds: float, *, eager: bool) -> list[str]:
    """Return the verdicts that are told within *seconds*, with their times."""
    clock = FakeClock()
    verdicts: list[str] = []

    def tell(verdict: Verdict) -> None:
        verdicts.append(f"{'+' if verdict.ok else '-'}{clock.monotonic():g}")

    task = asyncio.create_task(watch(probe, script, clock, tell, eager=eager))  # type: ignore[arg-type]  # a script in place of a Prober
    await settle()
    while clock.monotonic() < seconds:
        clock.advance(0.1)
        await settle()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return [one.replace("00000000000001", "") for one in verdicts]


def probe(**fields: Any) -> Probe:
    return Probe(exec=ExecAction(command=("x",)), **fields)


async def test_failures_count_once_in_each_period() -> None:
    verdicts = await told(probe(period_seconds=2), Script("-"), 8, eager=False)
    assert [round(float(one[1:])) for one in verdicts] == [4]


async def test_eager_probe_fails_no_earlier_than_a_patient_one() -> None:
    verdicts = await told(probe(period_seconds=2), Script("-"), 8, eager=True)
    assert [one[0] for one in verdicts] == ["-"]
    assert [round(float(one[1:])) for one in verdicts] == [4]


async def test_eager_probe_notices_the_first_success_early() -> None:
    verdicts = await told(probe(period_seconds=10), Script("---+"), 3, eager=True)
    assert [one[0] for one in verdicts] == ["+"]
    assert float(verdicts[0][1:]) < 1


async def test_success_threshold_counts() -> None:
    verdicts = await told(probe(period_seconds=1, success_threshold=3), Script("+"), 5, eager=False)
    assert [round(float(one[1:])) for one in verdicts] == [2]


async def test_each_change_is_told_once() -> None:
    script = Script("++---+-++")
    verdicts = await told(probe(period_seconds=1, failure_threshold=2), script, 12, eager=False)
    assert [one[0] for one in verdicts] == ["+", "-", "+"]


async def test_nothing_is_asked_before_the_initial_delay() -> None:
    script = Script("+")
    await told(probe(initial_delay_seconds=5), script, 4, eager=True)
    assert script.asked == 0


@contextlib.asynccontextmanager
async def web(answer: bytes) -> AsyncGenerator[tuple[Prober, list[bytes]], None]:
    seen: list[bytes] = []
    begun = 0
    ended = asyncio.Semaphore(0)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError):
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            if answer == b"never":
                await reader.read()
            writer.write(answer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        ended.release()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def connect(host: str, number: int) -> socket.socket:
        nonlocal begun
        made = socket.socket()
        made.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(made, (host, number))
            begun += 1
        except BaseException:
            made.close()
            raise
        return made

    async def run_command(action: ExecAction) -> int:
        return int(action.command[0])

    ports = (ContainerPort(container_port=port, name="web"),)
    container = Container(name="c", ports=ports)
    yield (
        Prober(address="127.0.0.1", container=container, connect=connect, run_command=run_command),
        seen,
    )
    for _ in range(begun):
        await ended.acquire()
    server.close()


@pytest.mark.parametrize(
    ("answer", "ok", "message"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True, ""),
        (b"HTTP/1.1 399 X\r\n\r\n", True, ""),
        (b"HTTP/1.1 503 No\r\n\r\n", False, "HTTP status 503"),
        (b"SSH-2.0-x\r\n", False, "no HTTP answer: b'SSH-2.0-x\\r\\n'"),
        (b"", False, "no HTTP answer: b''"),
    ],
)
async def test_http_status_decides(answer: bytes, ok: bool, message: str) -> None:  # noqa: FBT001 - a parameter of the test
    async with web(answer) as (prober, seen):
        headers = [{"name": "X", "value": "1"}]
        action = {"port": "web", "path": "ready", "httpHeaders": headers}
        verdict = await prober.ask(msgspec.convert({"httpGet": action}, Probe))
        assert verdict == Verdict(ok, message)
        assert seen[0].startswith(b"GET /ready HTTP/1.1\r\n")
        assert b"\r\nX: 1\r\n" in seen[0]


async def test_no_answer_in_time_is_a_failure() -> None:
    async with web(b"never") as (prober, _):
        verdict = await prober.ask(msgspec.convert({"httpGet": {"port": "web"}}, Probe))
        assert verdict == Verdict(ok=False, message="no answer within 1 s")


async def test_tcp_and_command_probes() -> None:
    async with web(b"") as (prober, _):
        ask = prober.ask
        assert (await ask(msgspec.convert({"tcpSocket": {"port": "web"}}, Probe))).ok
        assert not (await ask(msgspec.convert({"tcpSocket": {"port": 1}}, Probe))).ok
        assert (await ask(msgspec.convert({"exec": {"command": ["0"]}}, Probe))).ok
        failed = await ask(msgspec.convert({"exec": {"command": ["3"]}}, Probe))
        assert failed == Verdict(ok=False, message="command ended with 3")


async def test_probe_of_a_port_without_that_name_says_so() -> None:
    async with web(b"") as (prober, _):
        verdict = await prober.ask(msgspec.convert({"tcpSocket": {"port": "nope"}}, Probe))
        assert "no port named 'nope'" in verdict.message
