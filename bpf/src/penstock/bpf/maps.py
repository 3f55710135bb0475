"""Typed access to one BPF map."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from typing import Generic, TypeVar

from penstock.bpf.abi import Layout
from penstock.bpf.errors import DatapathError
from penstock.bpf.libbpf import library

K = TypeVar("K", bound=Layout)
V = TypeVar("V", bound=Layout)

_BATCH = 4096
_TOKEN_SIZE = 64  # a hash wants 4 bytes to remember the place, a trie the size of its key


class BpfMap(Generic[K, V]):
    """A map with keys K and values V; the file descriptor belongs to someone else."""

    def __init__(self, fd: int, name: str, key: type[K], value: type[V]) -> None:
        """Wrap *fd*; the kernel's sizes are known to be those of *key* and *value*."""
        self._fd, self.name, self._key, self._value = fd, name, key, value
        self._library = library()

    def get(self, key: K) -> V | None:
        """Return the value at *key*, or None."""
        value = self._value()
        lookup = self._library.function("bpf_map_lookup_elem")
        result: int = lookup(self._fd, ctypes.byref(key), ctypes.byref(value))
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise DatapathError(f"map {self.name}: lookup", -result)
        return value

    def put(self, key: K, value: V) -> None:
        """Add or replace one entry; a reader sees the old value or the new one.

        Raises:
            DatapathError: the map is full, or the kernel has no memory.
        """
        update = self._library.function("bpf_map_update_elem")
        result: int = update(self._fd, ctypes.byref(key), ctypes.byref(value), 0)
        if result in {-errno.E2BIG, -errno.ENOSPC}:
            raise DatapathError(f"map {self.name} is full, nothing was replaced", -result)
        if result < 0:
            raise DatapathError(f"map {self.name}: update", -result)

    def delete(self, key: K) -> bool:
        """Remove one entry; return whether it was there."""
        result: int = self._library.function("bpf_map_delete_elem")(self._fd, ctypes.byref(key))
        if result not in {0, -errno.ENOENT}:
            raise DatapathError(f"map {self.name}: delete", -result)
        return result == 0

    def items(self) -> Iterator[tuple[K, V]]:
        """Yield all entries, in the kernel's order; not a snapshot if someone writes meanwhile."""
        token = ctypes.create_string_buffer(_TOKEN_SIZE)
        at: object = None
        keys, values = (self._key * _BATCH)(), (self._value * _BATCH)()
        lookup = self._library.function("bpf_map_lookup_batch")
        while True:
            count = ctypes.c_uint32(_BATCH)
            result: int = lookup(self._fd, at, token, keys, values, ctypes.byref(count), None)
            if result not in {0, -errno.ENOENT}:
                raise DatapathError(f"map {self.name}: read all", -result)
            for index in range(count.value):
                yield (
                    self._key.from_buffer_copy(keys[index]),
                    self._value.from_buffer_copy(values[index]),
                )
            if result == -errno.ENOENT:
                return
            at = token
