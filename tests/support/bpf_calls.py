"""What the functions of a compiled eBPF object use of the stack, and whom they call.

Source: elf(5); the instruction set, Documentation/bpf/standardization; how calls are relocated, as
in libbpf, `bpf_object__reloc_code`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SYMBOL_TABLE, _RELOCATIONS, _FUNCTION = 2, 9, 2
"""SHT_SYMTAB, SHT_REL, STT_FUNC."""
_WORD = 8
"""Bytes of an instruction."""
_FRAME_POINTER = 10
_LOAD_64, _CALL, _COPY, _ADD = 0x18, 0x85, 0xBF, 0x07
"""BPF_LD of 64 bits, which has two words; BPF_CALL; of 64 bits BPF_MOV|BPF_X and BPF_ADD|BPF_K."""
_PSEUDO_CALL, _PSEUDO_FUNCTION, _HELPER_TAIL_CALL = 1, 4, 12
_BASE_OF_CLASS = {1: "source", 2: "target", 3: "target"}
"""Which register of BPF_LDX, BPF_ST and BPF_STX holds the address."""


class UnreadableObjectError(Exception):
    """The object holds something from which no stack can be told; the text names it."""


class Function(NamedTuple):
    """A function of an object."""

    name: str
    is_program: bool
    """Started by the kernel, not called by others."""
    depth: int
    """Bytes below the frame pointer that it uses."""
    calls: tuple[str, ...]
    """Functions that it calls or hands on as callbacks, sorted."""
    has_tail_call: bool


def functions(path: Path) -> dict[str, Function]:
    """Return the functions of an object file by name.

    Raises:
        UnreadableObjectError: a stack cannot be told from it.
    """
    return _Object(path.read_bytes()).functions()


class _Section(NamedTuple):
    """A section header of ELF64."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class _Symbol(NamedTuple):
    """A symbol of ELF64."""

    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


class _Instruction(NamedTuple):
    """A word of a function."""

    place: int
    """Bytes from the start of its section."""
    opcode: int
    target: int
    source: int
    offset: int
    immediate: int


class _Object:
    """An ELF64 object, little endian."""

    def __init__(self, content: bytes) -> None:
        if content[:6] != b"\x7fELF\x02\x01":
            raise UnreadableObjectError("this is not an ELF64 object, little endian")
        self._content = content
        (start,) = struct.unpack_from("<Q", content, 0x28)
        _, count, names = struct.unpack_from("<3H", content, 0x3A)
        self._sections = [
            _Section(*struct.unpack_from("<2I4Q2I2Q", content, start + 64 * index))
            for index in range(count)
        ]
        (self._text,) = (
            index
            for index, one in enumerate(self._sections)
            if self._text_at(self._sections[names], one.name) == ".text"
        )
        (table,) = (one for one in self._sections if one.type == _SYMBOL_TABLE)
        self._symbols = [_Symbol(*fields) for fields in self._entries(table, "<I2BH2Q")]
        strings = self._sections[table.link]
        self._names = {
            (one.section, one.value): self._text_at(strings, one.name)
            for one in self._symbols
            if one.info & 0xF == _FUNCTION
        }
        self._relocated = {
            (section.info, place): self._symbols[info >> 32]
            for section in self._sections
            if section.type == _RELOCATIONS
            for place, info in self._entries(section, "<2Q")
        }

    def functions(self) -> dict[str, Function]:
        found = [
            self._function(self._names[one.section, one.value], one)
            for one in self._symbols
            if one.info & 0xF == _FUNCTION
        ]
        return {one.name: one for one in found}

    def _text_at(self, strings: _Section, at: int) -> str:
        start = strings.offset + at
        return self._content[start : self._content.index(b"\0", start)].decode("ascii")

    def _entries(self, section: _Section, form: str) -> Iterator[tuple[int, ...]]:
        for at in range(0, section.size, section.entry_size):
            yield struct.unpack_from(form, self._content, section.offset + at)

    def _function(self, name: str, symbol: _Symbol) -> Function:
        code = list(self._instructions(symbol))
        called = {self._called(name, symbol.section, one) for one in code} - {""}
        return Function(
            name,
            is_program=symbol.section != self._text,
            depth=max((-one for one in _offsets(name, code)), default=0),
            calls=tuple(sorted(called)),
            has_tail_call=any(
                (one.opcode, one.source, one.immediate) == (_CALL, 0, _HELPER_TAIL_CALL)
                for one in code
            ),
        )

    def _instructions(self, symbol: _Symbol) -> Iterator[_Instruction]:
        """Yield what a function does; of an instruction of two words the first one."""
        start = self._sections[symbol.section].offset
        at, end = symbol.value, symbol.value + symbol.size
        while at < end:
            opcode, registers, *rest = struct.unpack_from("<2Bhi", self._content, start + at)
            yield _Instruction(at, opcode, registers & 0xF, registers >> 4, *rest)
            at += 2 * _WORD if opcode == _LOAD_64 else _WORD

    def _called(self, name: str, section: int, one: _Instruction) -> str:
        """Return the function that an instruction is about, "" if none."""
        symbol = self._relocated.get((section, one.place))
        if (one.opcode, one.source) == (_CALL, _PSEUDO_CALL):
            base = one.place if symbol is None else symbol.value
            at = base + (one.immediate + 1) * _WORD
        elif one.opcode == _LOAD_64 and symbol is not None and symbol.section == self._text:
            at = symbol.value + one.immediate
        elif (one.opcode, one.source) == (_LOAD_64, _PSEUDO_FUNCTION):
            raise UnreadableObjectError(f"{name}: a callback without relocation")
        else:
            return ""
        home = section if symbol is None else symbol.section
        if (home, at) not in self._names:
            raise UnreadableObjectError(f"{name}: calls what is no function, at {at} of {home}")
        return self._names[home, at]


def _offsets(name: str, code: list[_Instruction]) -> Iterator[int]:
    """Yield offsets from the frame pointer at which a function reads, writes or takes addresses.

    Raises:
        UnreadableObjectError: an address is made otherwise than by a copy and an addition.
    """
    for one, following in zip(code, [*code[1:], None], strict=True):
        base = _BASE_OF_CLASS.get(one.opcode & 0x7)
        if base is not None and getattr(one, base) == _FRAME_POINTER:
            yield one.offset
        elif (one.opcode, one.source) == (_COPY, _FRAME_POINTER):
            if following is None or following[1:3] != (_ADD, one.target):
                raise UnreadableObjectError(
                    f"{name}: r{one.target} is the frame pointer at {one.place} of its section, "
                    f"and what is added to it does not follow"
                )
            yield following.immediate
