"""The virtual machine for tests: what is said where it cannot run, and how a run ends."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.machine import guest
from support.machine.accelerator import Accelerator, accelerator, check_programs, why_no_kvm
from support.machine.errors import MachineError
from support.machine.image import mirror
from support.machine.machine import prepare, run


def test_kvm_without_hardware_behind_it_does_not_count(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    assert "there is no" in why_no_kvm(device)
    device.touch()
    assert "neither of ['svm', 'vmx']" in why_no_kvm(device, "flags\t\t: fpu sse2 hypervisor\n")
    assert why_no_kvm(device, "flags\t\t: fpu svm\n") == ""


def test_emulation_is_used_only_when_asked_for() -> None:
    assert accelerator(Accelerator.TCG) is Accelerator.TCG
    if why_no_kvm():
        with pytest.raises(MachineError, match="ACCEL=tcg"):
            accelerator(None)
    else:
        assert accelerator(None) is Accelerator.KVM


@pytest.mark.skipif(os.geteuid() != 0, reason="asks for root first")
def test_what_is_missing_is_named_by_its_package() -> None:
    with pytest.raises(MachineError, match=r"apt-get install .*debootstrap .*qemu-system-x86"):
        check_programs(lambda _name: None)


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        ("Types: deb\nURIs: http://a.test/debian\nSuites: bookworm\n", "http://a.test/debian"),
        ("deb [signed-by=/k] http://b.test/debian/ bookworm main\n", "http://b.test/debian/"),
        ("deb http://c.test/debian-security bookworm-security main\n", ""),
        ("# URIs: http://d.test/debian\n", ""),
    ],
)
def test_mirror_is_that_of_the_host(sources: str, found: str) -> None:
    assert mirror(sources) == found


def test_the_machine_gets_this_commit_and_a_script(tmp_path: Path) -> None:
    (tmp_path / guest.OUTPUT).write_text("of the run before")
    prepare(tmp_path, ("make", "e2e", "TESTS=a b"), {"KEY": "it's"})
    script = (tmp_path / guest.RUN).read_text()
    assert script.endswith("export KEY='it'\"'\"'s'\nmake e2e 'TESTS=a b'\n")
    subprocess.run(["bash", "-n", str(tmp_path / guest.RUN)], check=True)
    subprocess.run(["git", "bundle", "verify", "-q", str(tmp_path / guest.COMMIT)], check=True)
    assert not (tmp_path / guest.OUTPUT).exists()


def test_words_and_status_of_the_command_are_those_of_the_run(tmp_path: Path) -> None:
    words: list[bytes] = []
    output, status = tmp_path / guest.OUTPUT, tmp_path / guest.STATUS
    command = ["sh", "-c", f"printf 'a\\nb' > {output}; echo 3 > {status}"]
    assert run(command, tmp_path, words.append) == 3
    assert b"".join(words) == b"a\nb"


def test_a_machine_that_ends_too_early_shows_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no such device") as raised:
        run(["sh", "-c", "echo no such device >&2; exit 1"], tmp_path, lambda _words: None)
    assert str(tmp_path) in str(raised.value)
