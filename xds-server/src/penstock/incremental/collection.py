"""Input collections: keyed values with secondary indexes, read cell by cell."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from typing_extensions import override

from penstock.incremental.engine import Engine, Node

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Keys = tuple[Any, ...]
IndexFunction = Callable[[K, V], Iterable[Hashable]]


class _Cell(Node, eq=False, kw_only=True):
    """A cell of a collection; it has no way to be computed, it is told."""

    cells: dict[Any, Node]
    key: Hashable

    @override
    def compute(self) -> Any:
        return self.value

    @override
    def forget(self) -> None:
        self.cells.pop(self.key, None)

    def __str__(self) -> str:
        return f"cell {self.key}"


class _Index(Generic[K, V]):
    """Keys of each bucket; buckets that somebody reads are kept sorted as well."""

    def __init__(self, function: IndexFunction[K, V]) -> None:
        self.function = function
        self.cells: dict[Hashable, Node] = {}
        self._buckets: dict[Hashable, set[K]] = {}

    def keys(self, bucket: Hashable) -> Keys:
        """Return the keys of one bucket, sorted."""
        cell = self.cells.get(bucket)
        return tuple(sorted(self._buckets.get(bucket, ()))) if cell is None else cell.value

    def add(self, key: K, buckets: Iterable[Hashable]) -> Iterator[Node]:
        """Put a new *key* into *buckets*; yield the cells that change."""
        for bucket in dict.fromkeys(buckets):
            keys = self._buckets.get(bucket)
            if keys is None:
                self._buckets[bucket] = {key}
            else:
                keys.add(key)
            cell = self.cells.get(bucket)
            if cell is not None:
                cell.value = _with(cell.value, key)
                yield cell

    def move(self, key: K, old: frozenset[Hashable], new: frozenset[Hashable]) -> Iterator[Node]:
        """Take *key* from the buckets *old* to *new*; yield the cells that change."""
        for bucket in old - new:
            keys = self._buckets[bucket]
            keys.remove(key)
            if not keys:
                del self._buckets[bucket]
        for bucket in new - old:
            self._buckets.setdefault(bucket, set()).add(key)
        for bucket in old ^ new:
            cell = self.cells.get(bucket)
            if cell is not None:
                cell.value = _without(cell.value, key) if bucket in old else _with(cell.value, key)
                yield cell


def _with(keys: Keys, key: Any) -> Keys:
    at = bisect_left(keys, key)
    return (*keys[:at], key, *keys[at:])


def _without(keys: Keys, key: Any) -> Keys:
    at = bisect_left(keys, key)
    return keys[:at] + keys[at + 1 :]


class Collection(Generic[K, V]):
    """One input: values by key. Keys must be ordered; values compare by content."""

    def __init__(self, engine: Engine, indexes: Mapping[str, IndexFunction[K, V]] = {}) -> None:
        """Make an empty collection.

        Args:
            engine: of the database that the collection belongs to.
            indexes: name → function that returns the buckets of one (key, value).
        """
        self.on_key: Callable[[K, bool], None] | None = None
        """Told (key, whether it is there now) when a key comes or goes."""
        self._engine = engine
        self._values: dict[K, V] = {}
        self._cells: dict[K, Node] = {}
        self._indexes = {name: _Index[K, V](function) for name, function in indexes.items()}

    def set(self, key: K, value: V) -> None:
        """Add or replace one value; an equal value changes nothing."""
        old = self._values.get(key)
        if old is not None and old == value:
            return
        self._values[key] = value
        self._changed(key, old, value)

    def remove(self, key: K) -> None:
        """Remove one value; a missing key changes nothing."""
        old = self._values.pop(key, None)
        if old is not None:
            self._changed(key, old, None)

    def get(self, key: K) -> V | None:
        """Return the value of *key*, or None; a read."""
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = _Cell(value=self._values.get(key), cells=self._cells, key=key)
        value: V | None = self._engine.read(cell)
        return value

    def bucket(self, index: str, bucket: Hashable) -> tuple[K, ...]:
        """Return the keys in one bucket of an index, sorted; a read of this bucket only."""
        by = self._indexes[index]
        cell = by.cells.get(bucket)
        if cell is None:
            cell = by.cells[bucket] = _Cell(value=by.keys(bucket), cells=by.cells, key=bucket)
        keys: tuple[K, ...] = self._engine.read(cell)
        return keys

    def snapshot(self) -> dict[K, V]:
        """Return all values. Not a read: for use outside of queries."""
        return dict(self._values)

    def __len__(self) -> int:
        """Return the number of values. Not a read."""
        return len(self._values)

    def _changed(self, key: K, old: V | None, new: V | None) -> None:
        if self.on_key is not None and (old is None) is not (new is None):
            self.on_key(key, new is not None)
        changed: list[Node] = []
        cell = self._cells.get(key)
        if cell is not None:
            cell.value = new
            changed.append(cell)
        for index in self._indexes.values():
            if old is None and new is not None:
                changed.extend(index.add(key, index.function(key, new)))
                continue
            before = frozenset(index.function(key, old)) if old is not None else frozenset()
            after = frozenset(index.function(key, new)) if new is not None else frozenset()
            changed.extend(index.move(key, before, after))
        self._engine.changed(changed)
