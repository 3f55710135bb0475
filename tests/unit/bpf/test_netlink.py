from __future__ import annotations

import socket

import pytest

from penstock.bpf import netlink
from penstock.bpf.errors import DatapathError


def test_a_kernel_that_does_not_answer_is_an_error_of_the_datapath() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as connection:
        connection.settimeout(0.01)
        with pytest.raises(DatapathError, match="netlink answer: timed out"):
            list(netlink.receive(connection))


def test_a_request_that_is_not_taken_is_an_error_of_the_datapath() -> None:
    connection = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    connection.close()
    with pytest.raises(DatapathError, match="netlink request: EBADF"):
        netlink.send(connection, 20, 0, b"")
