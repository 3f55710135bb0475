"""What this controller trusts and proves itself with, kept fresh while it runs."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime

import grpc
import structlog

from penstock.ca.authority import Authority, Serving, new_authority, utc
from penstock.controlplane.authority_store import AuthorityStore, StoreError
from penstock.meta.back_off import BackOff
from penstock.meta.clock import Clock
from penstock.meta.errors import PenstockError

LOOK_SECONDS = 60.0
"""Between two looks at what is kept."""
_BACK_OFF = BackOff(first=0.5, longest=15.0)
_log = structlog.get_logger("penstock.trust")


class Trust:
    """The authority, and our own certificate by it."""

    def __init__(
        self,
        store: AuthorityStore,
        clock: Clock,
        random: Callable[[], float],
        *,
        names: Sequence[str],
        trust_domain: str,
    ) -> None:
        """Know nothing before `run` has found it.

        Args:
            store: where the authority is kept.
            clock: tells what is due.
            random: returns numbers in [0, 1), for jitter.
            names: DNS names under which nodes meet this controller.
            trust_domain: of all certificates.
        """
        self._store = store
        self._clock = clock
        self._random = random
        self._names = tuple(names)
        self._trust_domain = trust_domain
        self._authority: Authority | None = None
        self._serving: Serving | None = None
        self._bundle = b""
        self._renewed = asyncio.Event()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.ready = asyncio.Event()
        """Set once there is a certificate."""

    @property
    def authority(self) -> Authority:
        """Return what signs; only once `ready` is set."""
        if self._authority is None:
            raise RuntimeError("asked before there is an authority")
        return self._authority

    @property
    def renew(self) -> datetime | None:
        """Return when our own certificate is replaced, None if there is none yet."""
        return None if self._serving is None else self._serving.renew

    @property
    def context(self) -> ssl.SSLContext:
        """Return how to serve TLS without asking for a certificate; it follows each renewal."""
        return self._context

    def credentials(self) -> grpc.ServerCredentials:
        """Return how to serve mutual TLS until `changed` returns; only once `ready` is set.

        gRPC can also ask for certificates at each handshake; with that, and 500 nodes that came at
        once, the process crashed inside gRPC 1.85.
        """
        if self._serving is None:
            raise RuntimeError("asked before there is a certificate")
        self._renewed.clear()
        pair = (self._serving.key, self._serving.certificate)
        return grpc.ssl_server_credentials([pair], self._bundle, require_client_auth=True)

    async def changed(self) -> None:
        """Return when `credentials` would be others than the last time."""
        await self._renewed.wait()

    async def run(self) -> None:
        """Keep everything fresh until cancelled."""
        failures = 0
        while True:
            try:
                await self._look()
                failures = 0
                pause = LOOK_SECONDS * (0.5 + self._random())
            except PenstockError as error:
                failures += 1
                pause = _BACK_OFF.pause(failures, self._random())
                known = "what is known stays" if self.ready.is_set() else "nodes are not served"
                _log.warning(f"no look at the certificate authority: {known}", reason=str(error))
            await self._clock.sleep(pause)

    async def _look(self) -> None:
        now = utc(self._clock.now())
        found = await self._store.read()
        if found is None:
            # One that somebody deleted is put back: nodes trust it.
            made = self._authority or new_authority(now)
            await self._store.create(made)
            found = await self._read_again()
        elif found.is_due(now):
            _log.info("the certificate authority gets another key and certificate")
            await self._store.replace(found.renewed(now))
            found = await self._read_again()
        await self._store.publish(found.certificates(now))
        self._adopt(found)

    async def _read_again(self) -> Authority:
        found = await self._store.read()
        if found is None:
            raise StoreError("what was just kept is gone; is somebody deleting it?")
        return found

    def _adopt(self, found: Authority) -> None:
        """Serve with a certificate by *found*, a new one if need be."""
        now = utc(self._clock.now())
        known = self._authority is not None and self._authority.keys() == found.keys()
        serving = self._serving
        if serving is None or not known or now >= serving.renew:
            serving = found.serving(self._names, self._trust_domain, now)
            _load(self._context, serving)
            _log.info("certificate of this controller", renew=str(serving.renew))
        bundle = found.certificates(now)
        if serving is not self._serving or bundle != self._bundle:
            self._renewed.set()
        self._authority, self._serving, self._bundle = found, serving, bundle
        self.ready.set()


def _load(context: ssl.SSLContext, serving: Serving) -> None:
    """Have *context* serve with a key that is never in a file system."""
    descriptor = os.memfd_create("penstock-serving", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, serving.key + serving.certificate)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
