"""One run: a virtual machine from its start to its end, and what its command has said."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from support.kube import ROOT
from support.machine import guest
from support.machine.accelerator import Accelerator
from support.machine.errors import MachineError
from support.machine.image import Image

_LOOK_SECONDS = 0.2
_END_SECONDS = 10.0
CONSOLE = "console.log"
Write = Callable[[bytes], None]


class Sizes(NamedTuple):
    """What the machine has."""

    processors: int = 2
    mebibytes: int = 7168


def qemu(image: Image, share: Path, cache: Path, kind: Accelerator, sizes: Sizes) -> list[str]:
    """Return the command; what the machine writes to its disk ends with it."""
    processor, threads = ("host", "") if kind is Accelerator.KVM else ("max", ",thread=multi")
    return [
        "qemu-system-x86_64", "-accel", f"{kind}{threads}", "-cpu", processor,
        "-smp", str(sizes.processors), "-m", f"{sizes.mebibytes}M",
        "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd),
        "-append", "root=/dev/vda rw console=ttyS0 panic=-1",
        "-drive", f"file={image.disk},format=raw,if=virtio,cache=unsafe,snapshot=on",
        "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
        "-virtfs", f"local,path={share},mount_tag={guest.SHARE},security_model=none",
        "-virtfs", f"local,path={cache},mount_tag={guest.CACHE},security_model=none,readonly=on",
        "-device", "virtio-rng-pci", "-serial", f"file:{share / CONSOLE}",
    ]  # fmt: skip


def prepare(share: Path, words: tuple[str, ...], environment: dict[str, str]) -> None:
    """Write what the machine runs, and the commit that it runs it in."""
    share.mkdir(parents=True, exist_ok=True)
    for name in (guest.OUTPUT, guest.STATUS, guest.JOURNAL, guest.COMMIT, CONSOLE):
        (share / name).unlink(missing_ok=True)
    (share / guest.RUN).write_text(guest.script(words, environment), encoding="utf-8")
    command = ("git", "-C", str(ROOT), "bundle", "create", "-q", str(share / guest.COMMIT), "HEAD")
    subprocess.run(command, check=True)


def run(command: list[str], share: Path, write: Write) -> int:
    """Return the exit status of what the machine ran; its words go to *write* as they come.

    Raises:
        MachineError: the machine ended before its command did.
    """
    log = share / "qemu.log"
    with log.open("wb") as errors:
        machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
    try:
        seen = 0
        while machine.poll() is None:
            seen += _pass_on(share / guest.OUTPUT, seen, write)
            time.sleep(_LOOK_SECONDS)
        _pass_on(share / guest.OUTPUT, seen, write)
    finally:
        _end(machine)
    status = share / guest.STATUS
    if not status.exists():
        ends = "\n".join(_tail(one) for one in (log, share / CONSOLE))
        raise MachineError(f"the machine ended before its command did; see {share}\n{ends}")
    return int(status.read_text("ascii"))


def remove(cache: Path) -> None:
    """Remove all images."""
    for folder in cache.glob("machine-*"):
        shutil.rmtree(folder)


def _pass_on(file: Path, seen: int, write: Write) -> int:
    """Return how many bytes came behind the first *seen*."""
    try:
        with file.open("rb") as output:
            output.seek(seen)
            new = output.read()
    except FileNotFoundError:
        return 0
    if new:
        write(new)
    return len(new)


def _end(machine: subprocess.Popen[bytes]) -> None:
    machine.terminate()
    try:
        machine.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        machine.kill()
        machine.wait()


def _tail(file: Path) -> str:
    return file.read_text("utf-8", "replace")[-1500:] if file.exists() else ""
