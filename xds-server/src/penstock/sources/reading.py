"""Files of the user: which ones there are, and their text without surprises."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from penstock.meta.errors import PenstockError
from penstock.meta.problems import Location, Problem

MAX_BYTES = 10 * 1024 * 1024
"""Larger files are refused."""
SUFFIXES = (".yaml", ".yml", ".json")
_FRESH_NS = 100_000_000
_BOMS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_CAUSES = {
    errno.EACCES: ("permission denied", "make the file readable for the user Penstock runs as"),
    errno.EPERM: ("permission denied", "make the file readable for the user Penstock runs as"),
    errno.ENOENT: ("does not exist", "check the path, or the target of the symbolic link"),
    errno.ELOOP: ("is a loop of symbolic links", "let the link point to a file"),
    errno.ENXIO: ("is not a regular file", "remove it from the folder"),
}


class UnreadableError(PenstockError):
    """A file cannot be read or parsed; text and problem name place, cause and next step."""

    def __init__(self, location: Location, cause: str, remedy: str) -> None:
        """Keep place, cause and next step."""
        place = f"{location.file}:{location.line}:{location.column}"
        super().__init__(f"{place}: {cause}; {remedy}")
        self.location = location
        self.problem = Problem("", cause, remedy)


class Signature(msgspec.Struct, frozen=True):
    """What changes when a file is written; equal signatures mean the same content."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class Listing(msgspec.Struct, frozen=True):
    """The files below some folders, and the places that could not be looked into."""

    files: dict[str, Signature]
    unreadable: dict[str, UnreadableError]
    """By path of the folder or file."""
    links: frozenset[str] = frozenset()
    """Links to folders that were followed."""
    changed: frozenset[str] | None = None
    """Files that may differ from the previous listing, None if any may."""


def list_files(roots: Sequence[Path]) -> Listing:
    """Return the YAML and JSON files below *roots*; a root may also be a file of any name.

    Hidden entries are left out, which covers `..data` of mounted ConfigMaps, `.git` and lock and
    swap files of editors. Links to folders are followed, each folder once.
    """
    walk = _Walk()
    for root in roots:
        walk.root(str(root))
    return Listing(walk.files, walk.unreadable, frozenset(walk.links))


def list_changed(before: Listing, roots: Sequence[Path], changed: Collection[str]) -> Listing:
    """Return what `list_files` would, given the paths that changed since *before*.

    Looks at everything only if something else than plain files may have changed.
    """
    exchanged = any("/.." in path for path in changed)  # as `..data` of a mounted ConfigMap
    outside = any(not _is_below(path, roots) for path in changed)
    if before.unreadable or before.links or exchanged or outside:
        return list_files(roots)
    files = dict(before.files)
    for path in changed:
        if path not in files and _is_hidden(path, roots):
            continue
        found = _look_at(path)
        if found is None:
            if files.pop(path, None) is None and _is_folder(path, before):
                return list_files(roots)
        elif not stat.S_ISREG(found.st_mode):
            return list_files(roots)
        elif path in files or path.endswith(SUFFIXES):
            files[path] = _signature(found)
    return Listing(files, {}, changed=frozenset(changed))


def _look_at(path: str) -> os.stat_result | None:
    """Return the state of *path*, links not followed; None if there is nothing."""
    try:
        return os.lstat(path)
    except OSError:
        return None


def _is_hidden(path: str, roots: Sequence[Path]) -> bool:
    """Return whether *path*, or a folder around it below a root, has a name beginning with `.`."""
    inside = (path.removeprefix(str(root)) for root in roots if path.startswith(f"{root}/"))
    return "/." in next(inside, "/.")


def _is_below(path: str, roots: Sequence[Path]) -> bool:
    return any(path == str(root) or path.startswith(f"{root}/") for root in roots)


def _is_folder(path: str, before: Listing) -> bool:
    return any(known.startswith(f"{path}/") for known in before.files)


class _Walk:
    """Collects files; each folder once, also where links lead in a circle."""

    def __init__(self) -> None:
        self.files: dict[str, Signature] = {}
        self.unreadable: dict[str, UnreadableError] = {}
        self.links: set[str] = set()
        self._seen: set[tuple[int, int]] = set()

    def root(self, path: str) -> None:
        try:
            found = os.stat(path)  # noqa: PTH116 - paths are texts here, as scandir gives them
        except OSError as error:
            self.unreadable[path] = _unreadable(path, error)
            return
        if stat.S_ISDIR(found.st_mode):
            self._folders(path)
        elif not any(
            (known.device, known.inode) == (found.st_dev, found.st_ino)
            for known in self.files.values()
        ):
            self.files[path] = _signature(found)

    def _folders(self, root: str) -> None:
        pending = [root]
        while pending:
            path = pending.pop()
            try:
                found = os.stat(path)  # noqa: PTH116 - as above
                identity = (found.st_dev, found.st_ino)
                if identity not in self._seen:
                    self._seen.add(identity)
                    with os.scandir(path) as entries:
                        pending += sorted(self._folder(entries), reverse=True)
            except OSError as error:
                self.unreadable[path] = _unreadable(path, error)

    def _folder(self, entries: Iterator[os.DirEntry[str]]) -> Iterator[str]:
        """Take the files among *entries* and yield the folders."""
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    if entry.is_symlink():
                        self.links.add(entry.path)
                    yield entry.path
                elif entry.name.endswith(SUFFIXES):
                    self.files[entry.path] = _signature(entry.stat())
            except OSError as error:
                if entry.name.endswith(SUFFIXES):
                    self.unreadable[entry.path] = _unreadable(entry.path, error)


def read_text(path: str) -> tuple[str, Signature | None]:
    """Return the text of a file and its signature, None if it was written just now.

    A file that was written within the last moments may be written again without a visible change
    of its signature, so that it has to be read once more.

    Raises:
        UnreadableError: not a regular file, too large, not readable, or not UTF-8 text.
    """
    try:
        found, content = _read_regular(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(content) > MAX_BYTES:
        cause = f"is larger than {MAX_BYTES // (1024 * 1024)} MiB"
        raise UnreadableError(Location(path, 1), cause, "split it into several files")
    settled = abs(time.time_ns() - found.st_mtime_ns) > _FRESH_NS
    return decode_text(content, path), _signature(found) if settled else None


def _read_regular(path: str) -> tuple[os.stat_result, bytes]:
    """Return the state and content of a regular file, without waiting for a FIFO or device."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.ENXIO, "not a regular file")
        return found, file.read(MAX_BYTES + 1)


def decode_text(content: bytes, path: str) -> str:
    """Return UTF-8 *content* as text without a byte order mark.

    Raises:
        UnreadableError: other encodings, and binary content.
    """
    for mark, encoding in _BOMS.items():
        if content.startswith(mark):
            raise UnreadableError(Location(path, 1), f"is {encoding} text", "save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place(path, content[: error.start].decode("utf-8", "replace"))
        cause = f"is not UTF-8 text: byte 0x{content[error.start]:02x}"
        raise UnreadableError(place, cause, "save it as UTF-8") from error
    if "\0" in text:
        place = _place(path, text[: text.index("\0")])
        raise UnreadableError(place, "holds a NUL character", "is this a binary file? Remove it")
    return text


def _place(path: str, before: str) -> Location:
    return Location(path, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _signature(found: os.stat_result) -> Signature:
    return Signature(
        found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    )


def _unreadable(path: str, error: OSError) -> UnreadableError:
    cause, remedy = _CAUSES.get(error.errno or 0, (str(error.strerror or error), "check the file"))
    return UnreadableError(Location(path, 1), cause, remedy)
