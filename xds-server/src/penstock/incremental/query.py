"""Queries: memoised pure functions of a database and a key."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

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
V = TypeVar("V")


class _Never:
    """Value of a node that was never computed; equal to nothing."""


class _Call(Generic[D, K, V]):
    """One (query, key) of one database."""

    __slots__ = ("_db", "_key", "_query")

    def __init__(self, query: Query[D, K, V], db: D, key: K) -> None:
        self._query, self._db, self._key = query, db, key

    def compute(self) -> V:
        return self._query.function(self._db, self._key)

    def forget(self) -> None:
        self._db.memos[self._query].pop(self._key, None)

    def __str__(self) -> str:
        return f"query {self._query.name}({self._key})"


class Query(Generic[D, K, V]):
    """A memoised pure function; call it like the function itself."""

    def __init__(self, function: Callable[[D, K], V]) -> None:
        """Wrap *function*; every database has a memo of its own."""
        self.function = function
        self.name = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self, db: D, key: K) -> V:
        """Return the value for *key*, doing as little as possible."""
        value: V = db.engine.read(self.node(db, key))
        return value

    def node(self, db: D, key: K) -> Node:
        """Return the node of *key*; compute it if it is new."""
        memo = db.memos.setdefault(self, {})
        node = memo.get(key)
        if node is None:
            node = memo[key] = Node(_Call(self, db, key), _Never())
            try:
                db.engine.start(node)
            except BaseException:
                memo.pop(key, None)
                raise
        return node


def query(function: Callable[[D, K], V]) -> Query[D, K, V]:
    """Make *function* a query (decorator)."""
    return Query(function)
