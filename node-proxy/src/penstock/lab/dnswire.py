"""DNS messages: parse a question, encode an answer. Pure.

Source: RFC 1035 (messages), RFC 3596 (AAAA), RFC 2782 (SRV), RFC 6891 (EDNS).
"""

from __future__ import annotations

import enum
import ipaddress
import struct

import msgspec

MAX_UDP_SIZE = 1232
"""Largest answer over UDP, whatever the client says it can take: it is never fragmented."""
_CLASS_IN = 1
_HEADER = struct.Struct("!HHHHHH")
_FLAG_RESPONSE, _FLAG_AUTHORITATIVE = 0x8000, 0x0400
_FLAG_TRUNCATED, _FLAG_RECURSION_DESIRED = 0x0200, 0x0100
_OPCODE_MASK = 0x7800


class Type(enum.IntEnum):
    """Types of records that the lab knows."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    ANY = 255


class Rcode(enum.IntEnum):
    """Outcome of a query."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5


class MalformedQueryError(ValueError):
    """A message that is no query; the answer, if any, is FORMERR."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One question."""

    id: int
    name: str
    """Lower case, without the final dot; "" is the root."""
    type: int
    question: bytes
    """As it came, to be repeated in the answer: resolvers compare its letters' case."""
    recursion_desired: bool = False
    opcode: int = 0
    in_class: bool = True
    udp_size: int = 512
    edns: bool = False


class Record(msgspec.Struct, frozen=True, order=True, kw_only=True):
    """One record of class IN; names have no final dot."""

    name: str
    type: Type
    value: str
    """Address, target name, text, or "priority weight port target" of an SRV record."""
    ttl: int = 5


def parse_query(message: bytes) -> Query:
    """Return the question in *message*.

    Raises:
        MalformedQueryError: it is cut, an answer, has not exactly one question or a bad name.
    """
    if len(message) < _HEADER.size:
        raise MalformedQueryError("shorter than a header")
    identifier, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(message)
    if flags & _FLAG_RESPONSE or questions != 1 or answers or authorities:
        raise MalformedQueryError("not exactly one question")
    labels, end = _parse_name(message, _HEADER.size)
    if end + 4 > len(message):
        raise MalformedQueryError("the question is cut")
    kind, kind_class = struct.unpack_from("!HH", message, end)
    size = _parse_edns(message, end + 4, additionals)
    return Query(
        id=identifier,
        name=".".join(labels).lower(),
        type=kind,
        question=message[_HEADER.size : end + 4],
        recursion_desired=bool(flags & _FLAG_RECURSION_DESIRED),
        opcode=(flags & _OPCODE_MASK) >> 11,
        in_class=kind_class == _CLASS_IN,
        udp_size=min(max(size, 512), MAX_UDP_SIZE),
        edns=size > 0,
    )


def encode_answer(
    query: Query,
    rcode: Rcode,
    answers: tuple[Record, ...] = (),
    authority: tuple[Record, ...] = (),
    *,
    limit: int = 65535,
) -> bytes:
    """Return the answer to *query*; one longer than *limit* bytes is cut and says so."""
    flags = _FLAG_RESPONSE | (query.opcode << 11) | rcode
    if rcode in (Rcode.NOERROR, Rcode.NXDOMAIN):
        flags |= _FLAG_AUTHORITATIVE
    if query.recursion_desired:
        flags |= _FLAG_RECURSION_DESIRED
    extra = b"\0" + struct.pack("!HHIH", Type.OPT, MAX_UDP_SIZE, 0, 0) if query.edns else b""
    body = b"".join(map(encode_record, (*answers, *authority)))
    counts = (len(answers), len(authority))
    if _HEADER.size + len(query.question) + len(body) + len(extra) > limit:
        flags, body, counts = flags | _FLAG_TRUNCATED, b"", (0, 0)
    header = _HEADER.pack(query.id, flags, 1, *counts, int(query.edns))
    return header + query.question + body + extra


def encode_error(message: bytes, rcode: Rcode) -> bytes:
    """Return an answer to a message that could not be parsed; b"" if it deserves none."""
    if len(message) < _HEADER.size or message[2] & 0x80:
        return b""
    identifier = int.from_bytes(message[:2], "big")
    return _HEADER.pack(identifier, _FLAG_RESPONSE | rcode, 0, 0, 0, 0)


def encode_record(record: Record) -> bytes:
    """Return a record, without compression of names."""
    data = _encode_data(record)
    middle = struct.pack("!HHIH", record.type, _CLASS_IN, record.ttl, len(data))
    return encode_name(record.name) + middle + data


def encode_name(name: str) -> bytes:
    """Return a domain name."""
    labels = [label.encode("ascii") for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _encode_data(record: Record) -> bytes:
    match record.type:
        case Type.A | Type.AAAA:
            return ipaddress.ip_address(record.value).packed
        case Type.SRV:
            priority, weight, port, target = record.value.split(" ")
            return struct.pack("!HHH", int(priority), int(weight), int(port)) + encode_name(target)
        case Type.SOA:
            first, second, *numbers = record.value.split(" ")
            fields = struct.pack("!IIIII", *map(int, numbers))
            return encode_name(first) + encode_name(second) + fields
        case Type.TXT:
            raw = record.value.encode()[:255]
            return bytes([len(raw)]) + raw
        case _:
            return encode_name(record.value)


def _parse_name(message: bytes, start: int) -> tuple[list[str], int]:
    """Return the labels of an uncompressed name and where it ends."""
    labels: list[str] = []
    at = start
    while True:
        if at >= len(message):
            raise MalformedQueryError("a name is cut")
        length = message[at]
        at += 1
        if length == 0:
            return labels, at
        if length > 63 or at + length > len(message) or at - start + length > 254:  # noqa: PLR2004 - RFC 1035, 2.3.4
            raise MalformedQueryError("a name is too long, cut or compressed")
        labels.append(_label_text(message[at : at + length]))
        at += length


def _label_text(raw: bytes) -> str:
    """Return a label; bytes that no name of a cluster has are kept apart from those that one has.

    A dot inside a label must not look like the border of two labels.
    """
    return raw.decode("latin-1").replace(".", "\\.")


def _parse_edns(message: bytes, start: int, count: int) -> int:
    """Return the payload size that an OPT record in the additional section offers, 0 without."""
    at = start
    for _ in range(min(count, 4)):
        _, at = _parse_name(message, at)
        if at + 10 > len(message):
            raise MalformedQueryError("an additional record is cut")
        kind, size, _, length = struct.unpack_from("!HHIH", message, at)
        if kind == Type.OPT:
            return max(int(size), 512)
        at += 10 + length
    return 0
