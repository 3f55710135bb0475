"""Sessions: requests of one client that go to one endpoint.

Source: Gateway API, SessionPersistence; GEP-1619.
"""

from __future__ import annotations

import enum

import msgspec


class SessionKind(enum.Enum):
    """By what a client says which session is its own."""

    COOKIE = "Cookie"
    HEADER = "Header"
    """Answers have the header, and clients send it back."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """How the session of a client is told."""

    kind: SessionKind = SessionKind.COOKIE
    name: str
    """Of the cookie, or of the header in lower case."""
    lifetime_ms: int = 0
    """From the first answer on; 0 is without end."""
    permanent: bool = False
    """The cookie itself has the lifetime, and outlives the browser."""
    path: str = "/"
    """Of the cookie."""
    same_site: str = "Strict"
    """Of the cookie; "" leaves it to the browser."""
    secure: bool | None = None
    """Of the cookie; None is where clients come by HTTPS."""
    domain: str = ""
    """Of the cookie; "" is the host that was asked."""
