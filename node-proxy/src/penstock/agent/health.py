"""Whether this process lives and its node serves, for who asks by HTTP on a TCP port.

| request | answer |
|---|---|
| `GET /healthz` | 200 while the process answers |
| `GET /readyz` | 200, or 503 and the reason |

It tells nothing else, and should be asked on loopback only.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web


class Health:
    """The two handlers and their socket."""

    def __init__(self, not_ready: Callable[[], str]) -> None:
        """Ask *not_ready* for a reason each time; "" is ready."""
        self._not_ready = not_ready
        self._runner: web.AppRunner | None = None

    def application(self) -> web.Application:
        """Return the application; for tests without a socket."""
        app = web.Application()
        app.router.add_get("/healthz", _alive)
        app.router.add_get("/readyz", self._ready)
        return app

    async def start(self, address: str, port: int) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, address, port).start()

    async def stop(self) -> None:
        """Close the socket."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _ready(self, _request: web.Request) -> web.Response:
        reason = self._not_ready()
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)


async def _alive(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")
