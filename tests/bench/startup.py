"""How long the command line takes to start, to translate, and to have the shop ready."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.report import Report, Samples, Table, samples

SHOP = Path(__file__).parents[2] / "examples" / "shop"
HELP_TURNS, TRANSLATE_TURNS, UP_TURNS = 15, 8, 3
PATIENCE = 60.0
_STEP = re.compile(r"✓ ([\w ,]+?)(?:  |$)")
STEPS = ("node", "controller, agent, Envoy", "pods", "Gateway", "ready")

ABOUT = """\
Wall clock of whole processes, by turns; the package is not installed as a wheel but found in this
checkout. `python` is an interpreter that does nothing: what no command can beat. `up` is timed
from the start of the process to its line that says so, in a run folder of its own, then ended by
SIGINT.
"""


def run() -> Report:
    """Measure; about a minute."""
    penstock = [sys.executable, "-m", "penstock.cli"]
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "penstock --help": [*penstock, "--help"],
        "penstock translate -f examples/shop": [*penstock, "translate", "-f", str(SHOP)],
    }
    turns = dict(zip(commands, (HELP_TURNS, HELP_TURNS, TRANSLATE_TURNS), strict=True))
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(HELP_TURNS + 1):
        for name, command in commands.items():
            if turn <= turns[name]:
                seconds = _timed(command)
                if turn:  # the first one finds cold files
                    times[name].append(seconds * 1e3)
    found = {name: samples(values) for name, values in times.items()}
    return _report(found, _ups(penstock))


def _timed(command: list[str]) -> float:
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)
    return time.monotonic() - start


def _ups(penstock: list[str]) -> dict[str, Samples] | str:
    """Return the seconds to each step and to the end; or why they cannot be had."""
    if os.geteuid() != 0:
        return "not root: `penstock up` would serve Gateways only"
    found: dict[str, list[float]] = {}
    for _ in range(UP_TURNS):
        with tempfile.TemporaryDirectory(prefix="pst-") as folder:
            for step, seconds in _up(penstock, Path(folder)).items():
                found.setdefault(step, []).append(seconds)
    return {step: samples(values) for step, values in found.items()}


def _up(penstock: list[str], folder: Path) -> dict[str, float]:
    command = [*penstock, "up", str(SHOP), "--run-dir", str(folder / "run")]
    found: dict[str, float] = {}
    start = time.monotonic()
    with (
        (folder / "up.log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                step = _STEP.search(line)
                if step is not None and step[1] in STEPS:
                    found[step[1]] = time.monotonic() - start
                if "ready" in found:
                    break
            stopping = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            process.wait(PATIENCE)
            found["gone after Ctrl-C"] = time.monotonic() - stopping
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
            raise
    if "ready" not in found:
        raise RuntimeError(f"penstock up did not get ready: {(folder / 'up.log').read_text()}")
    return found


def _report(found: dict[str, Samples], ups: dict[str, Samples] | str) -> Report:
    tables = [
        Table(
            title="Commands, ms",
            header=["command", "time"],
            rows=[[f"`{name}`", str(values)] for name, values in found.items()],
            notes=["Aim: `--help` under 200 ms."],
        )
    ]
    raw: dict[str, Any] = dict(found)
    if isinstance(ups, str):
        tables.append(Table(title="penstock up", header=["not run"], rows=[[ups]]))
    else:
        tables.append(
            Table(
                title="`penstock up examples/shop`, seconds since its start",
                header=["step", "time"],
                rows=[[step, str(values)] for step, values in ups.items()],
            )
        )
        raw["up"] = dict(ups)
    return Report(topic="startup", title="Start of commands", about=ABOUT, tables=tables, raw=raw)
