"""Paths of HTTP rules that read like something else than the RE2 patterns they are."""

from __future__ import annotations

import re

_QUANTIFIED = re.compile(r"(?<!\\)\?.")
_LITERAL_END = re.compile(r"[A-Za-z0-9_/-]\Z")


def prefix_mistake(path: str) -> tuple[str, str] | None:
    """Return message and hint if *path* reads like a prefix, though it must match in full."""
    if path.endswith("/*") and not path.endswith("\\/*"):
        better = f"{path[:-1]}.*"
        return f"{path!r} is a regex: `/*` is any number of slashes", f"write {better!r}"
    if path.endswith("/") and len(path) > 1:
        return f"{path!r} matches only this very path, nothing below it", f"write {path + '.*'!r}"
    if path.startswith("^") and _LITERAL_END.search(path):
        better = f"{path[1:]}.*"
        return f"{path!r} matches only in full, as if it ended with `$`", f"write {better!r}"
    if _QUANTIFIED.search(path) and "=" in path and "\\?" not in path:
        return f"{path!r} is a regex: `?` makes the character before it optional", r"write `\?`"
    return None
