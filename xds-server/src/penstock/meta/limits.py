"""Limits that more than one part must agree on."""

from __future__ import annotations

RE2_MAX_PROGRAM_SIZE = 1000
"""Largest RE2 program: checked before a regex is sent, and set as Envoy's own limit."""

INLINE_WEIGHTS_ABOVE = 512
"""Weighted rules up to this number change their weights by runtime keys; with more, every rule
keeps its weights in its route, because Envoy's cost of a runtime update grows with all keys."""

BACKENDS_JUDGED_AT_CONNECT = 16
"""A proxied Service with more endpoints is never refused at connect; the same stands in abi.h."""
