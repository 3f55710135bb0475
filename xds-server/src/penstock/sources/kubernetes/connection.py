"""HTTP to an API server on behalf of reflectors."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
import msgspec
from yarl import URL

from penstock.core.events import Event
from penstock.meta.clock import Clock
from penstock.meta.errors import PenstockError
from penstock.sources.kubernetes.access import Access, AccessError, Credentials
from penstock.sources.kubernetes.reflector import Reflector
from penstock.sources.kubernetes.requests import ListRequest, Pause, Request

CONNECT_SECONDS = 10.0
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
LONGEST_ERROR = 64 << 10
"""Bytes of an error's body that are read."""
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)
"""A peer that is gone without a word is noticed within half a minute; one that is there and says
nothing, by the reflector's deadline."""

Deliver = Callable[[Reflector, tuple[Event, ...]], Awaitable[None]]
"""Takes what a request changed; called after each request, also without events."""
_DISTRUST = (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError)
_T = TypeVar("_T")


class _StalledError(Exception):
    """Nothing came until the deadline."""


class UnreachableError(PenstockError):
    """The API server gave no answer."""


class Call(msgspec.Struct, frozen=True):
    """A request that has a short answer."""

    method: str
    target: str
    """Path and query."""
    body: object = None
    """JSON value; None for none."""
    content: str = ""
    """Content type of the body; "" for a merge patch with PATCH, else plain JSON."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the API server says to a call."""

    status: int
    body: dict[str, Any]
    """An object, or a Status."""
    wait: float = 0.0
    """Seconds that it wants to be left alone."""


def _is_no_such_path(response: aiohttp.ClientResponse, body: bytes) -> bool:
    """Return whether this is the 404, in plain text, of a group or kind that is not served."""
    return response.status == HTTPStatus.NOT_FOUND and not body.startswith(b"{")


