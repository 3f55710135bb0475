"""Which controller an agent talks to next, and how.

A fleet of agents loses a controller at one moment. Each then waits for a random time (`BackOff`)
and takes another controller at random, so that those that are left share what comes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import grpc
import grpc.aio
import msgspec

from penstock.meta.back_off import BackOff
from penstock.meta.errors import PenstockError
from penstock.meta.node_identity import ADS_PORT, CONTROLLER_NAME, JOIN_PORT

_MESSAGE_BYTES = 64 << 20
_OPTIONS = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
)
FLEET_BACK_OFF = BackOff(first=2.0, longest=20.0, spread=1.0)
"""For the many agents of a few controllers."""
_DOUBT_AFTER = 4
"""Failures in a row after which the certificate may be the reason."""


class Controller(msgspec.Struct, frozen=True, kw_only=True):
    """Where one controller is."""

    host: str
    """Name or IP address."""
    ads: int = ADS_PORT
    join: int = JOIN_PORT

    @property
    def target(self) -> str:
        """Return where its ADS is, as gRPC wants it."""
        return f"[{self.host}]:{self.ads}" if ":" in self.host else f"{self.host}:{self.ads}"


Controllers = Callable[[], Awaitable[Sequence[Controller]]]
"""Returns the controllers that are ready now; may raise PenstockError."""


class DialError(PenstockError):
    """There is nothing to connect to; the text says why."""


class Dialed(msgspec.Struct, frozen=True):
    """A channel that nothing was sent on yet."""

    target: str
    channel: grpc.aio.Channel


class Dialer(Protocol):
    """Finds what a client connects to, again for each session."""

    async def dial(self) -> Dialed:
        """Return a channel for the next session.

        Raises:
            PenstockError: there is nothing to connect to.
        """
        ...

    def ended(self, target: str, *, answered: bool) -> None:
        """Take that a session with *target* is over, and whether it had been served on it."""
        ...


class Credentials(Protocol):
    """What a node proves itself with, and what it trusts."""

    async def channel(self) -> grpc.ChannelCredentials:
        """Return what is good now; wait for the first certificate."""
        ...

    def doubt(self) -> None:
        """Take that controllers may not accept the certificate any more."""
        ...


class LocalDialer:
    """One server on this machine, on a socket that only its owner can open."""

    def __init__(self, target: str) -> None:
        """Connect to *target*, as "unix:/run/penstock/controller-ads.sock"."""
        self._target = target

    async def dial(self) -> Dialed:
        """See Dialer."""
        return Dialed(self._target, grpc.aio.insecure_channel(self._target, options=_OPTIONS))

    def ended(self, target: str, *, answered: bool) -> None:
        """See Dialer."""


class ControllersDialer:
    """Several controllers behind mutual TLS."""

    def __init__(
        self,
        controllers: Controllers,
        credentials: Credentials,
        random: Callable[[], float],
        *,
        server_name: str = CONTROLLER_NAME,
    ) -> None:
        """Connect to nothing yet.

        Args:
            controllers: asked before each session.
            credentials: of this node.
            random: returns numbers in [0, 1).
            server_name: what the certificate of each controller says.
        """
        self._controllers = controllers
        self._credentials = credentials
        self._random = random
        self._server_name = server_name
        self._last = ""
        self._failures = 0

    async def dial(self) -> Dialed:
        """See Dialer; another controller than the last time, if there is one."""
        found = [one.target for one in await self._controllers()]
        if not found:
            raise DialError(
                "no controller is ready; look at the Deployment penstock-controller and its log"
            )
        others = [one for one in found if one != self._last] or found
        target = self._last = others[int(self._random() * len(others))]
        credentials = await self._credentials.channel()
        return Dialed(target, secure_channel(target, credentials, self._server_name))

    def ended(self, target: str, *, answered: bool) -> None:
        """See Dialer."""
        del target
        self._failures = 0 if answered else self._failures + 1
        if self._failures and self._failures % _DOUBT_AFTER == 0:
            self._credentials.doubt()


def secure_channel(
    target: str, credentials: grpc.ChannelCredentials, server_name: str = CONTROLLER_NAME
) -> grpc.aio.Channel:
    """Return a channel to a controller whose certificate says *server_name*."""
    options = (*_OPTIONS, ("grpc.ssl_target_name_override", server_name))
    return grpc.aio.secure_channel(target, credentials, options=options)


def fixed_controllers(*addresses: Controller) -> Controllers:
    """Return controllers that are always the same."""

    async def controllers() -> Sequence[Controller]:
        return addresses

    return controllers


def read_bundle(path: Path) -> bytes:
    """Return the certificates to trust, as PEM.

    Raises:
        DialError: there are none.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DialError(
            f"the certificate authority cannot be read: {error}; controllers write it into the"
            " ConfigMap penstock-ca"
        ) from error
    if b"BEGIN CERTIFICATE" not in content:
        raise DialError(f"{path} holds no PEM certificate")
    return content
