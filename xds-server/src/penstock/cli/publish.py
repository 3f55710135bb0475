"""On which ports of this machine's loopback Gateways are published.

Ports below 1024 are published some thousands higher: 80 at 8080, or where that is taken at 18080.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from penstock.compiler.gateway_listeners import FIRST_UNPRIVILEGED_PORT, LOOPBACK
from penstock.compiler.settings import Settings
from penstock.controlplane.kinds import known_kinds
from penstock.gatewayapi.resources import Gateway
from penstock.meta.errors import PenstockError
from penstock.sources.file import load

OFFSETS = (Settings().published_offset, 18000, 28000, 38000)


def published_offset(folder: Path) -> int:
    """Return by how much the low ports of the Gateways in *folder* are shifted.

    Raises:
        PenstockError: a port is taken, and no shift helps.
    """
    gateways = [one for one in load([folder], known_kinds()).objects if isinstance(one, Gateway)]
    ports = {listener.port for gateway in gateways for listener in gateway.spec.listeners}
    return choose_offset(ports, is_free)


def choose_offset(ports: Iterable[int], free: Callable[[int], bool]) -> int:
    """Return the first shift with which all *ports* are free.

    Args:
        ports: as they are written in Gateways.
        free: tells whether nobody listens on a port of the loopback.

    Raises:
        PenstockError: a port is taken, and no shift helps.
    """
    low = [port for port in ports if port < FIRST_UNPRIVILEGED_PORT]
    for port in sorted(set(ports) - set(low)):
        if not free(port):
            raise PenstockError(
                f"port {port} of a Gateway is in use on {LOOPBACK}; "
                f"`ss -ltnp sport = :{port}` shows by whom; end it or write another port"
            )
    for offset in OFFSETS:
        if all(free(port + offset) for port in low):
            return offset
    tried = ", ".join(str(port + offset) for port in sorted(low) for offset in OFFSETS)
    raise PenstockError(f"no free port on {LOOPBACK} for a Gateway; tried {tried}")


def is_free(port: int) -> bool:
    """Tell whether a listener can be opened on a port of the loopback."""
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        return False
    return True
