"""The command behind `make e2e-machine`.

python -m support.machine run [--accel kvm|tcg] [--logs FOLDER] COMMAND… | image | remove
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from support.kube import ROOT
from support.machine import machine
from support.machine.accelerator import Accelerator, accelerator, check_programs
from support.machine.errors import MachineError
from support.machine.image import carried, image

LOGS = ROOT / ".machine"


def main(arguments: Sequence[str]) -> int:
    """Return the exit status: that of the command that the machine ran."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "remove":
            machine.remove(_cache())
            return 0
        check_programs()
        if options.command == "image":
            _say(str(image(_cache(), _say).disk))
            return 0
        return _run(options)
    except MachineError as error:
        sys.stderr.write(f"machine: {error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m support.machine")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="start a machine, run a command in it, and end it")
    run.add_argument("--accel", type=Accelerator, choices=list(Accelerator), default=None)
    run.add_argument("--logs", type=Path, default=LOGS, help="folder; default: %(default)s")
    run.add_argument("--processors", type=int, default=machine.Sizes().processors)
    run.add_argument("--memory", type=int, default=machine.Sizes().mebibytes, help="in MiB")
    run.add_argument("words", nargs=argparse.REMAINDER)
    commands.add_parser("image", help="make the image, unless it is there")
    commands.add_parser("remove", help="remove all images")
    return parser


def _run(options: argparse.Namespace) -> int:
    kind = accelerator(options.accel)
    made = image(_cache(), _say)
    share: Path = options.logs.absolute()
    machine.prepare(share, tuple(options.words), carried())
    _say(f"starting ({kind}); console and journal: {share}")
    began = time.monotonic()
    sizes = machine.Sizes(options.processors, options.memory)
    command = machine.qemu(made, share, _cache(), kind, sizes)
    status = machine.run(command, share, _write)
    _say(f"exit {status} after {time.monotonic() - began:.0f} s")
    return status


def _cache() -> Path:
    return Path(os.environ.get("PENSTOCK_CACHE") or Path.home() / ".cache" / "penstock")


def _write(output: bytes) -> None:
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()


def _say(text: str) -> None:
    sys.stdout.write(f"machine: {text}\n")
    sys.stdout.flush()
