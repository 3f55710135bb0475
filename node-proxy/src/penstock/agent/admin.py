"""Envoy's admin interface over its unix socket."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import msgspec

from penstock.meta.errors import PenstockError

READ_ONLY = frozenset(
    {
        "certs",
        "clusters",
        "config_dump",
        "init_dump",
        "listeners",
        "memory",
        "ready",
        "runtime",
        "server_info",
        "stats",
        "stats/prometheus",
    }
)
"""What may be read through the agent; all that changes Envoy is a POST and not here."""
_SECONDS = 5.0


class AdminUnavailableError(PenstockError):
    """Envoy's admin socket does not answer."""

    def __init__(self, socket: Path, cause: str) -> None:
        """Name the socket and the cause."""
        super().__init__(f"{socket}: Envoy's admin does not answer ({cause}); see logs/envoy.log")
        self.socket = socket


class AdminAnswer(msgspec.Struct, frozen=True):
    """An answer of the admin interface."""

    status: int
    content_type: str
    body: bytes


class _ListenerStatus(msgspec.Struct):
    name: str


class _Listeners(msgspec.Struct):
    listener_statuses: list[_ListenerStatus] = []


class EnvoyAdmin:
    """Requests to the admin interface; a connection for each, none is kept."""

    def __init__(self, socket: Path) -> None:
        """Use the unix socket at *socket*; it need not exist yet."""
        self._socket = socket

    async def get(self, path: str, timeout: float = _SECONDS) -> AdminAnswer:  # noqa: ASYNC109 - handed on, as seconds
        """Return the answer to GET /*path*, which may hold a query.

        Raises:
            AdminUnavailableError: nobody answers within *timeout* seconds.
        """
        return await self._request("GET", path, timeout)

    async def post(self, path: str) -> AdminAnswer:
        """Return the answer to POST /*path*."""
        return await self._request("POST", path, _SECONDS)

    async def state(self) -> str:
        """Return LIVE, PRE_INITIALIZING, INITIALIZING or DRAINING."""
        answer = await self.get("ready", timeout=2.0)
        return answer.body.decode(errors="replace").strip()

    async def listeners(self) -> frozenset[str]:
        """Return the names of the active listeners: those whose sockets accept."""
        answer = await self.get("listeners?format=json")
        found = msgspec.json.decode(answer.body, type=_Listeners)
        return frozenset(listener.name for listener in found.listener_statuses)

    async def active_connections(self) -> int:
        """Return how many downstream connections the HTTP connection managers hold."""
        answer = await self.get("stats?format=json&filter=%5Ehttp%5C..%2A%5C.downstream_cx_active")
        found = msgspec.json.decode(answer.body, type=dict[str, list[dict[str, object]]])
        values = [stat.get("value", 0) for stat in found.get("stats", ()) if "value" in stat]
        return sum(value for value in values if isinstance(value, int))

    async def _request(self, method: str, path: str, seconds: float) -> AdminAnswer:
        limits = aiohttp.ClientTimeout(total=seconds)
        connector = aiohttp.UnixConnector(str(self._socket))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=limits) as session,
                session.request(method, f"http://envoy/{path}") as answer,
            ):
                kind = answer.headers.get("content-type", "text/plain")
                return AdminAnswer(answer.status, kind, await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise AdminUnavailableError(self._socket, str(error) or type(error).__name__) from error
