"""The Python that runs this, as part of an image: interpreter, standard library, bytecode."""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import sys
import sysconfig
import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ociimages.tree import PROGRAM, Entry, File, Link, files_below

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
INTERPRETER = f"usr/local/bin/{VERSION}"
STDLIB = f"usr/local/lib/{VERSION}"
_LEFT_OUT = {
    "__pycache__", "dist-packages", "ensurepip", "idlelib", "lib2to3", "site-packages", "test",
    "tests", "tkinter", "turtledemo",
}  # fmt: skip
_LEFT_OUT_BEGINNINGS = ("_ctypes_test", "_test", "_tkinter", "_xx", "config-", "xx")
_PYC_FLAGS_UNCHECKED = 0b01
"""PEP 552: found by the name of the source, whose content is not looked at."""


def interpreter() -> Path:
    """Return the interpreter itself, also inside a virtual environment."""
    return (Path(sys.base_prefix) / "bin" / VERSION).resolve()


def standard_library() -> Path:
    """Return the folder of the standard library."""
    return Path(sysconfig.get_path("stdlib"))


def python_tree() -> dict[str, Entry]:
    """Return interpreter and standard library, without what nobody imports in a container."""

    def wanted(path: PurePosixPath) -> bool:
        return path.name not in _LEFT_OUT and not path.name.startswith(_LEFT_OUT_BEGINNINGS)

    return {
        INTERPRETER: File(interpreter(), PROGRAM),
        "usr/local/bin/python3": Link(VERSION),
        **files_below(standard_library(), STDLIB, wanted),
    }


def with_bytecode(tree: Mapping[str, Entry], cache: Path) -> dict[str, Entry]:
    """Return *tree* with the bytecode of its modules: the image's root is not writable.

    Args:
        tree: files; those that end in .py are modules.
        cache: folder of compiled modules, by content and name.
    """
    cache.mkdir(parents=True, exist_ok=True)
    compiled: dict[str, Entry] = {}
    for name, entry in tree.items():
        if name.endswith(".py") and isinstance(entry, File):
            path = PurePosixPath(name)
            at = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
            bytecode = _bytecode(entry, f"/{name}", cache)
            if bytecode is not None:
                compiled[str(at)] = File(bytecode)
    return {**tree, **compiled}


def _bytecode(entry: File, name: str, cache: Path) -> Path | None:
    """Return the file of a module's bytecode, None for what is not Python of this version."""
    source = entry.content if isinstance(entry.content, bytes) else entry.content.read_bytes()
    key = hashlib.sha256(b"\0".join((sys.version.encode(), name.encode(), source))).hexdigest()
    file = cache / key
    if file.exists():
        file.touch()
        return file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the code of others, and no reason to leave out
            code = compile(source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    head = importlib.util.MAGIC_NUMBER + _PYC_FLAGS_UNCHECKED.to_bytes(4, "little")
    fresh = file.with_name(f"{key}.{os.getpid()}")
    fresh.write_bytes(head + importlib.util.source_hash(source) + marshal.dumps(code))
    fresh.replace(file)
    return file
