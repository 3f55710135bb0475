"""What a second process compiles of a large first batch, and lends to the first.

A copy of the process, made when everything is read and nothing is compiled yet, begins at the last
root while the original begins at the first, until they meet. Of its part the copy tells the
resources, not how they came about, so the original can serve them at once; it compiles that part
itself before it takes any change (`Compiler.catch_up`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from penstock.compiler.database import Database
from penstock.compiler.roots import Root
from penstock.meta.names import Origin
from penstock.xds.resource import Resource, ResourceName, make_resource


class Helper(Protocol):
    """Does work in a copy of this process."""

    def start(self, work: Iterator[bytes]) -> None:
        """Have a copy make *work*, as far as it comes; nothing happens if there can be none."""
        ...

    def received(self) -> Sequence[bytes]:
        """Return what was made since the last call; does not wait."""
        ...

    def stop(self) -> None:
        """End the copy, whatever it does."""
        ...


class Sharing(msgspec.Struct, frozen=True):
    """Who helps, and with what."""

    helper: Helper
    many: int = 1000
    """So many new roots at once are worth it: some tenths of a second."""
    part: int = 50
    """Roots after which each of both looks how far the other one is: some hundredths."""


class Lent(msgspec.Struct, frozen=True, array_like=True):
    """A resource that somebody else made, and the node that gets it."""

    node: str
    type_url: str
    name: str
    body: bytes
    origins: tuple[Origin, ...]
    needs: tuple[ResourceName, ...]

    def resource(self) -> Resource:
        """Return it as if it were made here."""
        return make_resource(self.type_url, self.name, self.body, self.origins, self.needs)


class Part(msgspec.Struct, frozen=True, array_like=True):
    """What some roots give: all from `first` up to where the part before began."""

    first: int
    """Position of a root."""
    lent: tuple[Lent, ...]
    failed: tuple[int, ...]
    """Positions of roots of which something cannot be compiled; nothing of them is lent."""


def parts_from_the_end(db: Database, roots: Sequence[Root], part: int) -> Iterator[bytes]:
    """Compile *roots*, the last ones first, and yield Parts of so many as MessagePack.

    *db* is a copy, which is of no use afterwards.
    """
    db.engine.stop_recording()
    encoder = msgspec.msgpack.Encoder()
    for end in range(len(roots), 0, -part):
        first = max(0, end - part)
        lent: list[Lent] = []
        failed: list[int] = []
        for position in range(first, end):
            found = _resources(db, roots[position])
            if found is None:
                failed.append(position)
            else:
                lent += found
        yield encoder.encode(Part(first, tuple(lent), tuple(failed)))


_READER = msgspec.msgpack.Decoder(Part)


def read_part(sent: bytes) -> Part:
    """Return what `parts_from_the_end` has made."""
    return _READER.decode(sent)


def _resources(db: Database, root: Root) -> list[Lent] | None:
    """Return what there is because of *root*, None if something fails."""
    outputs = root.query.node(db, root.key)
    if outputs.failure is not None:
        return None
    made: list[Lent] = []
    for output in outputs.value:
        node = output.query.node(db, output.key)
        if node.failure is not None:
            return None
        resource: Resource | None = node.value
        if resource is not None:
            name, body = resource.name, resource.body
            needs = tuple(resource.needs)
            made.append(Lent(output.node, resource.type_url, name, body, resource.origins, needs))
    return made
