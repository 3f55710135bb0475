"""Which TLSRoute on a Service has a server name, for whom.

Source: Gateway API v1.7, TLSRouteSpec.hostnames: the narrowest hostname has it, of equal ones the
oldest route; GEP-1294: clients go by the routes of their own namespace, if it has any, and by those
alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from penstock.gatewayapi.hostname import covering
from penstock.gatewayapi.precedence import Age
from penstock.ir.route import Backend
from penstock.ir.server_name import ServerName, Way
from penstock.meta.names import Origin


class AskedNames(msgspec.Struct, frozen=True, kw_only=True):
    """What one TLSRoute asks for on a port of a Service."""

    clients: str
    """Namespace of consumers; "" is the Service's own, for all clients."""
    age: Age
    hostnames: tuple[str, ...]
    backends: tuple[Backend, ...]
    origin: Origin


def server_names(asked: Iterable[AskedNames], consumers: Collection[str]) -> tuple[ServerName, ...]:
    """Return who has each server name that some route asks for, sorted.

    Args:
        asked: by all routes on a port of a Service.
        consumers: namespaces with routes of their own there, of whatever kind: others are not
            asked for their clients.
    """
    found: dict[str, dict[str, AskedNames]] = {}
    for one in sorted(asked, key=lambda each: each.age):
        for hostname in one.hostnames:
            found.setdefault(one.clients, {}).setdefault(hostname, one)
    every = sorted({hostname for names in found.values() for hostname in names})
    return tuple(
        ServerName(
            hostname=hostname,
            ways=tuple(_way(hostname, one, found.get(one, {})) for one in (*sorted(consumers), "")),
        )
        for hostname in every
    )


def _way(hostname: str, clients: str, names: dict[str, AskedNames]) -> Way:
    first = next((names[wide] for wide in covering(hostname) if wide in names), None)
    if first is None:
        return Way(clients=clients)
    return Way(clients=clients, backends=first.backends, origins=(first.origin,))
