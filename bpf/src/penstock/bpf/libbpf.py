"""libbpf.so.1 through ctypes: only what the datapath needs.

Nothing is loaded when the module is imported, so that a machine without libbpf can say so.
Source: /usr/include/bpf/{libbpf,bpf}.h of libbpf 1.x: functions return a negative errno, or null
and set errno.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from penstock.bpf.errors import DatapathError

SONAME = "libbpf.so.1"
_LOG_SIZE = 65536
_WARNING = 0

_pointer, _int, _text, _u32, _u64 = (
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint32,
    ctypes.c_uint64,
)
_PRINT = ctypes.CFUNCTYPE(_int, _int, _text, _pointer)
RECORD_CALLBACK = ctypes.CFUNCTYPE(_int, _pointer, _pointer, ctypes.c_size_t)

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "libbpf_set_print": (_pointer, _PRINT),
    "libbpf_num_possible_cpus": (_int,),
    "libbpf_probe_bpf_helper": (_int, _int, _int, _pointer),
    "bpf_object__open_file": (_pointer, _text, _pointer),
    "bpf_object__load": (_int, _pointer),
    "bpf_object__close": (None, _pointer),
    "bpf_object__next_program": (_pointer, _pointer, _pointer),
    "bpf_object__next_map": (_pointer, _pointer, _pointer),
    "bpf_program__name": (_text, _pointer),
    "bpf_program__fd": (_int, _pointer),
    "bpf_program__expected_attach_type": (_int, _pointer),
    "bpf_map__name": (_text, _pointer),
    "bpf_map__fd": (_int, _pointer),
    "bpf_map__set_pin_path": (_int, _pointer, _text),
    "bpf_map_create": (_int, _int, _text, _u32, _u32, _u32, _pointer),
    "bpf_map_update_elem": (_int, _int, _pointer, _pointer, _u64),
    "bpf_map_lookup_elem": (_int, _int, _pointer, _pointer),
    "bpf_map_delete_elem": (_int, _int, _pointer),
    "bpf_map_lookup_batch": (
        *(_int, _int, _pointer, _pointer, _pointer, _pointer),
        *(ctypes.POINTER(_u32), _pointer),
    ),
    "bpf_obj_pin": (_int, _int, _text),
    "bpf_obj_get": (_int, _text),
    "bpf_obj_get_info_by_fd": (_int, _int, _pointer, ctypes.POINTER(_u32)),
    "bpf_link_create": (_int, _int, _int, _int, _pointer),
    "bpf_link_detach": (_int, _int),
    "bpf_link_update": (_int, _int, _int, _pointer),
    "ring_buffer__new": (_pointer, _int, RECORD_CALLBACK, _pointer, _pointer),
    "ring_buffer__free": (None, _pointer),
    "ring_buffer__consume": (_int, _pointer),
    "ring_buffer__epoll_fd": (_int, _pointer),
}
"""Result and argument types."""


class Library:
    """The loaded library; one for the process."""

    def __init__(self) -> None:
        """Load the library.

        Raises:
            DatapathError: it is not installed or too old.
        """
        try:
            self._library = ctypes.CDLL(SONAME, use_errno=True)
            for name, (result, *arguments) in _SIGNATURES.items():
                function = getattr(self._library, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise DatapathError(f"{error}; install libbpf 1.0 or newer: libbpf1") from error
        self._libc = ctypes.CDLL(None)
        self._log: list[str] = []
        self._print = _PRINT(self._collect)
        self._library.libbpf_set_print(self._print)

    def _collect(self, level: int, pattern: bytes, arguments: int) -> int:
        """Keep what libbpf would print; *arguments* is a va_list."""
        if level == _WARNING:
            line = ctypes.create_string_buffer(_LOG_SIZE)
            self._libc.vsnprintf(line, _LOG_SIZE, _text(pattern), _pointer(arguments))
            self._log.append(line.value.decode(errors="replace"))
        return 0

    def take_log(self) -> str:
        """Return what libbpf has complained about since the last call."""
        text = "".join(self._log)
        self._log.clear()
        return text

    def function(self, name: str) -> Callable[..., Any]:
        """Return a raw function of `_SIGNATURES`."""
        function: Callable[..., Any] = getattr(self._library, name)
        return function

    def call(self, name: str, *arguments: Any, what: str) -> int:
        """Call a function that returns a negative errno on failure.

        Raises:
            DatapathError: it failed; the text is *what*.
        """
        result: int = self.function(name)(*arguments)
        if result < 0:
            raise DatapathError(what, -result)
        return result

    def new(self, name: str, *arguments: Any, what: str) -> int:
        """Call a function that returns a pointer, null on failure.

        Raises:
            DatapathError: it failed; the text is *what* and libbpf's log.
        """
        result: int | None = self.function(name)(*arguments)
        if not result:
            raise DatapathError(f"{what}\n{self.take_log()}".rstrip(), ctypes.get_errno())
        return result


@functools.cache
def library() -> Library:
    """Return the library, loaded at the first call."""
    return Library()


class Program(NamedTuple):
    """A loaded program."""

    fd: int
    attach_type: int


class BpfObject:
    """A loaded object file: its programs and maps stay open until `close`."""

    def __init__(self, path: Path, pins: Path | None) -> None:
        """Load *path*; every map is taken from the folder *pins* of a bpffs, or pinned there.

        Args:
            path: an object file.
            pins: None for an object that leaves nothing when it is closed.

        Raises:
            DatapathError: the verifier or the kernel refused, or a pinned map has another layout.
        """
        self._library = library()
        self._library.take_log()
        self._object = self._library.new(
            "bpf_object__open_file", os.fsencode(path), None, what=f"{path}: open"
        )
        try:
            if pins is not None:
                self._pin_maps(pins)
            self._load(path, pins)
            self.programs = self._programs()
            self.maps = self._maps()
        except BaseException:
            self.close()
            raise

    def _each(self, function: str) -> Iterator[int]:
        item: int | None = None
        while item := self._library.function(function)(self._object, item):
            yield item

    def _pin_maps(self, pins: Path) -> None:
        for item in self._each("bpf_object__next_map"):
            name: bytes = self._library.function("bpf_map__name")(item)
            if b"." in name:
                continue  # .rodata and the like: a bpffs allows no dots, and they hold no state
            pin = os.fsencode(pins) + b"/" + name
            self._library.call("bpf_map__set_pin_path", item, pin, what=f"pin {pin!r}")

    def _load(self, path: Path, pins: Path | None) -> None:
        result: int = self._library.function("bpf_object__load")(self._object)
        if result >= 0:
            return
        log = self._library.take_log()
        if "parameter mismatch" in log:
            raise DatapathError(
                f"{path}: maps pinned in {pins} have another layout, left by another version; "
                f"drain the node, remove them and start again\n{log}".rstrip(),
                -result,
            )
        raise DatapathError(f"{path}: load\n{log[-4000:]}".rstrip(), -result)

    def _programs(self) -> dict[str, Program]:
        name, fd, attach_type = (
            self._library.function(f"bpf_program__{field}")
            for field in ("name", "fd", "expected_attach_type")
        )
        return {
            name(item).decode(): Program(fd(item), attach_type(item))
            for item in self._each("bpf_object__next_program")
        }

    def _maps(self) -> dict[str, int]:
        name, fd = self._library.function("bpf_map__name"), self._library.function("bpf_map__fd")
        return {name(item).decode(): fd(item) for item in self._each("bpf_object__next_map")}

    def close(self) -> None:
        """Close all file descriptors; what is pinned stays."""
        if self._object:
            self._library.function("bpf_object__close")(self._object)
            self._object = 0
