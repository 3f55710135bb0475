"""What keeps Envoy from listening in a pod, seen before it is told to.

An Envoy that may not bind in another network namespace stays there with its main thread: so it is
not tried where it would fail. The programs keep pods that are captured from taking Envoy's ports;
others may have them already, as those with the proxy of another mesh.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from penstock.bpf.addresses import link_addresses
from penstock.bpf.sockdiag import Connection, list_listening
from penstock.meta.listeners import EGRESS_PORT, INGRESS_PORT

_LOOPBACKS = {
    IPv4Address("127.0.0.1"): "its interface lo up",
    IPv6Address("::1"): "net.ipv6.conf.lo.disable_ipv6=0",
}
"""Where Envoy listens, and what a pod needs for that."""
_PORTS = frozenset({EGRESS_PORT, INGRESS_PORT})


def hindrance(netns: Path, envoy_cgroups: AbstractSet[int]) -> str:
    """Return what keeps Envoy from listening in a network namespace; "" if nothing is seen.

    Args:
        netns: of the pod.
        envoy_cgroups: ids of the cgroups that Envoy's sockets are in.

    Raises:
        DatapathError: no such namespace, or the kernel refuses.
    """
    present = {one.address for one in link_addresses(netns)}
    for address, needed in _LOOPBACKS.items():
        if address not in present:
            return f"it has no address {address}, where Envoy would listen; it needs {needed}"
    for taken in sorted(filter(_is_in_the_way, list_listening(netns)), key=_place):
        if taken.cgroup not in envoy_cgroups:
            return (
                f"a process of the pod listens on port {taken.local_port}, which Envoy needs "
                "there; end it, as by removing the proxy of another mesh"
            )
    return ""


def _is_in_the_way(socket: Connection) -> bool:
    at = socket.local
    return socket.local_port in _PORTS and (at.is_unspecified or at in _LOOPBACKS)


def _place(socket: Connection) -> tuple[int, str]:
    return socket.local_port, str(socket.local)
