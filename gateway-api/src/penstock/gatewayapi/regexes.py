"""What stands in for a path expression that Envoy refuses."""

from __future__ import annotations

import string

_LITERAL = frozenset(string.ascii_letters + string.digits + "/_-")
_REPEATS = frozenset("*?+{")


def certain_start(pattern: str) -> str:
    """Return how every path begins that *pattern* was meant to match, "" if nothing is certain.

    What is between these and the end of the path can be told by nobody.
    """
    body = pattern.removeprefix("^")
    if not body.startswith("/") or _is_choice(body):
        return ""
    end = next((at for at, char in enumerate(body) if char not in _LITERAL), len(body))
    return body[: end - 1] if end < len(body) and body[end] in _REPEATS else body[:end]


def _is_choice(body: str) -> bool:
    """Return whether an expression is several with "|" between, outside of any parenthesis."""
    depth, in_class, escaped = 0, False, False
    for char in body:
        if escaped or char == "\\":
            escaped = not escaped
        elif in_class:
            in_class = char != "]"
        elif char == "|" and depth <= 0:
            return True
        else:
            in_class = char == "["
            depth += (char == "(") - (char == ")")
    return False
