"""An image as one file that container runtimes import.

Source: OCI Image Format 1.1, image layout, manifest and configuration. Layers are not compressed:
the file does not travel.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ociimages.tree import Layer

_OCI = "application/vnd.oci.image"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
Json = dict[str, Any]


class Image(NamedTuple):
    """One image."""

    name: str
    """As `localhost/penstock:dev`."""
    layers: Sequence[Layer]
    entrypoint: Sequence[str]
    environment: Sequence[str]
    """As NAME=VALUE."""
    user: str
    """User and group id, as "65532:65532"."""


def write_archive(image: Image, out: Path) -> None:
    """Write *image* to *out*, whole or not at all."""
    blobs: dict[str, bytes] = {}
    config = _blob(blobs, f"{_OCI}.config.v1+json", _config(image))
    layers = [
        {
            "mediaType": f"{_OCI}.layer.v1.tar",
            "digest": f"sha256:{layer.digest}",
            "size": layer.size,
        }
        for layer in image.layers
    ]
    manifest = _blob(
        blobs,
        f"{_OCI}.manifest.v1+json",
        {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": config,
            "layers": layers,
        },
    )
    manifest["annotations"] = {
        "io.containerd.image.name": image.name,
        "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
    }
    index = {"schemaVersion": 2, "mediaType": f"{_OCI}.index.v1+json", "manifests": [manifest]}
    members = {**blobs, "oci-layout": _json({"imageLayoutVersion": "1.0.0"})}
    members["index.json"] = _json(index)
    _write(out, members, image.layers)


def architecture() -> str:
    """Return this machine's architecture as images name it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _config(image: Image) -> Json:
    return {
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": list(image.entrypoint),
            "Env": list(image.environment),
            "User": image.user,
            "WorkingDir": "/",
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{layer.digest}" for layer in image.layers],
        },
    }


def _blob(blobs: dict[str, bytes], media: str, value: Json) -> Json:
    """Add *value* to *blobs*; return its descriptor."""
    data = _json(value)
    digest = hashlib.sha256(data).hexdigest()
    blobs[f"blobs/sha256/{digest}"] = data
    return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}


def _json(value: Json) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _write(out: Path, members: dict[str, bytes], layers: Sequence[Layer]) -> None:
    fresh = out.with_name(f"{out.name}.new-{os.getpid()}")
    with tarfile.open(fresh, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("blobs", "blobs/sha256"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        for name, data in sorted(members.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
        for layer in sorted(set(layers), key=lambda one: one.digest):
            info = tarfile.TarInfo(f"blobs/sha256/{layer.digest}")
            info.size, info.mode = layer.size, 0o644
            with layer.path.open("rb") as file:
                archive.addfile(info, file)
    fresh.replace(out)
