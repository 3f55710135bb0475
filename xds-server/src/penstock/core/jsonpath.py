"""JSON paths as users read them: `spec.ingress[0].rules`, `metadata.labels["app.k8s.io/name"]`."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_STEP = re.compile(r"""\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|\.?([A-Za-z_][A-Za-z0-9_-]*)""")

Step = str | int
"""A member of a mapping or the position in a list."""


def member(path: str, name: str) -> str:
    """Return the path of member *name* of the mapping at *path*."""
    if _PLAIN.match(name):
        return f"{path}.{name}" if path else name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'{path}["{escaped}"]'


def item(path: str, index: int) -> str:
    """Return the path of element *index* of the list at *path*."""
    return f"{path}[{index}]"


def join(path: str, relative: str) -> str:
    """Return the path of what is at *relative* seen from *path*."""
    if not path or not relative:
        return path or relative
    return path + relative if relative[0] == "[" else f"{path}.{relative}"


def steps(path: str) -> tuple[Step, ...]:
    """Return the members and positions of *path*, as far as it can be read."""
    found: list[Step] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            break
        quoted, index, name = match.groups()
        if index is not None:
            found.append(int(index))
        elif name is not None:
            found.append(name)
        else:
            found.append(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
        at = match.end()
    return tuple(found)


def without_positions(path: str) -> str:
    """Return *path* with every `[0]` written `[]`."""
    return re.sub(r"\[\d+\]", "[]", path)


def build(parts: Iterable[Step]) -> str:
    """Return the path that consists of *parts*."""
    path = ""
    for part in parts:
        path = item(path, part) if isinstance(part, int) else member(path, part)
    return path
