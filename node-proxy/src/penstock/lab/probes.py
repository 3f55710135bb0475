"""Ask a container whether it is well: HTTP, TCP, gRPC or a command, from the node as kubelet does.

Source: Kubernetes, Probe. Connections come from the node's address, which policies always allow.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from penstock.core.pods import Container, ExecAction, HTTPGetAction, IntOrString, Probe
from penstock.lab.network import NetworkError
from penstock.meta.clock import Clock

Connect = Callable[[str, int], Awaitable[socket.socket]]
"""Return a socket of the node that is connected to an address and a port."""
RunCommand = Callable[[ExecAction], Awaitable[int]]
"""Run a command in the container and return its exit status."""

_STATUS_LINE = 4096
_EAGER_SECONDS = 0.2


class Verdict(msgspec.Struct, frozen=True):
    """The answer to one probe."""

    ok: bool
    message: str = ""


class Prober(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach one container."""

    address: str
    container: Container
    connect: Connect
    run_command: RunCommand

    async def ask(self, probe: Probe) -> Verdict:
        """Return the answer to *probe*; no answer in time is a failure."""
        try:
            async with asyncio.timeout(max(probe.timeout_seconds, 1)):
                return await self._ask(probe)
        except TimeoutError:
            return Verdict(ok=False, message=f"no answer within {probe.timeout_seconds} s")
        except (OSError, NetworkError, ValueError) as error:
            return Verdict(ok=False, message=str(error))

    async def _ask(self, probe: Probe) -> Verdict:
        if probe.http_get is not None:
            return await self._http(probe.http_get)
        if probe.tcp_socket is not None:
            host = probe.tcp_socket.host or self.address
            (await self.connect(host, self._port(probe.tcp_socket.port))).close()
            return Verdict(ok=True)
        if probe.exec is not None:
            code = await self.run_command(probe.exec)
            return Verdict(code == 0, f"command ended with {code}" if code else "")
        return Verdict(
            ok=False, message="the lab has no grpc probes; use httpGet, tcpSocket or exec"
        )

    async def _http(self, action: HTTPGetAction) -> Verdict:
        port = self._port(action.port)
        connection = await self.connect(action.host or self.address, port)
        context = _any_certificate() if action.scheme == "HTTPS" else None
        reader, writer = await asyncio.open_connection(
            sock=connection,
            ssl=context,
            server_hostname=self.address if context else None,
            limit=_STATUS_LINE,
        )
        try:
            writer.write(_request(action, f"{self.address}:{port}"))
            line = await reader.readline()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return _judge(line)

    def _port(self, wanted: IntOrString) -> int:
        if isinstance(wanted, int):
            return wanted
        for port in self.container.ports:
            if port.name == wanted:
                return port.container_port
        if wanted.isdigit():
            return int(wanted)
        raise ValueError(f"container {self.container.name!r} has no port named {wanted!r}")


async def watch(
    probe: Probe,
    prober: Prober,
    clock: Clock,
    tell: Callable[[Verdict], None],
    *,
    eager: bool,
) -> None:
    """Ask again and again; tell each change of verdict, success or failure by its threshold.

    Runs until it is cancelled.

    Args:
        probe: thresholds and times.
        prober: asks.
        clock: sleeps.
        tell: gets the changes.
        eager: ask more often until the first success. kubelet does not; pods start faster so.
    """
    told: bool | None = None
    last: bool | None = None
    count = 0
    async for verdict in _answers(probe, prober, clock, eager=eager):
        count = count + 1 if verdict.ok == last else 1
        last = verdict.ok
        threshold = probe.success_threshold if verdict.ok else probe.failure_threshold
        if count >= max(threshold, 1) and verdict.ok != told:
            told = verdict.ok
            tell(verdict)


async def _answers(
    probe: Probe, prober: Prober, clock: Clock, *, eager: bool
) -> AsyncIterator[Verdict]:
    """Yield one answer for each period; with *eager* an early success too, but no early failure."""
    await clock.sleep(probe.initial_delay_seconds)
    period = float(max(probe.period_seconds, 1))
    impatient = eager
    while True:
        verdict = await prober.ask(probe)
        impatient = impatient and not verdict.ok
        yield verdict
        waited = 0.0
        while waited < period:
            rest = period - waited
            pause = _EAGER_SECONDS if impatient and rest > 1.5 * _EAGER_SECONDS else rest
            await clock.sleep(pause)
            waited = waited + pause if pause < rest else period
            if impatient and waited < period:
                extra = await prober.ask(probe)
                if extra.ok:
                    impatient = False
                    yield extra


def _request(action: HTTPGetAction, host: str) -> bytes:
    path = action.path if action.path.startswith("/") else f"/{action.path}"
    headers = {"Host": host, "User-Agent": "kube-probe/lab", "Accept": "*/*"}
    headers |= {header.name: header.value for header in action.http_headers}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode()


def _judge(line: bytes) -> Verdict:
    """Return the verdict on a status line; 200 to 399 is success."""
    words = line.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():  # noqa: PLR2004 - of an HTTP status line
        return Verdict(ok=False, message=f"no HTTP answer: {line[:80]!r}")
    code = int(words[1])
    success = 200 <= code < 400  # noqa: PLR2004 - of an HTTP status line
    return Verdict(success, "" if success else f"HTTP status {code}")


def _any_certificate() -> ssl.SSLContext:
    """Return a context that trusts anyone, as kubelet's probes do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
