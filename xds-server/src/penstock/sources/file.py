"""The file source: objects from folders of YAML, watched.

The same objects and events as from an API server: see `penstock.sources.source`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from pathlib import Path

import msgspec
import watchfiles

from penstock.core.decode import Decoded
from penstock.core.events import Batch
from penstock.meta.clock import Clock
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Location
from penstock.sources.contents import Contents
from penstock.sources.reading import Listing, list_changed, list_files, read_text
from penstock.sources.registry import Registry
from penstock.sources.source import Sink, SourceProblem

RESCAN_SECONDS = 30.0
"""Network and overlay file systems do not tell every change."""
QUIET_MS = 50
"""A change is taken when nothing else changed for so long,"""
LONGEST_MS = 500
"""but at most so long after the first one."""
_CHECK_MS = 500

Watch = Callable[[Sequence[Path]], AsyncIterator[Collection[str]]]
"""Yields the paths that changed; none of them means: look everywhere."""


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


async def watch_folders(paths: Sequence[Path]) -> AsyncIterator[Collection[str]]:
    """Yield the paths that changed below *paths*, debounced.

    Yields nothing in particular whenever watching starts: at first, and when a folder appears or
    is exchanged for another one.
    """
    while True:
        watched = _identities(paths)
        folders = {path if path.is_dir() else path.parent for path in paths if path in watched}
        changes = watchfiles.awatch(
            *sorted(folders),
            watch_filter=None,
            debounce=LONGEST_MS,
            step=QUIET_MS,
            rust_timeout=_CHECK_MS,
            yield_on_timeout=True,
            recursive=any(path.is_dir() for path in watched),
            ignore_permission_denied=True,
        )
        started = False
        async for change in changes:
            if not started:
                # what changed before the watch began is told by nobody
                started = True
                yield ()
            elif change:
                yield {_as_given(path, paths) for _, path in change}
            if _identities(paths) != watched:
                break


def _as_given(path: str, roots: Sequence[Path]) -> str:
    """Return an absolute path the way that listings of *roots* write it."""
    for root in roots:
        absolute = str(root.absolute())
        if path == absolute or path.startswith(f"{absolute}/"):
            return str(root) + path.removeprefix(absolute)
    return path


def _identities(paths: Sequence[Path]) -> dict[Path, tuple[int, int]]:
    """Return device and inode of the paths that exist; of the folder for a single file."""
    found: dict[Path, tuple[int, int]] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            state = path.stat() if path.is_dir() else path.parent.stat()
            found[path] = (state.st_dev, state.st_ino)
    return found


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
        self._listing: Listing | None = None
        self._changed: set[str] = set()
        self._everywhere = True
        self._look = asyncio.Event()

    async def run(self, sink: Sink) -> None:
        """Give *sink* everything in one batch, then each change, until cancelled."""
        self._look_everywhere()
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
        changed, self._changed = self._changed, set()
        everywhere, self._everywhere = self._everywhere, False
        if self._listing is None or everywhere:
            self._listing = await asyncio.to_thread(list_files, self._paths)
        else:
            self._listing = list_changed(self._listing, self._paths, changed)
        now = self._clock.monotonic()
        events = self._contents.apply(self._listing, read_text, now)
        self._problems = None
        again = self._contents.recheck_after(now)
        if again is not None:
            tasks.create_task(self._look_after(again))
        return Batch(events)

    def _look_everywhere(self) -> None:
        self._everywhere = True
        self._look.set()

    async def _notice(self) -> None:
        """Look where the operating system tells of changes."""
        while True:
            with contextlib.suppress(OSError):
                async for changed in self._watch(self._paths):
                    self._changed.update(changed)
                    self._everywhere |= not changed
                    self._look.set()
            await self._clock.sleep(RESCAN_SECONDS)

    async def _rescan(self) -> None:
        while True:
            await self._clock.sleep(RESCAN_SECONDS)
            self._look_everywhere()

    async def _look_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._look.set()
