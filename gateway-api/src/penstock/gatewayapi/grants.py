"""References from one namespace to another.

Source: Gateway API v1.7, ReferenceGrant: a grant lives in the namespace that is referred to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from penstock.gatewayapi.fields import CORE_GROUP, GATEWAY_GROUP
from penstock.gatewayapi.resources import ReferenceGrant


class Referrer(msgspec.Struct, frozen=True):
    """Who refers."""

    namespace: str
    group: str = GATEWAY_GROUP
    kind: str = "HTTPRoute"


class Referent(msgspec.Struct, frozen=True):
    """What is referred to."""

    namespace: str
    name: str
    group: str = CORE_GROUP
    kind: str = "Service"


class Permission(msgspec.Struct, frozen=True):
    """One thing that a grant says; grants by the thousand are found by it."""

    referrer: Referrer
    referent: Referent
    """Without a name it is everything of that kind."""


Permits = Callable[[Permission], bool]
"""Tells whether some grant says just this."""


def permissions(grant: ReferenceGrant) -> Iterator[Permission]:
    """Yield everything that *grant* says."""
    for by in grant.spec.from_:
        referrer = Referrer(by.namespace, by.group, by.kind)
        for to in grant.spec.to:
            referent = Referent(grant.metadata.namespace, to.name or "", to.group, to.kind)
            yield Permission(referrer, referent)


def permits_of(grants: Iterable[ReferenceGrant]) -> Permits:
    """Return what *grants* say together."""
    return frozenset(one for grant in grants for one in permissions(grant)).__contains__


def permitted(referrer: Referrer, referent: Referent, permits: Permits) -> bool:
    """Return whether the reference stays in its namespace or a grant allows it."""
    if referrer.namespace == referent.namespace:
        return True
    every = msgspec.structs.replace(referent, name="")
    return permits(Permission(referrer, referent)) or permits(Permission(referrer, every))
