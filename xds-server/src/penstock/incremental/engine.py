"""The engine: nodes, recording of reads, verification and goals."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from penstock.meta.errors import PenstockError

D = TypeVar("D")
K = TypeVar("K", bound=Hashable)


class CycleError(PenstockError):
    """A query asked for its own value."""

    def __init__(self, node: Node) -> None:
        """Name the query and the key at which the cycle closed."""
        super().__init__(f"{node} depends on itself")


class Node(msgspec.Struct, eq=False, kw_only=True):
    """One remembered value: a cell of an input, or the result of a query for one key.

    There are hundreds of thousands of them, so each is one object, made without running Python, and
    what most have one of is not kept in a container.
    """

    value: Any
    failure: Exception | None = None
    """What the last run raised; remembered like a value, until a read changes."""
    changed_at: int = 0
    ran_at: int = 0
    """Revision of the last run, at which everything in `reads` was read."""
    reads: tuple[Node, ...] = ()
    """What the last run read, in that order."""
    readers: Node | dict[Node, None] | None = None
    """None, the only one, or several."""
    suspect: bool = False
    running: bool = False
    goal: Hashable = None
    """Name under which changes are reported; None if nobody wants to know."""

    def compute(self) -> Any:
        """Return the present value, reading other nodes through the engine."""
        raise NotImplementedError

    def forget(self) -> None:
        """Drop the node where it is kept: nobody reads it."""
        raise NotImplementedError

    def add_reader(self, reader: Node) -> None:
        """Note that *reader* depends on this node."""
        readers = self.readers
        if readers is None:
            self.readers = reader
        elif isinstance(readers, dict):
            readers[reader] = None
        elif readers is not reader:
            self.readers = {readers: None, reader: None}

    def remove_reader(self, reader: Node) -> None:
        """Note that *reader* does not depend on this node any more."""
        readers = self.readers
        if isinstance(readers, dict):
            readers.pop(reader, None)
            if not readers:
                self.readers = None
        elif readers is reader:
            self.readers = None

    def all_readers(self) -> Sequence[Node]:
        """Return what depends on this node, in the order in which it came to do so."""
        readers = self.readers
        if readers is None:
            return ()
        return tuple(readers) if isinstance(readers, dict) else (readers,)


class Engine:
    """Records who reads what, and brings values up to date with the least work."""

    def __init__(self) -> None:
        """Start at revision 1 without any node."""
        self.revision = 1
        self.runs = 0
        """Number of query functions run so far."""
        self.reader: Node | None = None
        """The query that runs; for this package only, as `reads`."""
        self.reads: dict[Node, None] = {}
        """What it has read so far."""
        self.records = True
        """Whether it is noted who reads what; for this package only, see `stop_recording`."""
        self._suspect_goals: dict[Node, None] = {}

    def stop_recording(self) -> None:
        """Note no longer who reads what, which takes a tenth of the time.

        For a process that computes values once and ends: what is new from now on cannot be brought
        up to date.
        """
        self.records = False

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
        if node.suspect or node.running:
            self.refresh(node)
        reader = self.reader
        if reader is not None and node not in self.reads:
            self.reads[node] = None
            readers = node.readers
            if readers is None:
                node.readers = reader
            elif isinstance(readers, dict):
                readers[reader] = None
            else:
                node.add_reader(reader)
        if node.failure is not None:
            raise node.failure
        return node.value

    def start(self, node: Node, function: Callable[[D, K], Any], db: D, key: K) -> None:
        """Compute a new query node, *function* of *db* and *key*; it may fail like any run.

        As `_run`, without what was before: most nodes are made all at once, and run once.
        """
        outer, outer_reads = self.reader, self.reads
        reads: dict[Node, None] = {}
        self.reader, self.reads = (node if self.records else None), reads
        node.running = True
        self.runs += 1
        try:
            node.value = function(db, key)
        except Exception as error:  # noqa: BLE001  # kept, and raised again for whoever reads
            node.failure = error
        self.reader, self.reads = outer, outer_reads
        node.running = False
        node.reads = tuple(reads)
        node.ran_at = node.changed_at = self.revision

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
            self.refresh(node)
            self._suspect_goals.pop(node, None)
            if node.changed_at != before or node.failure is not None:
                changed.append(node)
        return changed

    def _suspect_readers(self, node: Node) -> None:
        work = list(node.all_readers())
        while work:
            reader = work.pop()
            if not reader.suspect:
                reader.suspect = True
                if reader.goal is not None:
                    self._suspect_goals[reader] = None
                work.extend(reader.all_readers())

    def refresh(self, node: Node) -> None:
        """Bring a node up to date that is suspect.

        Raises:
            CycleError: it runs, so it asks for itself.
        """
        if node.running:
            raise CycleError(node)
        if not node.suspect:
            return
        # Reads are verified in the order in which they were made: a later read may exist only
        # because of what an earlier one returned.
        for read in node.reads:
            if read.suspect:
                self.refresh(read)
            if read.changed_at > node.ran_at:
                self._run(node)
                return
        node.suspect = False

    def _run(self, node: Node) -> None:
        outer, outer_reads = self.reader, self.reads
        reads: dict[Node, None] = {}
        self.reader, self.reads = node, reads
        node.running = True
        self.runs += 1
        value, failure = node.value, None
        try:
            value = node.compute()
        except Exception as error:  # noqa: BLE001  # kept, and raised again for whoever reads
            failure = error
        finally:
            self.reader, self.reads = outer, outer_reads
            node.running = False
        before, node.reads = node.reads, tuple(reads)
        node.ran_at = self.revision
        node.suspect = False
        for read in before:
            if read not in reads:
                read.remove_reader(node)
                self._forget_if_unread(read)
        if failure is not None or node.failure is not None or value != node.value:
            node.value, node.failure = value, failure
            node.changed_at = self.revision

    def _forget_if_unread(self, node: Node) -> None:
        if node.readers is not None or node.goal is not None or node.running:
            return
        node.forget()
        self._drop_reads(node)

    def _drop_reads(self, node: Node) -> None:
        reads, node.reads = node.reads, ()
        for read in reads:
            read.remove_reader(node)
            self._forget_if_unread(read)
