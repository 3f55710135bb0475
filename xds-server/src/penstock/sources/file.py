"""The file source: objects from folders of YAML, watched.

The same objects and events as from an API server: see `penstock.sources.source`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import watchfiles

from penstock.core.decode import Decoded
from penstock.core.events import Batch
from penstock.meta.clock import Clock
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Location
from penstock.sources.contents import Contents
from penstock.sources.reading import list_files, read_text
from penstock.sources.registry import Registry
from penstock.sources.source import Sink, SourceProblem

RESCAN_SECONDS = 30.0
"""Network and overlay file systems do not tell every change."""
QUIET_MS = 50
"""A change is taken when nothing else changed for so long,"""
LONGEST_MS = 500
"""but at most so long after the first one."""
_READY_MS = 200

Watch = Callable[[Sequence[Path]], AsyncIterator[object]]
"""Yields when something below some paths may have changed, and once when it began to look."""


class Loaded(msgspec.Struct, frozen=True):
    """The objects of some files at one moment."""

    objects: tuple[Decoded, ...]
    problems: tuple[SourceProblem, ...]
    locate: Callable[[ObjectRef, str], Location | None]


def load(paths: Iterable[Path], registry: Registry) -> Loaded:
    """Return the objects of files and folders; what is wrong is in `problems`."""
    contents = Contents(registry)
    contents.apply(list_files(tuple(paths)), read_text, 0.0)
    return Loaded(contents.objects(), contents.problems(), contents.locate)


async def watch_folders(paths: Sequence[Path]) -> AsyncIterator[object]:
    """Yield when something below *paths* changed, debounced, and once when watching began."""
    existing = [path for path in paths if path.exists()]
    if not existing:
        return
    started = False
    changes = watchfiles.awatch(
        *existing,
        watch_filter=None,
        debounce=LONGEST_MS,
        step=QUIET_MS,
        rust_timeout=_READY_MS,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    async for change in changes:
        if change or not started:
            started = True
            yield change


class FileSource:
    """Objects from files and folders, and their changes."""

    def __init__(
        self,
        paths: Iterable[Path],
        registry: Registry,
        clock: Clock,
        watch: Watch = watch_folders,
    ) -> None:
        """Read nothing yet.

        Args:
            paths: folders, looked through recursively, or single files.
            registry: the kinds to decode.
            clock: paces rescans.
            watch: tells when to look.
        """
        self._paths = tuple(paths)
        self._clock = clock
        self._watch = watch
        self._contents = Contents(registry)
        self._problems: tuple[SourceProblem, ...] | None = ()
        self._look = asyncio.Event()

    async def run(self, sink: Sink) -> None:
        """Give *sink* everything in one batch, then each change, until cancelled."""
        self._look.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._notice())
            tasks.create_task(self._rescan())
            first = True
            while True:
                await self._look.wait()
                self._look.clear()
                batch = await self._refresh(tasks)
                if first or batch.events:
                    first = False
                    await sink(batch)

    def problems(self) -> tuple[SourceProblem, ...]:
        """Return what is wrong at present, sorted by file and line."""
        if self._problems is None:
            self._problems = self._contents.problems()
        return self._problems

    def locate(self, ref: ObjectRef, path: str) -> Location | None:
        """Return the place of a JSON path in the version of *ref* that is in force."""
        return self._contents.locate(ref, path)

    async def _refresh(self, tasks: asyncio.TaskGroup) -> Batch:
        """Look at the files and take what changed."""
        listing = await asyncio.to_thread(list_files, self._paths)
        now = self._clock.monotonic()
        events = self._contents.apply(listing, read_text, now)
        self._problems = None
        again = self._contents.recheck_after(now)
        if again is not None:
            tasks.create_task(self._look_after(again))
        return Batch(events)

    async def _notice(self) -> None:
        """Look when the operating system tells of a change; paths that appear are found later."""
        while True:
            with contextlib.suppress(OSError):
                async for _ in self._watch(self._paths):
                    self._look.set()
            await self._clock.sleep(RESCAN_SECONDS)

    async def _rescan(self) -> None:
        while True:
            await self._clock.sleep(RESCAN_SECONDS)
            self._look.set()

    async def _look_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._look.set()
