"""What an image layer holds: paths, their content, and a tar file of it that is always the same."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

PROGRAM, DATA, SHARED_FOLDER = 0o755, 0o644, 0o1777
_CHUNK = 1 << 20


class File(NamedTuple):
    """A regular file."""

    content: Path | bytes
    mode: int = DATA


class Link(NamedTuple):
    """A symbolic link."""

    target: str


class Folder(NamedTuple):
    """A folder that is there even if it is empty."""

    mode: int = PROGRAM


Entry = File | Link | Folder
Tree = Mapping[str, Entry]
"""Path in the image, without a slash at its start, and what is there."""


class Layer(NamedTuple):
    """A layer as a file."""

    path: Path
    digest: str
    """SHA-256 of the file, in hexadecimal."""
    size: int


def files_below(root: Path, at: str, wanted: Callable[[PurePosixPath], bool]) -> dict[str, Entry]:
    """Return the files below *root* as entries below *at*.

    Args:
        root: a folder; links in it are followed.
        at: path in the image.
        wanted: asked for each file and folder with its path below *root*.
    """
    found: dict[str, Entry] = {}
    for folder, folders, names in os.walk(root, followlinks=True):
        below = PurePosixPath(folder).relative_to(root)
        folders[:] = [name for name in folders if wanted(below / name)]
        for name in names:
            if wanted(below / name):
                path = Path(folder, name)
                mode = PROGRAM if os.access(path, os.X_OK) else DATA
                found[str(at / below / name)] = File(path, mode)
    return found


def write_layer(tree: Tree, cache: Path) -> Layer:
    """Write *tree* as a tar file into *cache*, named by its digest."""
    cache.mkdir(parents=True, exist_ok=True)
    fresh = cache / f"new-{os.getpid()}"
    with tarfile.open(fresh, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, entry in sorted((_folders(tree) | dict(tree)).items()):
            _add(archive, name, entry)
    digest = digest_of(fresh)
    path = cache / f"{digest}.tar"
    fresh.replace(path)
    return Layer(path, digest, path.stat().st_size)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folders(tree: Tree) -> dict[str, Entry]:
    parents = {str(one) for name in tree for one in PurePosixPath(name).parents}
    return {name: Folder() for name in parents - {"."}}


def _add(archive: tarfile.TarFile, name: str, entry: Entry) -> None:
    """Add an entry that belongs to root and is as old as the epoch."""
    info = tarfile.TarInfo(name)
    match entry:
        case Folder():
            info.type, info.mode = tarfile.DIRTYPE, entry.mode
            archive.addfile(info)
        case Link():
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.target, 0o777
            archive.addfile(info)
        case File():
            info.mode = entry.mode
            _add_content(archive, info, entry.content)


def _add_content(archive: tarfile.TarFile, info: tarfile.TarInfo, content: Path | bytes) -> None:
    if isinstance(content, bytes):
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
        return
    with content.open("rb") as file:
        info.size = os.fstat(file.fileno()).st_size
        archive.addfile(info, file)
