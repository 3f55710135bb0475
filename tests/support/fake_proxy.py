"""In-pod listeners like Envoy's, made in Envoy's cgroup, for tests without Envoy."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address

from penstock.bpf.abi import EGRESS_PORT, INGRESS_PORT, IPAddress
from support.topology import Actor

IP_TRANSPARENT = 19
IPV6_TRANSPARENT = 75
SO_ORIGINAL_DST = 80


class FakeProxy:
    """Egress and ingress listeners of one pod, for IPv4 and IPv6."""

    def __init__(self, envoy: Actor) -> None:
        self._envoy = envoy
        self._open = ExitStack()
        self._egress = self._listeners(EGRESS_PORT)
        self._ingress = self._listeners(INGRESS_PORT)

    def _listeners(self, port: int) -> dict[int, socket.socket]:
        made: dict[int, socket.socket] = {}
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            listener = self._open.enter_context(self._envoy.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET:
                listener.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
            else:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
            listener.bind((host, port))
            listener.listen(4096)
            made[family] = listener
        return made

    def accept_egress(self, family: int = socket.AF_INET) -> socket.socket:
        """Return the next connection that a process of the pod was redirected with."""
        return self._accept(self._egress[family])

    def accept_ingress(self, family: int = socket.AF_INET) -> socket.socket:
        """Return the next connection that was on its way to the pod."""
        return self._accept(self._ingress[family])

    def _accept(self, listener: socket.socket) -> socket.socket:
        accepted, _peer = listener.accept()
        accepted.settimeout(listener.gettimeout())
        return accepted

    def close(self) -> None:
        self._open.close()


def original_destination(accepted: socket.socket) -> tuple[IPAddress, int]:
    """Return SO_ORIGINAL_DST; OSError if there is none."""
    level = socket.SOL_IP if accepted.family == socket.AF_INET else socket.IPPROTO_IPV6
    raw = accepted.getsockopt(level, SO_ORIGINAL_DST, 28)
    (port,) = struct.unpack_from("!H", raw, 2)
    if struct.unpack_from("=H", raw)[0] == socket.AF_INET:
        return IPv4Address(raw[4:8]), port
    return IPv6Address(raw[8:24]), port
