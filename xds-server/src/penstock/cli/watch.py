"""What `penstock up` tells about the user's files and objects while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.cli import client
from penstock.cli.answers import Health, Items, conditions_of, location_of
from penstock.cli.report import Report
from penstock.controlplane.kinds import known_kinds
from penstock.core.events import Batch
from penstock.meta.clock import Clock
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths
from penstock.sources.file import FileSource
from penstock.sources.source import SourceProblem

KINDS = (
    "Gateway",
    "HTTPRoute",
    "GRPCRoute",
    "TLSRoute",
    "TCPRoute",
    "UDPRoute",
    "CiliumNetworkPolicy",
)
"""Kinds that have conditions."""
MOST_OBJECTS = 2000
"""Where there are more, conditions are not asked for at each change; `penstock get` shows them."""
_LOOK_SECONDS = 0.2
_SETTLE_SECONDS = 1.0


class Watcher:
    """Tells each mistake once when it appears and once when it is mended."""

    def __init__(self, folder: Path, paths: RunPaths, report: Report, clock: Clock) -> None:
        """Watch *folder* and ask the controller of an instance."""
        self._source = FileSource([folder], known_kinds(), clock)
        self._controller = client.controller(paths)
        self._report = report
        self._clock = clock
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Go on until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._source.run(self._take))
            tasks.create_task(self._tell_mistakes())
            tasks.create_task(self._tell_conditions())

    async def _take(self, _batch: Batch) -> None:
        """Take no objects, which are the controller's and the lab's; only look again."""
        self._changed.set()

    async def _tell_mistakes(self) -> None:
        known: dict[str, SourceProblem] = {}
        while True:
            await self._clock.sleep(_LOOK_SECONDS)
            known = tell_changes(known, self._source.problems(), self._report)

    async def _tell_conditions(self) -> None:
        known: dict[str, str] = {}
        while True:
            await self._changed.wait()
            await self._clock.sleep(_SETTLE_SECONDS)
            self._changed.clear()
            try:
                found = await asyncio.to_thread(self._ask)
            except PenstockError:
                self._changed.set()
                continue
            known = tell_conditions(known, found, self._report)

    def _ask(self) -> dict[str, str]:
        """Return what is wrong, by object and condition."""
        if self._controller.get("/v1/health", Health).objects > MOST_OBJECTS:
            return {}
        answers = [self._controller.get("/v1/objects", Items, {"kind": one}) for one in KINDS]
        return {
            name: text for answer in answers for item in answer.items for name, text in wrong(item)
        }


def tell_changes(
    known: Mapping[str, SourceProblem], present: Sequence[SourceProblem], report: Report
) -> dict[str, SourceProblem]:
    """Tell what is in *present* and not *known*, and the reverse; return what is known now."""
    now = {str(problem): problem for problem in present}
    for text, problem in now.items():
        if text not in known:
            (report.fails if problem.is_error else report.warns)("mistake", text)
    for text, problem in known.items():
        if text not in now and not _still_wrong(problem, present):
            report.did("mended", f"{problem.file}: {problem.ref or problem.problem.message}")
    return now


def _still_wrong(problem: SourceProblem, present: Sequence[SourceProblem]) -> bool:
    """Tell whether the same thing is still wrong, perhaps at another line."""
    return any(one.file == problem.file and one.ref == problem.ref for one in present)


def tell_conditions(
    known: Mapping[str, str], present: Mapping[str, str], report: Report
) -> dict[str, str]:
    """Tell conditions that are not as they should be, and those that are again."""
    for name, text in present.items():
        if known.get(name) != text:
            report.warns("not in force", f"{name}  {text}")
    for name in known:
        if name not in present:
            report.did("in force", name)
    return dict(present)


def wrong(item: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield object and condition, and what it says, of each condition that is False."""
    meta, place = item["metadata"], location_of(item)
    for name, condition in conditions_of(item.get("status") or {}).items():
        if condition.is_bad and condition.reason != "Pending":
            at = f" ({place})" if place is not None else ""
            text = "; ".join(line for line in condition.message.splitlines() if line)
            ref = f"{item['kind']} {meta.get('namespace', '')}/{meta['name']}"
            yield f"{ref} {name}", f"{condition.reason}: {text}{at}"
