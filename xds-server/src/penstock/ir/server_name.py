"""Where TLS goes that pods send to a Service, by the server name: what TLSRoutes become there."""

from __future__ import annotations

from penstock.ir.route import Backend, Node
from penstock.meta.names import Origin


class Way(Node, frozen=True, kw_only=True):
    """Where it goes for some clients."""

    clients: str
    """Namespace of the clients' pods; "" is for all that have no way of their own."""
    backends: tuple[Backend, ...] = ()
    """None, or weights that add up to 0, refuses."""
    origins: tuple[Origin, ...] = ()
    """The route; none where nobody is asked."""


class ServerName(Node, frozen=True, kw_only=True):
    """A server name and all ways for it, those of consumers first."""

    hostname: str
    """"a.test", or "*.a.test" for all below it that have no name of their own."""
    ways: tuple[Way, ...]
