"""RE2 patterns, with the verdict that Envoy will have about them."""

from __future__ import annotations

import functools
import re as python_re
from typing import Any

import re2

from penstock.meta.limits import RE2_MAX_PROGRAM_SIZE

_QUANTIFIED = python_re.compile(r"(?<!\\)\?.")
_LITERAL_END = python_re.compile(r"[A-Za-z0-9_/-]\Z")


@functools.lru_cache(maxsize=16384)
def compile_problem(pattern: str) -> str:
    """Return why Envoy would refuse *pattern*, or "" if it takes it."""
    compiled = _compile(pattern)
    if isinstance(compiled, str):
        return compiled
    size: int = compiled.programsize
    if size > RE2_MAX_PROGRAM_SIZE:
        return f"is too large: RE2 program of {size}, the limit is {RE2_MAX_PROGRAM_SIZE}"
    return ""


def full_match(pattern: str, text: str) -> bool:
    """Return whether all of *text* matches; a pattern that does not compile matches nothing."""
    compiled = _compile(pattern)
    return not isinstance(compiled, str) and compiled.fullmatch(text) is not None


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


@functools.lru_cache(maxsize=16384)
def _compile(pattern: str) -> Any:
    """Return the compiled pattern, or RE2's complaint as text."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except UnicodeEncodeError:
        return "is not text"
    except re2.error as error:
        reason = error.args[0] if error.args else error
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        return f"does not compile: {text}"
