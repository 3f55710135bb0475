"""What the writer of generated objects is told: how each should be, and when to look again."""

from __future__ import annotations

from penstock.compiler.generated_objects import GENERATED_KINDS
from penstock.controlplane.world import World
from penstock.core.events import Batch
from penstock.gatewayapi.generated import Generated, is_generated
from penstock.meta.names import ObjectRef
from penstock.sources.kubernetes.object_writer import Objects, ObjectWriter


class ObjectFeed:
    """Stands between the world and a writer of objects."""

    def __init__(self, world: World) -> None:
        """Follow nothing."""
        self._world = world
        self._refused: dict[ObjectRef, str] = {}

    @property
    def objects(self) -> Objects:
        """Return what a writer asks."""
        return Objects(concerns=self._concerns, wanted=self._wanted, refused=self._take_refusal)

    def turn(self, writer: ObjectWriter, *, leads: bool) -> None:
        """Look at everything if it is our turn; follow nothing if it is not."""
        generated = self._world.compiler.generated
        for ref in tuple(self._refused):
            self._take_refusal(ref, "")
        if not leads:
            generated.clear()
            return
        generated.follow()
        there = (ref for ref in self._world.objects if ref.kind in GENERATED_KINDS)
        ours = {ref for ref in there if self._is_generated(ref)}
        for ref in sorted(ours.union(generated.take())):
            writer.mark(ref)

    def take(self, writer: ObjectWriter, batch: Batch) -> None:
        """Look at objects of ours that changed, and at those that should."""
        generated = self._world.compiler.generated
        marked = dict.fromkeys(generated.take())
        for event in batch.events:
            ref = event.object.ref
            if ref.kind in GENERATED_KINDS:
                labels = event.object.metadata.labels
                if is_generated(labels) or generated.wanted(ref) is not None:
                    marked[ref] = None
        for ref in marked:
            writer.mark(ref)

    def _take_refusal(self, ref: ObjectRef, why: str) -> None:
        """Take why the server did not take an object at the last look, "" if it did."""
        if self._refused.get(ref, "") == why:
            return
        if why:
            self._refused[ref] = why
        else:
            del self._refused[ref]
        self._world.tell_refused(ref, why)

    def _wanted(self, ref: ObjectRef) -> Generated | None:
        return self._world.compiler.generated.wanted(ref)

    def _concerns(self, ref: ObjectRef) -> bool:
        return self._wanted(ref) is not None or self._is_generated(ref)

    def _is_generated(self, ref: ObjectRef) -> bool:
        thing = self._world.objects.get(ref)
        return thing is not None and is_generated(thing.metadata.labels)
