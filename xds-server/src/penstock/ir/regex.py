"""Regular expressions of users, with the verdict that Envoy will have about them.

Source: RE2 syntax; Envoy's `re2.max_program_size.error_level`, which one bad expression would
exceed for a whole RouteConfiguration.
"""

from __future__ import annotations

import functools
from typing import Any

import re2

from penstock.meta.limits import RE2_MAX_PROGRAM_SIZE


def regex_fault(pattern: str) -> str:
    """Return why Envoy would refuse *pattern*, "" if it takes it."""
    compiled = _compile(pattern)
    if isinstance(compiled, str):
        return compiled
    size: int = compiled.programsize
    if size > RE2_MAX_PROGRAM_SIZE:
        return f"is too large: RE2 program of {size}, at most {RE2_MAX_PROGRAM_SIZE}"
    return ""


def full_match(pattern: str, text: str) -> bool:
    """Return whether all of *text* matches; a pattern that does not compile matches nothing."""
    compiled = _compile(pattern)
    return not isinstance(compiled, str) and compiled.fullmatch(text) is not None


@functools.lru_cache(maxsize=16384)
def _compile(pattern: str) -> Any:
    """Return the compiled pattern, or RE2's complaint as text."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except UnicodeError:
        return "is not text"
    except re2.error as error:
        reason = error.args[0] if error.args else error
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        return f"is not a regular expression of RE2: {text}"
