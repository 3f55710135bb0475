"""`make bench`: measure, and write docs/measurements. Nothing is asserted."""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from bench import change, grants, kube_scale, machine, path, peers, routes, startup, streams
from bench.report import Bench, Report, write

FOLDER = Path(__file__).parents[2] / "docs" / "measurements"
BENCHES: dict[str, Callable[[], Report | str]] = {
    "change": change.run,
    "grants": grants.run,
    "path": path.run,
    "peers": peers.run,
    "routes": routes.run,
    "scale": kube_scale.run,
    "startup": startup.run,
    "streams": streams.run,
}
"""Benches by topic; one that cannot run here says why instead."""


def main() -> None:
    """Run the benches that were asked for, each with a page of its own."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--to", type=Path, default=FOLDER, help="folder of the pages")
    options = parser.parse_args()
    # Where it is deployed, modules are compiled beforehand; here by the first process that runs.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    unknown = set(options.topics) - BENCHES.keys()
    if unknown:
        parser.error(f"no such topic: {', '.join(sorted(unknown))}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    for topic in options.topics or BENCHES:
        _run(topic, options.to)


def _run(topic: str, folder: Path) -> None:
    sys.stdout.write(f"{topic}: measuring\n")
    sys.stdout.flush()
    described = machine.describe()
    start = time.monotonic()
    report = BENCHES[topic]()
    if isinstance(report, str):
        sys.stdout.write(f"{topic}: not run: {report}\n")
        return
    bench = Bench(
        machine=described,
        date=dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=f"make bench TOPICS={topic}",
        seconds=time.monotonic() - start,
    )
    page = write(report, bench, folder)
    sys.stdout.write(page.read_text() + "\n")


if __name__ == "__main__":
    main()
