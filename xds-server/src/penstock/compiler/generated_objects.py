"""Which objects there should be because of Gateways, and which of them became others."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from penstock.compiler.database import Database
from penstock.compiler.generated_slices import every_generated
from penstock.core.kinds import EndpointSlice, Service
from penstock.gatewayapi.generated import Generated
from penstock.incremental.engine import Node
from penstock.meta.names import ObjectRef

GENERATED_KINDS = frozenset({Service.kind, EndpointSlice.kind})
"""Kinds of the objects that we make."""


class GeneratedGoal(msgspec.Struct, frozen=True):
    """Name of a goal: all objects that there should be."""

    def __str__(self) -> str:
        """Return the name under which a failure is told."""
        return "generated objects"


class GeneratedObjects:
    """The objects that there should be, and which of them became others."""

    def __init__(self, db: Database) -> None:
        """Follow nothing."""
        self._db = db
        self._node: Node | None = None
        self._wanted: Mapping[ObjectRef, Generated] = {}
        self._changed: dict[ObjectRef, None] = {}

    def follow(self) -> None:
        """Tell from now on what changes."""
        if self._node is None:
            self._node = every_generated.node(self._db, None)
            self._db.engine.want(self._node, GeneratedGoal())
            self.note(every_generated.once(self._db, None))

    def clear(self) -> None:
        """Stop following."""
        if self._node is not None:
            self._db.engine.unwant(self._node)
            self._node = None
        self._wanted = {}
        self._changed.clear()

    def note(self, wanted: Mapping[ObjectRef, Generated]) -> None:
        """Take what there should be now."""
        for ref in self._wanted.keys() | wanted.keys():
            if self._wanted.get(ref) != wanted.get(ref):
                self._changed[ref] = None
        self._wanted = wanted

    def take(self) -> tuple[ObjectRef, ...]:
        """Return the objects that changed since the last call, sorted."""
        changed, self._changed = self._changed, {}
        return tuple(sorted(changed))

    def wanted(self, ref: ObjectRef) -> Generated | None:
        """Return how an object should be; None if it should not be there."""
        return self._wanted.get(ref)
