"""Compile the kernel programs ahead of time: `python -m penstock.bpf.build`.

Uses the standard library and `penstock.meta` only, so that a build hook can import it from the
source tree.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from penstock.bpf.errors import BuildError

OBJECT = Path(__file__).parent / "objects" / "penstock.bpf.o"
"""Where the object belongs; not committed, but part of the wheel."""

SOURCES = Path(__file__).parents[3]
"""The folder `bpf/` of a source tree: `progs/` and `include/` are in it."""

_INSTALL = "install them: apt-get install clang libbpf-dev linux-libc-dev"
_FLAGS = ("-target", "bpf", "-O2", "-g", "-Wall", "-Wextra", "-Werror")


def build(*, sources: Path = SOURCES, target: Path = OBJECT, clang: str = "clang") -> Path:
    """Compile `progs/penstock.bpf.c` below *sources* to *target* unless that is up to date.

    Returns:
        *target*.

    Raises:
        BuildError: no sources, no compiler, no headers, or the program does not compile.
    """
    program = sources / "progs" / "penstock.bpf.c"
    if not program.is_file():
        raise BuildError(f"{program}: not found; the programs are built from a source tree only")
    compiler = shutil.which(clang)
    if compiler is None:
        raise BuildError(f"{clang}: not found, it compiles the eBPF programs; {_INSTALL}")
    command = [compiler, *_FLAGS, *_includes(sources), "-c", str(program), "-o"]
    stamp = _digest(sources, compiler)
    stamp_file = target.with_name(target.name + ".sha256")
    if target.is_file() and stamp_file.is_file() and stamp_file.read_text("ascii") == stamp:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    _compile([*command, str(partial)])
    partial.replace(target)
    stamp_file.write_text(stamp, "ascii")
    return target


def _includes(sources: Path) -> list[str]:
    """Return include flags; asm/types.h is in a folder of its own on Debian."""
    flags = [f"-I{sources / 'include'}"]
    multiarch: str | None = sysconfig.get_config_var("MULTIARCH")
    if multiarch is not None:
        flags.append(f"-I/usr/include/{multiarch}")
    return flags


def _digest(sources: Path, compiler: str) -> str:
    """Return a hash of all that decides what the object holds."""
    version = subprocess.run(
        [compiler, "--version"], check=True, capture_output=True, timeout=30
    ).stdout
    digest = hashlib.sha256(version + " ".join(_FLAGS).encode())
    for folder in ("include", "progs"):
        for path in sorted((sources / folder).rglob("*.[ch]")):
            digest.update(str(path.relative_to(sources)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode == 0:
        return
    hint = f"; headers are missing, {_INSTALL}" if "file not found" in done.stderr else ""
    raise BuildError(f"{' '.join(command)}: exit {done.returncode}{hint}\n{done.stderr}")


def main() -> int:
    """Build and print the path; return the exit code."""
    try:
        sys.stdout.write(f"{build()}\n")
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
