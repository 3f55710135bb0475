"""Read from a broken route what is needed to keep its traffic from going elsewhere.

A parentRef or hostname that cannot be read is left out; nothing is guessed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.core.plan import plan_of
from penstock.gatewayapi import stream_resources
from penstock.gatewayapi.fields import Hostname, ParentReference
from penstock.gatewayapi.resources import MAX_HOSTNAMES, MAX_PARENTS, HTTPRouteSpec
from penstock.gatewayapi.stream_resources import TCPRoute, TLSRoute, UDPRoute

LIMITS = {TLSRoute.kind: stream_resources.MAX_HOSTNAMES}
UNREADABLE_HOSTNAME = "unreadable.invalid"
"""RFC 2606: no request is for this host."""


def salvaged_parents(raw: dict[str, Any]) -> tuple[ParentReference, ...]:
    """Return the readable parentRefs of the object *raw*, each once."""
    readable = [_converted(one, ParentReference) for one in _list(raw, "parentRefs")[:MAX_PARENTS]]
    return tuple(dict.fromkeys(one for one in readable if one is not None))


def salvaged_hostnames(kind: str, raw: dict[str, Any]) -> tuple[str, ...]:
    """Return the readable hostnames of the object *raw* of a *kind*, each once.

    The empty tuple stands for every host. Where hostnames may have been meant and none can be
    read, the answer is UNREADABLE_HOSTNAME instead, so that the route harms nobody.
    """
    spec = _spec(raw)
    if kind in (TCPRoute.kind, UDPRoute.kind):
        return ()
    if spec.get("hostnames") in (None, []):
        unknown = spec.keys() - plan_of(HTTPRouteSpec).allowed
        return (UNREADABLE_HOSTNAME,) if unknown else ()
    readable = [
        _converted(one, Hostname)
        for one in _list(raw, "hostnames")[: LIMITS.get(kind, MAX_HOSTNAMES)]
    ]
    found = tuple(dict.fromkeys(one for one in readable if one is not None))
    return found or (UNREADABLE_HOSTNAME,)


def _spec(raw: dict[str, Any]) -> dict[str, Any]:
    spec = raw.get("spec")
    return spec if isinstance(spec, dict) else {}


def _list(raw: dict[str, Any], name: str) -> list[Any]:
    value = _spec(raw).get(name)
    return value if isinstance(value, list) else []


def _converted(value: Any, wanted: Any) -> Any:
    try:
        return msgspec.convert(value, wanted, strict=True)
    except msgspec.ValidationError:
        return None
