"""Image archives, read without unpacking: which image names there are and where each blob lies."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import msgspec

from support.cluster.errors import ClusterError

_BLOBS = "blobs/sha256/"
ALIASES = "aliases.json"
"""File beside the archives: more names of images in them."""
_NAME = "io.containerd.image.name"


class Blob(msgspec.Struct, frozen=True):
    """A part of an archive file."""

    file: Path
    start: int
    size: int
    """Bytes."""


class Archives:
    """All archives of a folder; new and changed ones are found when something is asked for.

    Source: OCI Image Format 1.1, image layout.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._names: dict[str, str] = {}
        self._media: dict[str, str] = {}
        self._blobs: dict[str, Blob] = {}
        self._aliases: dict[str, str] = {}

    def names(self) -> list[str]:
        """Return the names of all images."""
        self._refresh()
        return sorted({*self._names, *self._aliases})

    def manifest(self, name: str) -> tuple[str, str] | None:
        """Return digest and media type of the manifest of an image, by name or digest."""
        self._refresh()
        digest = self._names.get(self._aliases.get(name, name)) or name.rpartition("@")[2]
        return (digest, self._media[digest]) if digest in self._media else None

    def blob(self, digest: str) -> Blob | None:
        """Return a blob by its digest, as "sha256:…"."""
        self._refresh()
        return self._blobs.get(digest)

    def _refresh(self) -> None:
        aliases = self._folder / ALIASES
        if aliases.exists():
            self._aliases = json.loads(aliases.read_bytes())
        for file in sorted(self._folder.glob("*.tar")):
            changed = file.stat().st_mtime_ns
            if self._read.get(file) != changed:
                self._read_archive(file)
                self._read[file] = changed

    def _read_archive(self, file: Path) -> None:
        blobs, manifests = read_archive(file)
        self._blobs |= blobs
        for name, (digest, media) in manifests.items():
            self._names[name] = digest
            self._media[digest] = media


def read_archive(file: Path) -> tuple[dict[str, Blob], dict[str, tuple[str, str]]]:
    """Return blobs by digest, and digest and media type of manifests by the names of images.

    Raises:
        ClusterError: *file* is not such an archive.
    """
    blobs: dict[str, Blob] = {}
    manifests: dict[str, tuple[str, str]] = {}
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                if member.name.startswith(_BLOBS):
                    digest = f"sha256:{member.name.removeprefix(_BLOBS)}"
                    blobs[digest] = Blob(file, member.offset_data, member.size)
            index = archive.extractfile("index.json")
            for one in json.load(index)["manifests"] if index else ():
                manifests[one["annotations"][_NAME]] = (one["digest"], one["mediaType"])
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise ClusterError(
            f"{file} is not an OCI archive (.tar, not compressed) with {_NAME}: {error}"
        ) from error
    return blobs, manifests
