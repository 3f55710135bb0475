"""Objects as they are shown: by the API of a controller, and by commands that read files."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.core.kinds import Secret
from penstock.core.objects import LAST_APPLIED, Broken, Object


def shown_object(thing: Object | Broken) -> dict[str, Any]:
    """Return an object as it is written, values of Secrets left out."""
    if isinstance(thing, Broken):
        kind, fields = thing.of_kind, dict(thing.raw)
        version = fields.get("apiVersion", "")
        fields["metadata"] = msgspec.to_builtins(thing.metadata)
    else:
        kind, version = thing.kind, thing.api_versions[0]
        fields = msgspec.to_builtins(thing)
    if kind == Secret.kind:
        fields = _without_values(fields)
    return {"apiVersion": version, "kind": kind} | fields


def _without_values(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what may be shown of a Secret, whatever is wrong with it: metadata, type and keys."""
    parts = [fields.get(name) for name in ("data", "stringData")]
    keys = [str(key) for part in parts if isinstance(part, dict) for key in part]
    metadata = dict(fields["metadata"])
    annotations = metadata.get("annotations", {}).items()
    metadata["annotations"] = {name: text for name, text in annotations if name != LAST_APPLIED}
    kind = fields.get("type")
    shown = {"metadata": metadata, "data": dict.fromkeys(keys)}
    return shown | ({"type": kind} if isinstance(kind, str) else {})
