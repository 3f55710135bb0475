"""Hostnames of listeners and routes: which match, what two have in common, which is narrower.

Source: Gateway API v1.7, Listener.hostname and HTTPRoute.spec.hostnames. A wildcard stands for one
or more labels: "*.a.b" matches "x.a.b" and "y.x.a.b", not "a.b". "*" stands for every host; it is
never written in an object, it is what a missing hostname means.
"""

from __future__ import annotations

import functools

ANY = "*"

Specificity = tuple[int, int]
"""Characters of a hostname without wildcard, characters of any hostname; more is narrower."""


def covers(wide: str, narrow: str) -> bool:
    """Return whether every host of *narrow*, which may be a single one, is a host of *wide*."""
    if wide in (ANY, narrow):
        return True
    return wide.startswith("*.") and narrow != ANY and _below(narrow).endswith(wide[1:])


@functools.lru_cache(maxsize=4096)
def covering(hostname: str) -> tuple[str, ...]:
    """Return every hostname that covers *hostname*, the narrowest first: itself."""
    found = [hostname]
    rest = _below(hostname)
    while "." in rest[1:]:
        rest = rest[rest.index(".", 1) :]
        found.append(f"*{rest}")
    if hostname != ANY:
        found.append(ANY)
    return tuple(found)


def intersection(one: str, other: str) -> str | None:
    """Return the hostname that matches what both match, None if they share no host."""
    if covers(one, other):
        return other
    return one if covers(other, one) else None


def specificity(hostname: str) -> Specificity:
    """Return how narrow *hostname* is; of two that match one host the greater goes first."""
    if hostname == ANY:
        return (0, 0)
    return (0 if hostname.startswith("*.") else len(hostname), len(hostname))


def _below(hostname: str) -> str:
    """Return what a wider wildcard is compared with: "*.a.b" has no host that "*.x.a.b" lacks."""
    return hostname[1:] if hostname.startswith("*.") else hostname
