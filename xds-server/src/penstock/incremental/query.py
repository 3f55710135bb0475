"""Queries: memoised pure functions of a database and a key."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from typing_extensions import override

from penstock.incremental.engine import Engine, Node


class Database(Protocol):
    """What queries read from: anything with an engine and a place for memos."""

    @property
    def engine(self) -> Engine:
        """Return the engine that records the reads."""
        ...

    @property
    def memos(self) -> dict[object, dict[Hashable, Node]]:
        """Return the memos of all queries, by query."""
        ...


D = TypeVar("D", bound=Database)
K = TypeVar("K", bound=Hashable)
V_co = TypeVar("V_co", covariant=True)


class _Never:
    """Value of a node that was never computed; equal to nothing."""


_NEVER = _Never()


class _Call(Node, Generic[D, K, V_co], eq=False, kw_only=True):
    """One (query, key) of one database."""

    query: Query[D, K, V_co]
    db: D
    key: K

    @override
    def compute(self) -> V_co:
        return self.query.function(self.db, self.key)

    @override
    def forget(self) -> None:
        self.db.memos[self.query].pop(self.key, None)

    def __str__(self) -> str:
        return f"query {self.query.name}({self.key})"


class Query(Generic[D, K, V_co]):
    """A memoised pure function; call it like the function itself."""

    def __init__(self, function: Callable[[D, K], V_co]) -> None:
        """Wrap *function*; every database has a memo of its own."""
        self.function = function
        self.name = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self, db: D, key: K) -> V_co:
        """Return the value for *key*, doing as little as possible."""
        memo = db.memos.get(self)
        node = memo.get(key) if memo is not None else None
        engine = db.engine
        if node is None:
            node = self._new(db, key)
        elif node.suspect or node.running:
            engine.refresh(node)
        # The rest is Engine.read, without a call: this is done half a million times at a start.
        reader, reads = engine.reader, engine.reads
        if reader is not None and node not in reads:
            reads[node] = None
            readers = node.readers
            if readers is None:
                node.readers = reader
            elif isinstance(readers, dict):
                readers[reader] = None
            else:
                node.add_reader(reader)
        if node.failure is not None:
            raise node.failure
        value: V_co = node.value
        return value

    def node(self, db: D, key: K) -> Node:
        """Return the node of *key*; compute it if it is new."""
        memo = db.memos.get(self)
        node = memo.get(key) if memo is not None else None
        return self._new(db, key) if node is None else node

    def _new(self, db: D, key: K) -> Node:
        memo = db.memos.get(self)
        if memo is None:
            memo = db.memos[self] = {}
        node = memo[key] = _Call(value=_NEVER, query=self, db=db, key=key)
        db.engine.start(node, self.function, db, key)
        return node

    def once(self, db: D, key: K) -> V_co:
        """Return the value for *key* and remember it only if somebody else wants it.

        For use outside of queries.
        """
        node = self.node(db, key)
        try:
            value: V_co = db.engine.read(node)
            return value
        finally:
            db.engine.release(node)


def query(function: Callable[[D, K], V_co]) -> Query[D, K, V_co]:
    """Make *function* a query (decorator)."""
    return Query(function)
