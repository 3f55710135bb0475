"""Durations of Gateway API: "1h30m", "500ms", "0s". Source: GEP-2257."""

from __future__ import annotations

import re

_PART = re.compile(r"([0-9]+)(h|ms|m|s)")
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def milliseconds(duration: str) -> int:
    """Return *duration*, which must be of the type `fields.Duration`, in milliseconds."""
    return sum(int(count) * _MILLISECONDS[unit] for count, unit in _PART.findall(duration))
