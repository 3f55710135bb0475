"""A lab inside a chroot, whose "/" is no mount point, keeps its mounts to itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.lab import syscalls

CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
import syscalls
os.chroot(sys.argv[2])
syscalls.unshare(syscalls.CLONE_NEWNS)
syscalls.keep_mounts_apart()
syscalls.mount("penstock-test", "/there", "tmpfs")
with open("/there/made", "w"):
    pass
print(sorted(os.listdir("/")), os.listdir("/there"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chroot and mount")
def test_a_mount_made_inside_a_chroot_stays_in_its_namespace(tmp_path: Path) -> None:
    for name in ("proc", "there"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        [
            sys.executable, "-I", "-S", "-c", CHILD,
            str(Path(syscalls.__file__).parent), str(tmp_path),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == "['proc', 'there'] ['made']\n"
    assert list((tmp_path / "there").iterdir()) == []
    assert "penstock-test" not in Path("/proc/self/mountinfo").read_text()