class ApiServer:
    """One API server; use as a context."""

    def __init__(self, access: Access, clock: Clock, environment: Mapping[str, str]) -> None:
        """Connect to nothing yet; *environment* is for a credential plugin."""
        self._access = access
        self._clock = clock
        self._credentials = Credentials(access, clock, environment)

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[aiohttp.ClientSession]:
        """Yield a session for `follow`."""
        connector = aiohttp.TCPConnector(limit=0, socket_factory=_socket)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            read_bufsize=1 << 18,
            headers={"User-Agent": "penstock", "Accept-Encoding": "identity"},
        ) as session:
            yield session

    async def follow(
        self, session: aiohttp.ClientSession, reflector: Reflector, deliver: Deliver
    ) -> None:
        """Do what *reflector* asks for, until cancelled."""
        while True:
            match reflector.next(self._clock.monotonic()):
                case Pause(seconds=seconds):
                    await self._clock.sleep(seconds)
                case request:
                    await self._exchange(session, reflector, request, deliver)

    async def call(self, session: aiohttp.ClientSession, call: Call, seconds: float) -> Answer:
        """Make one request that has a short answer.

        Raises:
            UnreachableError: there is no answer within *seconds*, or it is not JSON.
        """
        try:
            async with asyncio.timeout(seconds):
                response = await self._send(
                    session, call.method, call.target, call.body, content=call.content
                )
                async with response:
                    body = await response.read()
            if response.status == HTTPStatus.UNAUTHORIZED:
                self._credentials.refuse()
            told = body if not _is_no_such_path(response, body) else b""
            value = msgspec.json.decode(told) if told else {}
        except (aiohttp.ClientError, OSError, AccessError, msgspec.MsgspecError) as error:
            if isinstance(error, _DISTRUST):
                self._credentials.refuse()
            raise UnreachableError(_reason(error)) from error
        wait = response.headers.get("Retry-After", "")
        return Answer(
            status=response.status,
            body=value if isinstance(value, dict) else {},
            wait=float(wait) if wait.isdecimal() else 0.0,
        )

    async def fetch(
        self, session: aiohttp.ClientSession, target: str, seconds: float
    ) -> tuple[int, bytes]:
        """Return status and body of a GET whose answer need not be JSON, as logs of a pod.

        Raises:
            UnreachableError: there is no answer within *seconds*.
        """
        try:
            async with asyncio.timeout(seconds):
                response = await self._send(session, "GET", target)
                async with response:
                    return response.status, await response.read()
        except (aiohttp.ClientError, OSError, AccessError) as error:
            raise UnreachableError(_reason(error)) from error

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        reflector: Reflector,
        request: Request,
        deliver: Deliver,
    ) -> None:
        """Make one request and give its answer to *reflector*, piece by piece."""
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._within(reflector, self._ask(session, reflector, request))
            if response.status != HTTPStatus.OK:
                await self._refused(reflector, response, deliver)
            else:
                await self._stream(reflector, response, deliver)
        except (aiohttp.ClientError, OSError, AccessError, _StalledError) as error:
            if isinstance(error, _DISTRUST):
                self._credentials.refuse()
            await deliver(reflector, reflector.broke(_reason(error), self._clock.monotonic()))
        finally:
            if response is not None:
                _abandon(response)

    async def _ask(
        self, session: aiohttp.ClientSession, reflector: Reflector, request: Request
    ) -> aiohttp.ClientResponse:
        accept = ""
        if reflector.kind.metadata_only:
            accept = METADATA_LIST if isinstance(request, ListRequest) else METADATA
        return await self._send(session, "GET", request.target, accept=accept)

    async def _stream(
        self, reflector: Reflector, response: aiohttp.ClientResponse, deliver: Deliver
    ) -> None:
        reflector.opened()
        while not reflector.over:
            some = await self._within(reflector, response.content.readany())
            now = self._clock.monotonic()
            if not some:
                await deliver(reflector, reflector.finished(now))
                return
            await deliver(reflector, reflector.chunk(some, now))

    async def _refused(
        self, reflector: Reflector, response: aiohttp.ClientResponse, deliver: Deliver
    ) -> None:
        if response.status == HTTPStatus.UNAUTHORIZED:
            self._credentials.refuse()
        body = await self._within(reflector, response.content.read(LONGEST_ERROR))
        wait = response.headers.get("Retry-After", "")
        seconds = float(wait) if wait.isdecimal() else 0.0
        now = self._clock.monotonic()
        await deliver(reflector, reflector.refused(response.status, body, now, seconds))

    async def _send(
        self,
        session: aiohttp.ClientSession,
        method: str,
        target: str,
        body: object = None,
        *,
        accept: str = "",
        content: str = "",
    ) -> aiohttp.ClientResponse:
        context = await self._credentials.context()
        headers = await self._credentials.headers()
        if accept:
            headers = {**headers, "Accept": accept}
        if body is not None:
            usual = "application/merge-patch+json" if method == "PATCH" else "application/json"
            headers = {**headers, "Content-Type": content or usual}
        return await session.request(
            method,
            URL(self._access.server + target, encoded=True),
            headers=headers,
            # Of a file, also one in memory, a large body is sent piece by piece.
            data=None if body is None else io.BytesIO(msgspec.json.encode(body)),
            ssl=True if context is None else context,
            server_hostname=self._access.server_name or None,
            allow_redirects=False,
        )

    async def _within(self, reflector: Reflector, work: Coroutine[Any, Any, _T]) -> _T:
        """Return what *work* returns before the reflector's deadline.

        Raises:
            _StalledError: it did not.
        """
        left = reflector.deadline - self._clock.monotonic()
        task = asyncio.create_task(work)
        timer = asyncio.create_task(self._clock.sleep(left))
        taken = False
        try:
            await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
            taken = task.done()
            if taken:
                return task.result()
            raise _StalledError(f"no word from the server for {left:.0f} s")
        finally:
            timer.cancel()
            if not taken:
                task.cancel()
                task.add_done_callback(_drop)
                await asyncio.wait({task})


def _abandon(response: aiohttp.ClientResponse) -> None:
    """Close an answer that was not read to its end, without a farewell the peer may not answer."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


def _drop(task: asyncio.Task[Any]) -> None:
    """Let go of what came just when nobody waited for it any more."""
    if task.cancelled() or task.exception() is not None:
        return
    came = task.result()
    if isinstance(came, aiohttp.ClientResponse):
        _abandon(came)


def _reason(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return f"{error.host}:{error.port} does not prove who it is: {error}"
        case aiohttp.ClientConnectorError():
            return f"no connection to {error.host}:{error.port}: {error.os_error}"
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            return "the connection broke"
        case _:
            return str(error) or type(error).__name__


def _socket(address: Any) -> socket.socket:
    made = socket.socket(address[0], address[1], address[2])
    for level, option, value in _KEEPALIVE:
        made.setsockopt(level, option, value)
    return made
