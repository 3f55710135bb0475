"""Queries about ReferenceGrants."""

from __future__ import annotations

from penstock.compiler.database import Database
from penstock.gatewayapi.resources import ReferenceGrant


def grants_in(db: Database, namespace: str) -> list[ReferenceGrant]:
    """Return the ReferenceGrants of a namespace."""
    names = db.grants.bucket("namespace", namespace)
    return [grant for name in names if (grant := db.grants.get(name)) is not None]
