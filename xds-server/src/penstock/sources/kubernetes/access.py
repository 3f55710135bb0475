"""How to reach an API server and who to be there.

Source: Kubernetes documentation, "Organizing cluster access using kubeconfig files" and
"Authenticating", client-go credential plugins; client.authentication.k8s.io/v1 ExecCredential.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
import ssl
import tempfile
from collections.abc import Generator, Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from penstock.meta.clock import Clock
from penstock.meta.errors import PenstockError

TOKEN_SECONDS = 60.0
"""How long a token from a file counts before it is read again."""
EXEC_SECONDS = 60.0
"""How long a credential plugin may take."""
EXPIRY_MARGIN = 30.0
"""Seconds before its end at which a credential is replaced."""


class AccessError(PenstockError):
    """The API server cannot be reached as configured; the text says what to change."""


class Pem(msgspec.Struct, frozen=True):
    """Certificates or a key: a file, or its content."""

    path: Path | None = None
    content: bytes = b""

    def __bool__(self) -> bool:
        """Return whether there is one."""
        return self.path is not None or bool(self.content)

    def __repr__(self) -> str:
        """Return text without the content, which may be a key."""
        return f"Pem({str(self.path) if self.path else '…'})"


NO_PEM = Pem()


class ExecPlugin(msgspec.Struct, frozen=True):
    """A program that gives credentials."""

    command: str
    args: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    api_version: str = "client.authentication.k8s.io/v1"
    install_hint: str = ""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Address of an API server, how it proves itself, and how we do."""

    server: str
    """URL without a slash at the end."""
    authority: Pem = NO_PEM
    """CA of the server; without one the system's."""
    server_name: str = ""
    """Name that the certificate must carry, "" for the one in `server`."""
    insecure: bool = False
    certificate: Pem = NO_PEM
    key: Pem = NO_PEM
    token: str = ""
    token_file: Path | None = None
    user: str = ""
    password: str = ""
    plugin: ExecPlugin | None = None

    def __repr__(self) -> str:
        """Return text without secrets."""
        return f"Access({self.server})"


class _ExecStatus(msgspec.Struct, frozen=True, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _ExecCredential(msgspec.Struct, frozen=True):
    status: _ExecStatus


class Credentials:
    """What requests carry at present; read again when it is due or was refused."""

    def __init__(self, access: Access, clock: Clock, environment: Mapping[str, str]) -> None:
        """Read nothing yet; *environment* is what a credential plugin is started with."""
        self._access = access
        self._clock = clock
        self._environment = environment
        self._authorization = ""
        self._context: ssl.SSLContext | None = None
        self._due = float("-inf")
        """Wall clock in seconds."""
        self._turn = asyncio.Lock()

    def refuse(self) -> None:
        """Take that one side did not accept the other: read everything anew for the next request.

        Certificates are read again, too: they may have been replaced since.
        """
        self._due = float("-inf")
        self._context = None

    async def headers(self) -> dict[str, str]:
        """Return the headers that say who we are.

        Raises:
            AccessError: a file or the plugin does not give what it should.
        """
        await self._refresh()
        return {"Authorization": self._authorization} if self._authorization else {}

    async def context(self) -> ssl.SSLContext | None:
        """Return how to speak TLS, None for plain HTTP.

        Raises:
            AccessError: a certificate or key is not usable.
        """
        await self._refresh()
        return self._context

    async def _refresh(self) -> None:
        async with self._turn:
            if self._clock.now() < self._due:
                return
            access = self._access
            if access.plugin is not None:
                await self._ask(access.plugin)
            else:
                self._authorization = _authorization(access)
                if self._context is None:
                    self._context = _tls(access, access.certificate, access.key)
                self._due = self._clock.now() + TOKEN_SECONDS

    async def _ask(self, plugin: ExecPlugin) -> None:
        given = await _run(plugin, self._environment)
        certificate = Pem(content=given.client_certificate_data.encode())
        key = Pem(content=given.client_key_data.encode())
        self._authorization = f"Bearer {given.token}" if given.token else ""
        self._context = _tls(self._access, certificate, key)
        self._due = float("inf")
        if given.expiration_timestamp is not None:
            self._due = given.expiration_timestamp.timestamp() - EXPIRY_MARGIN


def _authorization(access: Access) -> str:
    if access.token_file is not None:
        try:
            return f"Bearer {access.token_file.read_text().strip()}"
        except OSError as error:
            raise AccessError(f"the token cannot be read: {error}") from error
    if access.token:
        return f"Bearer {access.token}"
    if access.user:
        pair = f"{access.user}:{access.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"
    return ""


def _tls(access: Access, certificate: Pem, key: Pem) -> ssl.SSLContext | None:
    if not access.server.startswith("https://"):
        return None
    try:
        context = ssl.create_default_context()
        if access.authority:
            context = ssl.create_default_context(cadata=_text(access.authority))
        if access.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate:
            with _as_file(certificate) as chain, _as_file(key or certificate) as private:
                context.load_cert_chain(chain, private)
    except (OSError, ValueError) as error:
        what = f"certificate or key for {access.server} cannot be used: {error}"
        raise AccessError(f"{what}; look at the cluster and user in the kubeconfig") from error
    return context


def _text(pem: Pem) -> str:
    return pem.path.read_text() if pem.path else pem.content.decode()


@contextlib.contextmanager
def _as_file(pem: Pem) -> Generator[Path]:
    """Yield a file with the content; a made one is gone afterwards."""
    if pem.path is not None:
        yield pem.path
        return
    handle, name = tempfile.mkstemp()
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem.content)
        yield Path(name)
    finally:
        Path(name).unlink()


async def _run(plugin: ExecPlugin, environment: Mapping[str, str]) -> _ExecStatus:
    """Return what a credential plugin gives.

    Raises:
        AccessError: it is missing, fails, or says something else.
    """
    asked = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": {}}
    asked["spec"] = {"interactive": False}
    info = msgspec.json.encode(asked).decode()
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command,
            *plugin.args,
            env={**environment, **dict(plugin.environment), "KUBERNETES_EXEC_INFO": info},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        hint = plugin.install_hint or "install it, or change the user in the kubeconfig"
        raise AccessError(f"credential plugin {plugin.command}: {error}; {hint}") from error
    try:
        async with asyncio.timeout(EXEC_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise AccessError(f"credential plugin {plugin.command} takes too long") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise AccessError(f"credential plugin {plugin.command} ended with {process.returncode}")
    try:
        return msgspec.json.decode(output, type=_ExecCredential).status
    except msgspec.MsgspecError as error:
        cause = f"credential plugin {plugin.command} gave no ExecCredential"
        raise AccessError(f"{cause}: {error}") from error


def decode_base64(text: str, what: str) -> bytes:
    """Return the bytes of *text*.

    Raises:
        AccessError: it is not base64.
    """
    try:
        return base64.b64decode(text, validate=False)
    except binascii.Error as error:
        raise AccessError(f"{what} is not base64: {error}") from error
