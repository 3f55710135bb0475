"""Regular expressions as Envoy will judge them.

Source: RE2 syntax; Envoy's `re2.max_program_size.error_level`, which one bad expression would
exceed for a whole RouteConfiguration.
"""

from __future__ import annotations

import functools
import string

import re2

from penstock.meta.limits import RE2_MAX_PROGRAM_SIZE

_LITERAL = frozenset(string.ascii_letters + string.digits + "/_-")
_REPEATS = frozenset("*?+{")


@functools.lru_cache(maxsize=4096)
def regex_fault(pattern: str) -> str | None:
    """Return why Envoy would refuse *pattern*, None if it would not."""
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "cannot be compiled"
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        return f"is not a regular expression of RE2: {text}"
    except UnicodeError:
        return "is not a regular expression of RE2: not Unicode text"
    size = int(compiled.programsize)
    if size > RE2_MAX_PROGRAM_SIZE:
        return f"is too large: program size {size}, at most {RE2_MAX_PROGRAM_SIZE}"
    return None


def certain_prefix(pattern: str) -> str:
    """Return a path prefix, by element, of every path that *pattern* was meant to match.

    It is what stands in for an expression that Envoy refuses; "/" where nothing is certain.
    """
    body = pattern.removeprefix("^")
    if "|" in body or not body.startswith("/"):
        return "/"
    end = next((at for at, char in enumerate(body) if char not in _LITERAL), len(body))
    literal = body[: end - 1] if end < len(body) and body[end] in _REPEATS else body[:end]
    return literal[: literal.rfind("/")] or "/"
