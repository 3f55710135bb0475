"""Headers as rules.http writes them.

Source: spec B.1: split at the first space; a colon at the end of the name is dropped; a single
word is a presence check of a header with that very name.
"""

from __future__ import annotations

import re

from penstock.ir.http import TOKEN
from penstock.ir.policy import HeaderRule

HEADER_NAME = re.compile(TOKEN + r"\Z")
"""RFC 9110 token."""

PSEUDO_HEADERS = frozenset({":authority", ":method", ":path", ":scheme"})

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse_header(text: str) -> HeaderRule:
    """Return the rule that one of `headers` stands for; the name is lower case."""
    name, space, value = text.partition(" ")
    if space:
        return HeaderRule(name=name.rstrip(":").lower(), value=value)
    return HeaderRule(name=name.lower())


def has_control(text: str) -> bool:
    """Return whether *text* holds characters that no header can carry."""
    return _CONTROL.search(text) is not None
