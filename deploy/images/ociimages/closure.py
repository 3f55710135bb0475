"""The shared libraries that programs need, found by the loader of this machine.

Source: ldd(1), ld.so(8): a library that no run path names is looked for in the loader's default
folders, of which the one that holds libc is one.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from ociimages.tree import PROGRAM, Entry, File

_LINE = re.compile(r"^\s+(?:(?P<name>\S+) => )?(?P<path>/\S+) \(0x[0-9a-f]+\)$")
_MISSING = re.compile(r"^\s+(\S+) => not found$")
_ELF = b"\x7fELF"
_AT_ONCE = 100


class MissingLibraryError(Exception):
    """A program needs a library that this machine has not."""


def is_elf(path: Path) -> bool:
    """Return whether a file is a program or a shared library."""
    with path.open("rb") as file:
        return file.read(len(_ELF)) == _ELF


def library(soname: str, beside: Path) -> Path:
    """Return a library by name, for those that programs open themselves.

    Args:
        soname: as "libbpf.so.1".
        beside: a program; what its loader would find.

    Raises:
        MissingLibraryError: there is none.
    """
    libc = next(path for name, path in _needed([beside]) if name == "libc.so.6")
    for folder in (libc.parent, Path("/usr") / libc.parent.relative_to("/")):
        if (folder / soname).exists():
            return folder / soname
    raise MissingLibraryError(
        f"{soname} is not installed; deploy/setup/system-packages installs it"
    )


def libraries(programs: Sequence[Path], within: Iterable[Path]) -> dict[str, Entry]:
    """Return the loader and all libraries that *programs* need, themselves not included.

    Args:
        programs: programs and libraries.
        within: folders whose libraries are in the image already.

    Raises:
        MissingLibraryError: one is not there.
    """
    inside = tuple(f"{folder}/" for folder in within)
    found: dict[str, Path] = {}
    for start in range(0, len(programs), _AT_ONCE):
        needed = _needed(programs[start : start + _AT_ONCE])
        found.update({name: path for name, path in needed if not str(path).startswith(inside)})
    if not found:
        return {}
    home = found["libc.so.6"].parent
    return {
        str(path if name.startswith("/") else home / name).lstrip("/"): File(
            path.resolve(), PROGRAM
        )
        for name, path in found.items()
    }


def _needed(programs: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return name and path of what *programs* need; the loader's name is its path."""
    ran = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False)
    missing = [found[1] for line in ran.stdout.splitlines() if (found := _MISSING.match(line))]
    if missing:
        names = ", ".join(sorted(set(missing)))
        raise MissingLibraryError(f"not installed here: {names}; install the packages with them")
    lines = filter(None, map(_LINE.match, ran.stdout.splitlines()))
    return [(line["name"] or line["path"], Path(line["path"])) for line in lines]
