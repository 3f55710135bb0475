"""References from one namespace to another.

Source: Gateway API v1.7, ReferenceGrant: a grant lives in the namespace that is referred to.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from penstock.gatewayapi.fields import CORE_GROUP, GATEWAY_GROUP
from penstock.gatewayapi.resources import ReferenceGrant, ReferenceGrantSpec


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


def permitted(referrer: Referrer, referent: Referent, grants: Iterable[ReferenceGrant]) -> bool:
    """Return whether the reference stays in its namespace or one of *grants* allows it."""
    if referrer.namespace == referent.namespace:
        return True
    return any(
        grant.metadata.namespace == referent.namespace and _allows(grant.spec, referrer, referent)
        for grant in grants
    )


def _allows(spec: ReferenceGrantSpec, referrer: Referrer, referent: Referent) -> bool:
    return any(
        (one.group, one.kind, one.namespace) == (referrer.group, referrer.kind, referrer.namespace)
        for one in spec.from_
    ) and any(
        (one.group, one.kind) == (referent.group, referent.kind)
        and one.name in (None, "", referent.name)
        for one in spec.to
    )
