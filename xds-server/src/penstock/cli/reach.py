"""Where Gateways can be reached, as Envoy's listeners say."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.cli.client import ApiClient
from penstock.cli.dump import socket_address

_PREFIX = "gateway/"
_LOOPBACK = "127.0.0.1:"


class Reachable(msgspec.Struct, frozen=True, order=True, kw_only=True):
    """A port of a Gateway that accepts connections."""

    gateway: str
    """ "namespace/name"."""
    port: int
    """As it is written in the Gateway."""
    addresses: tuple[str, ...]
    """Those on the host's loopback come first."""

    @property
    def local(self) -> str:
        """Return the address on this machine's loopback, "" if another Gateway has the port."""
        return next((one for one in self.addresses if one.startswith(_LOOPBACK)), "")


def reachable(agent: ApiClient) -> list[Reachable]:
    """Return the ports of all Gateways, sorted.

    Raises:
        PenstockError: the agent or Envoy does not answer.
    """
    answer = agent.get("/v1/envoy/listeners", dict[str, Any], {"format": "json"})
    found = [
        Reachable(gateway=name.rpartition("/")[0], port=int(name.rpartition("/")[2]), addresses=at)
        for name, at in (_named(one) for one in answer.get("listener_statuses", []))
        if name
    ]
    return sorted(found)


def scheme_at(gateway: dict[str, Any], port: int) -> str:
    """Return by which scheme a port of a Gateway, as the controller shows it, is asked."""
    listeners = gateway.get("spec", {}).get("listeners", [])
    here = [one.get("protocol") for one in listeners if one.get("port") == port]
    return "https" if "HTTPS" in here else "http"


def _named(status: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    name = str(status.get("name", ""))
    if not name.startswith(_PREFIX):
        return "", ()
    every = (status.get("local_address", {}), *status.get("additional_local_addresses", []))
    at = [socket_address(one) for one in every]
    return name.removeprefix(_PREFIX), tuple(sorted(at, key=lambda x: not x.startswith(_LOOPBACK)))
