"""Events of the programs, from the ring buffer."""

from __future__ import annotations

import ctypes
from types import TracebackType
from typing import Self

from penstock.bpf.abi import Counter, EventRecord, Index
from penstock.bpf.libbpf import RECORD_CALLBACK, Library, library
from penstock.bpf.model import BpfEvent, decode_event


class CounterTable:
    """The per-CPU counters, summed."""

    def __init__(self, fd: int) -> None:
        """Read through *fd*, which belongs to someone else."""
        self._library = library()
        cpus = self._library.call("libbpf_num_possible_cpus", what="count CPUs")
        self._values: type[ctypes.Array[ctypes.c_uint64]] = ctypes.c_uint64 * cpus
        self._fd = fd

    def read(self, counter: Counter) -> int:
        """Return how often *counter* was counted since the maps were made."""
        values = self._values()
        key = Index(value=counter)
        self._library.call(
            "bpf_map_lookup_elem",
            self._fd,
            ctypes.byref(key),
            ctypes.byref(values),
            what=f"counter {counter.name}",
        )
        return sum(values)

    def read_all(self) -> dict[str, int]:
        """Return every counter by its name in lower case."""
        return {counter.name.lower(): self.read(counter) for counter in Counter}


class EventReader:
    """Reads events; there is one reader, and what it has read is gone.

    What nobody reads stays in the buffer (1 MiB) across restarts of the agent; when it is full, new
    events are only counted.
    """

    def __init__(self, fd: int, counters: CounterTable) -> None:
        """Open the ring buffer map behind *fd*."""
        self._library: Library = library()
        self._counters = counters
        self._records: list[bytes] = []
        self._callback = RECORD_CALLBACK(self._collect)
        self._ring = self._library.new(
            "ring_buffer__new", fd, self._callback, None, None, what="open the ring buffer"
        )
        self.fd = self._library.call("ring_buffer__epoll_fd", self._ring, what="ring buffer")
        """Readable when there are events; for `add_reader`."""

    def _collect(self, _context: int | None, record: int, size: int) -> int:
        self._records.append(ctypes.string_at(record, size))
        return 0

    def read(self) -> list[BpfEvent]:
        """Return all events that are there; never blocks."""
        self._library.call("ring_buffer__consume", self._ring, what="read the ring buffer")
        records, self._records = self._records, []
        size = ctypes.sizeof(EventRecord)
        return [decode_event(record) for record in records if len(record) >= size]

    @property
    def lost(self) -> int:
        """How many events found no room since the maps were made."""
        return self._counters.read(Counter.EVENTS_LOST)

    def close(self) -> None:
        """Close the reader; unread events stay in the buffer."""
        if self._ring:
            self._library.function("ring_buffer__free")(self._ring)
            self._ring = 0

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the reader."""
        self.close()
