"""The engine: nodes, recording of reads, verification and goals."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, Protocol

from penstock.meta.errors import PenstockError


class CycleError(PenstockError):
    """A query asked for its own value."""

    def __init__(self, node: Node) -> None:
        """Name the query and the key at which the cycle closed."""
        super().__init__(f"{node.source} depends on itself")


class Source(Protocol):
    """Where the value of a node comes from."""

    def compute(self) -> Any:
        """Return the present value, reading other nodes through the engine."""
        ...

    def forget(self) -> None:
        """Drop the node: nobody reads it."""
        ...


class Node:
    """One remembered value: a cell of an input, or the result of a query for one key."""

    __slots__ = (
        "changed_at", "failure", "goal", "readers", "reads", "running", "source", "suspect",
        "value",
    )  # fmt: skip

    def __init__(self, source: Source, value: Any) -> None:
        """Make a node that nobody reads."""
        self.source = source
        self.value = value
        self.failure: Exception | None = None
        """What the last run raised; remembered like a value, until a read changes."""
        self.changed_at = 0
        self.reads: dict[Node, int] = {}
        """What the last run read, in that order, and at which revision."""
        self.readers: dict[Node, None] = {}
        self.suspect = False
        self.running = False
        self.goal: Hashable = None
        """Name under which changes are reported; None if nobody wants to know."""


class Engine:
    """Records who reads what, and brings values up to date with the least work."""

    def __init__(self) -> None:
        """Start at revision 1 without any node."""
        self.revision = 1
        self.runs = 0
        """Number of query functions run so far."""
        self._running: list[Node] = []
        self._suspect_goals: dict[Node, None] = {}

    def changed(self, cells: Iterable[Node]) -> None:
        """Tell that the values of these cells are different from now on."""
        self.revision += 1
        for cell in cells:
            cell.changed_at = self.revision
            self._suspect_readers(cell)

    def read(self, node: Node) -> Any:
        """Return the present value of *node*; the running query depends on it from now on.

        Raises:
            Exception: what the node's query raised, in it and in all that read it.
        """
        self._refresh(node)
        if self._running:
            reader = self._running[-1]
            reader.reads[node] = self.revision
            node.readers[reader] = None
        if node.failure is not None:
            raise node.failure
        return node.value

    def start(self, node: Node) -> None:
        """Compute a new query node for the first time; it may fail like any run."""
        self._run(node)

    def want(self, node: Node, name: Hashable) -> None:
        """Keep *node* and report its changes under *name*."""
        node.goal = name
        if node.suspect:
            self._suspect_goals[node] = None

    def unwant(self, node: Node) -> None:
        """Stop reporting changes of *node*; it is forgotten if nobody reads it."""
        node.goal = None
        self._suspect_goals.pop(node, None)
        self._forget_if_unread(node)

    def release(self, node: Node) -> None:
        """Forget *node* unless it is read or a goal."""
        self._forget_if_unread(node)

    def refresh_goals(self) -> list[Node]:
        """Bring all goals up to date; return those that changed or failed, in order of marking."""
        changed: list[Node] = []
        while self._suspect_goals:
            node = next(iter(self._suspect_goals))
            before = node.changed_at
            self._refresh(node)
            self._suspect_goals.pop(node, None)
            if node.changed_at != before or node.failure is not None:
                changed.append(node)
        return changed

    def _suspect_readers(self, node: Node) -> None:
        work = list(node.readers)
        while work:
            reader = work.pop()
            if not reader.suspect:
                reader.suspect = True
                if reader.goal is not None:
                    self._suspect_goals[reader] = None
                work.extend(reader.readers)

    def _refresh(self, node: Node) -> None:
        if node.running:
            raise CycleError(node)
        if not node.suspect:
            return
        # Reads are verified in the order in which they were made: a later read may exist only
        # because of what an earlier one returned.
        for read, at in list(node.reads.items()):
            self._refresh(read)
            if read.changed_at > at:
                self._run(node)
                return
        node.suspect = False

    def _run(self, node: Node) -> None:
        before, node.reads = node.reads, {}
        node.running = True
        self._running.append(node)
        self.runs += 1
        value, failure = node.value, None
        try:
            value = node.source.compute()
        except Exception as error:  # noqa: BLE001  # kept, and raised again for whoever reads
            failure = error
        finally:
            self._running.pop()
            node.running = False
        node.suspect = False
        for read in before:
            if read not in node.reads:
                read.readers.pop(node, None)
                self._forget_if_unread(read)
        if failure is not None or node.failure is not None or value != node.value:
            node.value, node.failure = value, failure
            node.changed_at = self.revision

    def _forget_if_unread(self, node: Node) -> None:
        if node.readers or node.goal is not None or node.running:
            return
        node.source.forget()
        self._drop_reads(node)

    def _drop_reads(self, node: Node) -> None:
        reads, node.reads = node.reads, {}
        for read in reads:
            read.readers.pop(node, None)
            self._forget_if_unread(read)
