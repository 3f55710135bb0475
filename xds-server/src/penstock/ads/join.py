"""How a node gets the certificate with which it talks to controllers, and keeps it fresh.

The node makes a key, and sends a signing request and a token that says who it is; a controller
answers with a certificate of a day. It is replaced when two thirds of its life are over, and before
that when controllers do not take it any more. The key is in memory, or, so that a restart needs no
controller, in a folder that only its owner may enter (on tmpfs: keys do not go to disks).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import aiohttp
import grpc
import msgspec
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from penstock.ads.dial import Controller, Controllers, read_bundle
from penstock.meta.back_off import BackOff
from penstock.meta.clock import Clock
from penstock.meta.errors import PenstockError
from penstock.meta.node_identity import CONTROLLER_NAME, JOIN_PATH

ANSWER_SECONDS = 20.0
LONGEST_ANSWER = 64 << 10
"""Bytes."""
JOIN_BACK_OFF = BackOff(first=2.0, longest=30.0, spread=1.0)
DOUBT_SECONDS = 30.0
"""How old a certificate must be before it is doubted."""
_RENEW_SHARE, _RENEW_SPREAD = 2 / 3, 0.1
_FILE = "node.pem"
_log = structlog.get_logger("penstock.join")


class JoinError(PenstockError):
    """There is no certificate for this node; the text says why."""


class JoinRequest(msgspec.Struct, frozen=True):
    """What a node sends; the token is in the header Authorization."""

    node: str
    csr: str
    """PEM."""


class JoinAnswer(msgspec.Struct, frozen=True):
    """What a controller answers."""

    certificate: str
    """PEM."""


class _Refusal(msgspec.Struct, frozen=True):
    error: str = ""


class NodeCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """A key and the certificate over it."""

    key: bytes
    """PEM."""
    certificate: bytes
    """PEM."""
    begins: datetime
    ends: datetime

    def __repr__(self) -> str:
        """Return text without the key."""
        return f"NodeCertificate(ends={self.ends})"


class JoinClient:
    """The credentials of one node, for as long as `run` runs; see `penstock.ads.dial`."""

    def __init__(
        self,
        node: str,
        *,
        ca_file: Path,
        token_file: Path,
        controllers: Controllers,
        clock: Clock,
        random: Callable[[], float],
        folder: Path | None = None,
        server_name: str = CONTROLLER_NAME,
        back_off: BackOff = JOIN_BACK_OFF,
    ) -> None:
        """Ask nobody yet.

        Args:
            node: name of this node.
            ca_file: certificates to trust, PEM; read again each time.
            token_file: says who we are; read again each time.
            controllers: asked before each attempt.
            clock: tells when a certificate is due.
            random: returns numbers in [0, 1), for jitter.
            folder: where key and certificate stay for the next process; None for memory only.
            server_name: what the certificate of each controller says.
            back_off: between attempts.
        """
        self._node = node
        self._ca_file = ca_file
        self._token_file = token_file
        self._controllers = controllers
        self._clock = clock
        self._random = random
        self._kept = None if folder is None else folder / _FILE
        self._server_name = server_name
        self._back_off = back_off
        self._held: NodeCertificate | None = None
        self._renew_at = float("-inf")
        """Wall clock in seconds."""
        self._taken_at = float("-inf")
        self._last = ""
        self._there = asyncio.Event()
        self._woken = asyncio.Event()

    @property
    def ends(self) -> datetime | None:
        """Return when the present certificate ends, None if there is none."""
        return None if self._held is None else self._held.ends

    async def channel(self) -> grpc.ChannelCredentials:
        """Return what is good now; wait for the first certificate.

        Raises:
            DialError: the file of the certificates to trust is not readable.
        """
        while (held := self._held) is None or not self._is_good(held):
            self._there.clear()
            self._woken.set()
            await self._there.wait()
        return grpc.ssl_channel_credentials(read_bundle(self._ca_file), held.key, held.certificate)

    def doubt(self) -> None:
        """Replace the certificate now, unless it is quite new."""
        if self._clock.monotonic() >= self._taken_at + DOUBT_SECONDS:
            self._renew_at = float("-inf")
            self._woken.set()

    async def run(self) -> None:
        """Keep a good certificate, until cancelled."""
        self._load()
        failures = 0
        while True:
            self._woken.clear()
            left = self._renew_at - self._clock.now()
            if left > 0:
                await self._rest(left)
                continue
            try:
                self._take(await self._join())
                failures = 0
            except PenstockError as error:
                failures += 1
                pause = self._back_off.pause(failures, self._random())
                _log.warning(
                    "this node got no certificate", node=self._node, reason=str(error),
                    good_until=str(self.ends or "there is none"), retry_in=round(pause, 1),
                )  # fmt: skip
                await self._clock.sleep(pause)

    async def _rest(self, seconds: float) -> None:
        timer = asyncio.create_task(self._clock.sleep(seconds))
        woken = asyncio.create_task(self._woken.wait())
        try:
            await asyncio.wait({timer, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            woken.cancel()

    async def _join(self) -> NodeCertificate:
        """Return a new certificate over a new key.

        Raises:
            PenstockError: nobody gives one.
        """
        context, token = self._trust(), self._token()
        controller = await self._next()
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        asked = JoinRequest(self._node, csr.public_bytes(Encoding.PEM).decode())
        body = await self._ask(controller, asked, token, context)
        try:
            answer = msgspec.json.decode(body, type=JoinAnswer)
            return _node_certificate(key, answer.certificate.encode())
        except (msgspec.MsgspecError, ValueError) as error:
            raise JoinError(
                f"{controller.host} gave no certificate for our key: {error}"
            ) from error

    async def _next(self) -> Controller:
        """Return a controller, another one than the last time if there is one."""
        found = await self._controllers()
        if not found:
            raise JoinError(
                "no controller is ready; look at the Deployment penstock-controller and its log"
            )
        others = [one for one in found if one.host != self._last] or found
        chosen = others[int(self._random() * len(others))]
        self._last = chosen.host
        return chosen

    async def _ask(
        self, controller: Controller, asked: JoinRequest, token: str, context: ssl.SSLContext
    ) -> bytes:
        host = f"[{controller.host}]" if ":" in controller.host else controller.host
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(
                    f"https://{host}:{controller.join}{JOIN_PATH}",
                    data=msgspec.json.encode(asked),
                    headers={"Authorization": f"Bearer {token}"},
                    ssl=context,
                    server_hostname=self._server_name,
                    allow_redirects=False,
                ) as response,
            ):
                body = await response.content.read(LONGEST_ANSWER)
                status = response.status
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise JoinError(f"no answer from {host}:{controller.join}: {reason}") from error
        if status != HTTPStatus.OK:
            raise JoinError(f"{host}:{controller.join} refuses: {_refusal(status, body)}")
        return body

    def _trust(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cadata=read_bundle(self._ca_file).decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise JoinError(f"{self._ca_file} holds no usable certificate: {error}") from error

    def _token(self) -> str:
        try:
            token = self._token_file.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise JoinError(f"the token of this node cannot be read: {error}") from error
        if not token:
            raise JoinError(f"the token of this node is missing: {self._token_file} is empty")
        return token

    def _load(self) -> None:
        """Take what an earlier process left, if it is still good for this node."""
        if self._kept is None:
            return
        with contextlib.suppress(OSError, ValueError, TypeError, x509.ExtensionNotFound):
            content = self._kept.read_bytes()
            key = load_pem_private_key(content, None)
            found = _node_certificate(key, content)
            if self._is_good(found) and self._is_ours(found):
                self._hold(found, found.begins.timestamp())
                _log.info(
                    "certificate of an earlier process", node=self._node, ends=str(found.ends)
                )

    def _take(self, found: NodeCertificate) -> None:
        """Use a new certificate.

        Raises:
            JoinError: it has ended already.
        """
        if not self._is_good(found):
            raise JoinError(f"the new certificate ended at {found.ends}; is our clock right?")
        self._taken_at = self._clock.monotonic()
        self._hold(found, self._clock.now())
        _log.info("certificate", node=self._node, ends=str(found.ends))
        if self._kept is not None:
            try:
                _keep(self._kept, found.key + found.certificate)
            except OSError as error:
                _log.warning("the certificate stays in memory only", reason=str(error))

    def _hold(self, found: NodeCertificate, begun: float) -> None:
        """Use a certificate that began at *begun* on our clock, which may not be the signer's."""
        self._held = found
        share = _RENEW_SHARE - _RENEW_SPREAD * self._random()
        self._renew_at = begun + (found.ends - found.begins).total_seconds() * share
        self._there.set()

    def _is_good(self, held: NodeCertificate) -> bool:
        return held.ends > datetime.fromtimestamp(self._clock.now(), UTC)

    def _is_ours(self, held: NodeCertificate) -> bool:
        certificate = x509.load_pem_x509_certificate(held.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        return any(uri.endswith(f"/penstock/node/{self._node}") for uri in uris)


def _node_certificate(key: object, pem: bytes) -> NodeCertificate:
    """Return *key* with the certificate in *pem*.

    Raises:
        ValueError: they do not belong together.
    """
    certificate = x509.load_pem_x509_certificate(pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != (
        key.public_key()
    ):
        raise ValueError("the certificate is over another key")
    return NodeCertificate(
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate=certificate.public_bytes(Encoding.PEM),
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
    )


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    beside.replace(path)


def _refusal(status: int, body: bytes) -> str:
    with contextlib.suppress(msgspec.MsgspecError):
        said = msgspec.json.decode(body, type=_Refusal).error
        return f"{status} {said}" if said else str(status)
    return str(status)
