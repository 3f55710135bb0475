"""The folder of objects that the lab makes: one JSON file for each, replaced whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.objects import Object
from penstock.runtime.files import replace_file


class ObjectStore:
    """Keeps a folder equal to a set of objects; a reader never sees half a file."""

    def __init__(self, folder: Path) -> None:
        """Use *folder*, which is made if it is missing; files of an earlier run are removed."""
        self._folder = folder
        self._written: dict[str, bytes] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for stale in folder.glob("*.json"):
            stale.unlink()

    def write(self, objects: Iterable[Object]) -> int:
        """Make the folder hold exactly *objects*; return how many files changed.

        Raises:
            OSError: the file system refused.
        """
        wanted = {file_name(one): encode(one) for one in objects}
        changed = 0
        for name, content in wanted.items():
            if self._written.get(name) != content:
                replace_file(self._folder / name, content)
                changed += 1
        for name in self._written.keys() - wanted.keys():
            with contextlib.suppress(FileNotFoundError):
                (self._folder / name).unlink()
            changed += 1
        self._written = wanted
        return changed


def file_name(one: Object) -> str:
    """Return the name of an object's file; distinct objects have distinct ones."""
    meta = one.metadata
    return (
        ".".join(part for part in (one.kind.lower(), meta.namespace, meta.name) if part) + ".json"
    )


def encode(one: Object) -> bytes:
    """Return an object as Kubernetes writes it, without the fields that have their default."""
    header: dict[str, Any] = {"apiVersion": one.api_versions[0], "kind": one.kind}
    return msgspec.json.format(msgspec.json.encode(header | to_plain(one))) + b"\n"


def to_plain(value: Any) -> Any:
    """Return a struct as JSON values, without the fields that have their default."""
    if isinstance(value, msgspec.Struct):
        return {
            field.encode_name: to_plain(member)
            for field in msgspec.structs.fields(value)
            if (member := getattr(value, field.name)) != _default(field)
        }
    if isinstance(value, list | tuple):
        return [to_plain(member) for member in value]
    if isinstance(value, dict):
        return {key: to_plain(member) for key, member in value.items()}
    return value


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default
