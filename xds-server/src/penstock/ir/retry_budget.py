"""How many of the requests to a backend may be repeated ones. Source: Gateway API, GEP-3388."""

from __future__ import annotations

import msgspec

from penstock.meta.names import Origin


class RetryBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A limit for all clients of one node together."""

    percent: int
    """Of the requests in the interval, 0 to 100."""
    interval_ms: int
    least: int
    """So many at once always."""
    origin: Origin
