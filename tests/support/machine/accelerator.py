"""How the machine's processors are made, and what is missing for a machine here."""

from __future__ import annotations

import enum
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from support.machine.errors import MachineError

KVM_DEVICE = Path("/dev/kvm")
_HARDWARE = {"svm", "vmx"}
_PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "debootstrap": "debootstrap",
    "mkfs.ext4": "e2fsprogs",
    "chroot": "coreutils",
    "git": "git",
}


class Accelerator(enum.StrEnum):
    """What qemu calls them."""

    KVM = "kvm"
    TCG = "tcg"
    """Emulation: works everywhere, 15 to 20 times slower."""


def why_no_kvm(device: Path = KVM_DEVICE, cpuinfo: str | None = None) -> str:
    """Return why KVM cannot run a stock kernel here; empty if it can.

    A /dev/kvm alone says little: where it has no hardware behind it, it runs only kernels that were
    built for it, and emulates all others one instruction at a time.
    """
    if not device.exists():
        return f"there is no {device}: turn on virtualization in the firmware, or modprobe kvm"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device} may not be opened: run it as root"
    text = Path("/proc/cpuinfo").read_text("ascii", "replace") if cpuinfo is None else cpuinfo
    flags = {
        word for line in text.splitlines() if line.startswith("flags") for word in line.split()
    }
    if not flags & _HARDWARE:
        return f"{device} is there, but the processor has neither of {sorted(_HARDWARE)}"
    return ""


def accelerator(wanted: Accelerator | None) -> Accelerator:
    """Return the one that was asked for, KVM if none was.

    Raises:
        MachineError: KVM does not work here.
    """
    if wanted is Accelerator.TCG:
        return Accelerator.TCG
    if why := why_no_kvm():
        raise MachineError(
            f"{why}; ACCEL=tcg does without, 15 to 20 times slower, so that only a part of the "
            "tests ends in time"
        )
    return Accelerator.KVM


def check_programs(which: Callable[[str], str | None] = shutil.which) -> None:
    """Return if a machine can be made and started here.

    Raises:
        MachineError: something is missing; the text names all of it.
    """
    if os.uname().machine != "x86_64":
        raise MachineError(f"the machine is x86-64, and this one is {os.uname().machine}")
    if os.geteuid() != 0:
        raise MachineError("root is needed, to make the image: sudo make e2e-machine")
    packages = sorted({package for name, package in _PROGRAMS.items() if which(name) is None})
    if packages:
        raise MachineError(f"programs are missing: apt-get install {' '.join(packages)}")
