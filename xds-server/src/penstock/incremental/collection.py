"""Input collections: keyed values with secondary indexes, read cell by cell."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from typing_extensions import override

from penstock.incremental.engine import Engine, Node

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Keys = tuple[Any, ...]
_EVER = object()
"""Stands for a bucket: whether there has ever been a key in any of an index."""
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
    """Keys of each bucket; buckets that somebody reads are kept sorted as well.

    It is filled when it is first asked for: nobody pays for what nobody reads.
    """

    def __init__(self, function: IndexFunction[K, V]) -> None:
        self.function = function
        self.filled = False
        self.used = False
        """Whether there has ever been a key in any bucket."""
        self.cells: dict[Hashable, Node] = {}
        self.presence: dict[Hashable, Node] = {}
        """Whether a bucket has any key, for those who ask for no more."""
        self.on_bucket: Callable[[Any, bool], None] | None = None
        self._buckets: dict[Hashable, K | set[K]] = {}
        """The only key, or several."""

    def keys(self, bucket: Hashable) -> Keys:
        """Return the keys of one bucket, sorted."""
        cell = self.cells.get(bucket)
        if cell is not None:
            keys: Keys = cell.value
            return keys
        found = self._buckets.get(bucket)
        if isinstance(found, set):
            return tuple(sorted(found))
        return () if found is None else (found,)

    def __contains__(self, bucket: Hashable) -> bool:
        """Return whether a bucket has any key."""
        return bucket in self._buckets

    def buckets(self) -> tuple[Hashable, ...]:
        """Return the buckets that have a key."""
        return tuple(self._buckets)

    def fill(self, values: Mapping[K, V]) -> None:
        """Put all keys in at once; nobody has asked before, so there is nobody to tell."""
        self.filled = True
        buckets, function = self._buckets, self.function
        for key, value in values.items():
            for bucket in function(key, value):
                keys = buckets.get(bucket)
                if keys is None:
                    buckets[bucket] = key
                elif isinstance(keys, set):
                    keys.add(key)
                elif keys is not key:
                    buckets[bucket] = {keys, key}
        self.used = bool(buckets)

    def add(self, key: K, buckets: Iterable[Hashable], changed: list[Node]) -> None:
        """Put a new *key* into *buckets*; add the cells that change to *changed*."""
        for bucket in dict.fromkeys(buckets):
            self._put(bucket, key, changed)

    def move(
        self, key: K, old: frozenset[Hashable], new: frozenset[Hashable], changed: list[Node]
    ) -> None:
        """Take *key* from the buckets *old* to *new*; add the cells that change to *changed*."""
        for bucket in old - new:
            self._take(bucket, key, changed)
        for bucket in new - old:
            self._put(bucket, key, changed)

    def _put(self, bucket: Hashable, key: K, changed: list[Node]) -> None:
        keys = self._buckets.get(bucket)
        if not self.used:
            self.used = True
            cell = self.cells.get(_EVER)
            if cell is not None:
                cell.value = True
                changed.append(cell)
        if keys is None:
            self._buckets[bucket] = key
            self._appears(bucket, changed, there=True)
        elif isinstance(keys, set):
            keys.add(key)
        else:
            self._buckets[bucket] = {keys, key}
        cell = self.cells.get(bucket)
        if cell is not None:
            cell.value = _with(cell.value, key)
            changed.append(cell)

    def _take(self, bucket: Hashable, key: K, changed: list[Node]) -> None:
        keys = self._buckets[bucket]
        if isinstance(keys, set):
            keys.remove(key)
        if not isinstance(keys, set) or not keys:
            del self._buckets[bucket]
            self._appears(bucket, changed, there=False)
        cell = self.cells.get(bucket)
        if cell is not None:
            cell.value = _without(cell.value, key)
            changed.append(cell)

    def _appears(self, bucket: Hashable, changed: list[Node], *, there: bool) -> None:
        """Note that a bucket has a key now, or none any more."""
        if self.on_bucket is not None:
            self.on_bucket(bucket, there)
        cell = self.presence.get(bucket)
        if cell is not None:
            cell.value = there
            changed.append(cell)


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
            if not self._engine.records:
                return self._values.get(key)
            cell = self._cells[key] = _Cell(value=self._values.get(key), cells=self._cells, key=key)
        value: V | None = self._engine.read(cell)
        return value

    def bucket(self, index: str, bucket: Hashable) -> tuple[K, ...]:
        """Return the keys in one bucket of an index, sorted; a read of this bucket only.

        As long as an index has never had a key, all its buckets are read as one.
        """
        by = self._indexes[index]
        if not by.filled:
            by.fill(self._values)
        cell = by.cells.get(bucket)
        if cell is None:
            if not by.used and not self.ever(index):
                return ()
            if not self._engine.records:
                unread: tuple[K, ...] = by.keys(bucket)
                return unread
            cell = by.cells[bucket] = _Cell(value=by.keys(bucket), cells=by.cells, key=bucket)
        keys: tuple[K, ...] = self._engine.read(cell)
        return keys

    def holds(self, index: str, bucket: Hashable) -> bool:
        """Return whether a bucket has any key; a read of just that, whatever keys there are."""
        by = self._indexes[index]
        if not by.filled:
            by.fill(self._values)
        cell = by.presence.get(bucket)
        if cell is None:
            if not by.used and not self.ever(index):
                return False
            if not self._engine.records:
                return bucket in by
            cell = by.presence[bucket] = _Cell(value=bucket in by, cells=by.presence, key=bucket)
        there: bool = self._engine.read(cell)
        return there

    def ever(self, index: str) -> bool:
        """Return whether an index has ever had a key; a read of just that.

        So a query can leave out what concerns a field that no object has.
        """
        by = self._indexes[index]
        if not by.filled:
            by.fill(self._values)
        cell = by.cells.get(_EVER)
        if cell is None:
            cell = by.cells[_EVER] = _Cell(value=by.used, cells=by.cells, key=_EVER)
        used: bool = self._engine.read(cell)
        return used

    def follow(self, index: str, on_bucket: Callable[[Any, bool], None]) -> None:
        """Tell *on_bucket* (bucket, whether it has any key now) from now on. Not a read."""
        by = self._indexes[index]
        if not by.filled:
            by.fill(self._values)
        by.on_bucket = on_bucket
        for bucket in by.buckets():
            on_bucket(bucket, True)  # noqa: FBT003 - as Collection.on_key is called

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
            if not index.filled:
                continue
            if old is None and new is not None:
                index.add(key, index.function(key, new), changed)
                continue
            before = frozenset(index.function(key, old)) if old is not None else frozenset()
            after = frozenset(index.function(key, new)) if new is not None else frozenset()
            index.move(key, before, after, changed)
        self._engine.changed(changed)
