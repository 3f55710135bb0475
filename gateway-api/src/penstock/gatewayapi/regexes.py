"""What stands in for a path expression that Envoy refuses."""

from __future__ import annotations

import string

_LITERAL = frozenset(string.ascii_letters + string.digits + "/_-")
_REPEATS = frozenset("*?+{")


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
