"""Objects of files with the statuses that they would have, without anything that runs."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.cli.columns import Item
from penstock.cli.compiled import Compiled
from penstock.compiler.acked import Acked
from penstock.compiler.statuses import status_of
from penstock.controlplane.shown import shown_object
from penstock.meta.names import ObjectRef


def items(compiled: Compiled) -> Iterator[Item]:
    """Yield the objects in order, with status and location, as a controller would show them.

    Nobody has refused anything and nobody waits: a condition that only the data plane can say is
    left out, and what depends on it is as it will be.
    """
    loaded, db = compiled.loaded, compiled.compiler.db
    for thing in sorted(loaded.objects, key=lambda one: one.ref):
        shown = shown_object(thing)
        status = status_of(db, thing, _nothing)
        if status is not None:
            shown["status"] = status
        place = loaded.locate(thing.ref, "")
        where = None if place is None else {"file": place.file, "line": place.line}
        yield shown | {"location": where}


def _nothing(_: ObjectRef) -> Acked | None:
    return None
