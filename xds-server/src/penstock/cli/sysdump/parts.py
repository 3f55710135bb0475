"""Files of a dump, and the archive that they go into."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import msgspec

from penstock.cli.sysdump.redact import redact_bytes

ROOT = "penstock-sysdump"
"""Folder in the archive."""
LARGEST = 8 << 20
"""Bytes of one file; of a longer one, as a log, the end is kept."""


class Part(msgspec.Struct, frozen=True):
    """One file, not yet redacted."""

    name: str
    """Path in the archive."""
    content: bytes


def write_archive(parts: Iterable[Part], to: BinaryIO) -> None:
    """Write a .tar.gz with *parts*, each redacted; equal parts give equal bytes."""
    with (
        gzip.GzipFile(filename="", fileobj=to, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for part in sorted(parts, key=lambda one: one.name):
            content = redact_bytes(tail(part.content))
            info = tarfile.TarInfo(f"{ROOT}/{part.name}")
            info.size, info.mode = len(content), 0o600
            archive.addfile(info, io.BytesIO(content))


def read_archive(content: bytes) -> list[Part]:
    """Return what is in an archive of `write_archive`.

    Raises:
        tarfile.TarError, OSError, EOFError: it is no such archive.
    """
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        files = [(one, archive.extractfile(one)) for one in archive if one.isfile()]
        return [
            Part(one.name.removeprefix(f"{ROOT}/"), file.read())
            for one, file in files
            if file is not None
        ]


def tail(content: bytes) -> bytes:
    """Return *content*, or of a long one the lines at its end."""
    if len(content) <= LARGEST:
        return content
    cut = content[-LARGEST:]
    return cut[cut.find(b"\n") + 1 :]


def read_tail(path: Path) -> bytes:
    """Return the end of a file, b"" if it is gone."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LARGEST - 1))
            return tail(file.read())
    except OSError:
        return b""
