"""Events, weights, socket lists: what is decoded and computed without a kernel."""

from __future__ import annotations

import ipaddress
import socket
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.bpf.abi import Address, EventKind, EventRecord, Reason
from penstock.bpf.model import decode_event
from penstock.bpf.service_table import cumulate
from penstock.bpf.sockdiag import decode_connection
from penstock.ir.policy import Direction


def test_event_is_decoded() -> None:
    record = EventRecord(
        kind=EventKind.CONNECT_DENIED,
        reason=Reason.DENY_ENTRY,
        direction=Direction.EGRESS,
        protocol=6,
        source=Address.of(IPv4Address("10.0.0.1")),
        destination=Address.of(IPv6Address("fd00::2")),
        requested=Address.of(IPv4Address("10.96.0.1")),
        source_port=1,
        destination_port=2,
        requested_port=3,
        source_identity=4,
        destination_identity=5,
        netns_cookie=6,
        timestamp_ns=7,
        pid=8,
        comm=b"curl",
    )
    event = decode_event(bytes(record))
    assert (event.source, event.destination) == (IPv4Address("10.0.0.1"), IPv6Address("fd00::2"))
    assert (event.requested, event.requested_port) == (IPv4Address("10.96.0.1"), 3)
    assert (event.kind, event.reason) == (EventKind.CONNECT_DENIED, Reason.DENY_ENTRY)
    assert (event.pid, event.comm) == (8, "curl")


@pytest.mark.parametrize("record", [b"", bytes(104)])
def test_record_of_another_version_is_an_error(record: bytes) -> None:
    with pytest.raises(ValueError, match=r"Buffer size|not a valid EventKind"):
        decode_event(record)


@given(st.lists(st.integers(0, 1_000_000), max_size=50))
def test_running_sums_keep_the_weights(weights: list[int]) -> None:
    sums = cumulate(weights)
    assert [b - a for a, b in zip([0, *sums], sums, strict=False)] == weights


@given(st.lists(st.integers(0, 1 << 32), min_size=1, max_size=50))
def test_scaled_weights_fit_and_stay_positive(weights: list[int]) -> None:
    sums = cumulate(weights)
    assert sums[-1] < 1 << 32
    steps = [b - a for a, b in zip([0, *sums], sums, strict=False)]
    assert [step > 0 for step in steps] == [weight > 0 for weight in weights]


@pytest.mark.parametrize(
    ("family", "local", "remote"),
    [
        (socket.AF_INET, "10.0.0.1", "10.0.0.2"),
        (socket.AF_INET6, "fd00::1", "fd00::2"),
    ],
)
def test_listed_socket_is_decoded(family: int, local: str, remote: str) -> None:
    addresses = [ipaddress.ip_address(text).packed.ljust(16, b"\0") for text in (local, remote)]
    socket_id = struct.pack("!HH16s16s", 80, 4000, *addresses) + bytes(12)
    payload = struct.pack("=BBBB", family, 1, 0, 0) + socket_id + bytes(20)
    connection = decode_connection(payload)
    assert (str(connection.local), connection.local_port) == (local, 80)
    assert (str(connection.remote), connection.remote_port) == (remote, 4000)
    assert connection.id == socket_id
    assert not connection.is_own


def test_mapped_socket_has_ipv4_addresses() -> None:
    mapped = [Address.of(IPv4Address(text)).octets for text in ("127.0.0.1", "10.0.0.2")]
    socket_id = struct.pack("!HH16s16s", 80, 4000, *map(bytes, mapped)) + bytes(12)
    connection = decode_connection(struct.pack("=BBBB", socket.AF_INET6, 1, 0, 0) + socket_id)
    assert (connection.local, connection.remote) == (
        IPv4Address("127.0.0.1"),
        IPv4Address("10.0.0.2"),
    )
    assert connection.is_own
