"""Many objects into an API server, over many connections."""

from __future__ import annotations

import asyncio
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import msgspec
from typing_extensions import override

from support.kube import (
    KubeApi,
    MissingProgramError,
    etcd_program,
    gateway_api_crds,
    kubernetes_program,
    path_of,
    policy_crds,
)

CONNECTIONS = 32
T = TypeVar("T")


def on_real_api(measure: Callable[[KubeApi, Path], Coroutine[Any, Any, T]]) -> T | str:
    """Return what *measure* finds with an API server and a folder; or why there is no server."""
    try:
        etcd_program()
        kubernetes_program("kube-apiserver")
    except MissingProgramError as error:
        return str(error)
    with tempfile.TemporaryDirectory(prefix="pst-") as name:
        folder = Path(name)
        (folder / "api").mkdir()
        api = KubeApi(folder / "api")
        try:
            api.start()
            api.install([*gateway_api_crds(), *policy_crds()])
            return asyncio.run(measure(api, folder))
        finally:
            api.stop()


class Writer:
    """Creates and replaces objects; use as a context."""

    def __init__(self, api: KubeApi) -> None:
        self._url = api.url
        self._context = api.client_context()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=self._context)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def create(self, objects: Iterable[dict[str, Any]]) -> int:
        """Create *objects*; return how many there were."""

        async def create(raw: dict[str, Any]) -> None:
            await self._send("POST", path_of(raw).rpartition("/")[0], raw, 201)

        return await _many(objects, create)

    async def delete(self, objects: Iterable[dict[str, Any]]) -> int:
        """Delete *objects*; return how many there were."""

        async def delete(raw: dict[str, Any]) -> None:
            await self._send("DELETE", path_of(raw), {}, 200)

        return await _many(objects, delete)

    async def replace_all(self, objects: Iterable[dict[str, Any]]) -> int:
        """Let all *objects* say what they say here; return how many there were."""
        return await _many(objects, self.replace)

    async def watch(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """Yield what the only object of the list at *path* says, now and after every write."""
        assert self._session is not None
        whole = aiohttp.ClientTimeout(total=None)
        url = f"{self._url}{path}?watch=true"
        async with self._session.get(url, timeout=whole, read_bufsize=1 << 24) as answer:
            async for line in answer.content:
                yield msgspec.json.decode(line)["object"]

    async def replace(self, raw: dict[str, Any]) -> None:
        """Let the object that is there say what *raw* says; return once that is committed."""
        await self._send("PATCH", path_of(raw), raw, 200)

    async def _send(self, method: str, path: str, raw: dict[str, Any], status: int) -> None:
        assert self._session is not None
        form = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Content-Type": form}
        body = msgspec.json.encode(raw)
        async with self._session.request(
            method, self._url + path, data=body, headers=headers
        ) as answer:
            said = await answer.read()
            assert answer.status == status, said


async def _many(
    objects: Iterable[dict[str, Any]], act: Callable[[dict[str, Any]], Coroutine[Any, Any, None]]
) -> int:
    """Do *act* with all *objects* over all connections; return how many there were."""
    waiting = iter(objects)
    done = 0

    async def work() -> None:
        nonlocal done
        for raw in waiting:
            await act(raw)
            done += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(work())
    return done


class Watching(ABC):
    """A watch that is read all the time; use as a context."""

    def __init__(self, writer: Writer, path: str) -> None:
        self._events = writer.watch(path)
        self._reading: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        """Told of every event that was taken."""

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._reading is not None
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        async for found in self._events:
            async with self._changed:
                self._take(found)
                self._changed.notify_all()

    @abstractmethod
    def _take(self, found: dict[str, Any]) -> None:
        """Take an object as it is now."""


class StatusWatch(Watching):
    """Follows the status of one object; use as a context."""

    def __init__(self, writer: Writer, path: str) -> None:
        super().__init__(writer, path)
        self.status: dict[str, Any] | None = None
        self.seen = 0
        """How often the object was written, with its first state."""

    @override
    def _take(self, found: dict[str, Any]) -> None:
        self.status = found.get("status", {})
        self.seen += 1

    async def until(self, holds: Callable[[dict[str, Any]], bool], patience: float) -> None:
        """Wait until the status is as it should be."""

        def reached() -> bool:
            return self.status is not None and holds(self.status)

        async with asyncio.timeout(patience), self._changed:
            await self._changed.wait_for(reached)

    async def quiet(self, seconds: float) -> None:
        """Wait until nobody has written for so long."""
        while True:
            before = self.seen
            await asyncio.sleep(seconds)
            if self.seen == before:
                return
