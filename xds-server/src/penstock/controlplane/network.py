"""What a controller is told about serving nodes of other machines."""

from __future__ import annotations

from pathlib import Path

import msgspec

from penstock.meta.errors import PenstockError
from penstock.meta.names import NamespacedName
from penstock.meta.node_identity import JOIN_AUDIENCE, TRUST_DOMAIN

_HIGHEST_PORT = 0xFFFF


class EndpointError(PenstockError):
    """The controller cannot serve as told; the text says what to change."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """What a controller is told about serving nodes of other machines."""

    ads_address: str = ""
    """As "0.0.0.0:15012"; "" for only the socket in the run folder."""
    join_address: str = ""
    """Where nodes get certificates; "" for nowhere."""
    metrics_address: str = ""
    """Of health and metrics, in plain HTTP; "" for nowhere."""
    namespace: str = "kube-system"
    """Of the Secret and the ConfigMap with the authority, and of the Service of controllers."""
    trust_domain: str = TRUST_DOMAIN
    names: tuple[str, ...] = ()
    """More DNS names for our certificate."""
    authority_folder: Path | None = None
    """Where the authority is kept instead of in a Secret."""
    join_audience: str = JOIN_AUDIENCE
    join_account: NamespacedName | None = None
    """Service account whose tokens are taken; None for none."""
    join_token_file: Path | None = None
    drain: float = 5.0
    """Seconds from SIGTERM to the end of streams; by then nobody is sent here any more."""


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of "host:port" or "[host]:port".

    Raises:
        EndpointError: *address* is something else.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > _HIGHEST_PORT:
        raise EndpointError(f"{address!r} is no address: write HOST:PORT, as 0.0.0.0:15012")
    return host.strip("[]"), int(port)
