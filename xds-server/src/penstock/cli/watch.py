"""What `penstock up` tells about the user's files while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from penstock.cli.report import Report
from penstock.controlplane.config import known_kinds
from penstock.core.events import Batch
from penstock.meta.clock import Clock
from penstock.sources.file import FileSource
from penstock.sources.source import SourceProblem

_LOOK_SECONDS = 0.2


async def tell_problems(folder: Path, report: Report, clock: Clock) -> None:
    """Tell each mistake in the files when it appears and when it is mended, until cancelled."""
    source = FileSource([folder], known_kinds(), clock)
    running = asyncio.create_task(source.run(_ignore))
    known: dict[str, SourceProblem] = {}
    try:
        while True:
            await clock.sleep(_LOOK_SECONDS)
            if running.done():
                running.result()
            known = tell_changes(known, source.problems(), report)
    finally:
        running.cancel()


def tell_changes(
    known: dict[str, SourceProblem], present: Sequence[SourceProblem], report: Report
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


async def _ignore(_batch: Batch) -> None:
    """Take no objects: the controller and the lab do."""
