"""Nodes that join, for tests of controllers on the network."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from penstock.ca.authority import Authority, Issued, read_request
from penstock.meta.node_identity import TRUST_DOMAIN
from penstock.runtime.clock import SystemClock
from penstock.xds.resource import Resource, ResourceName
from penstock.xds.snapshot import Delta, Snapshot


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Do *work* meanwhile; what it raises is raised."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class LateClock(SystemClock):
    """The machine's time and so many seconds more."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def now(self) -> float:
        return super().now() + self.seconds


class Memory:
    """What an agent keeps of its controller's resources."""

    def __init__(self) -> None:
        self.store = Snapshot()

    async def apply(
        self, type_url: str, upserts: Sequence[Resource], removals: Sequence[str]
    ) -> list[str]:
        gone = tuple(ResourceName(type_url, name) for name in removals)
        self.store.apply(Delta(tuple(upserts), gone))
        return []

    def versions(self, type_url: str) -> dict[str, str]:
        return {name: one.version for name, one in self.store.of_type(type_url).items()}


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def request_pem(key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType) -> bytes:
    """Return a signing request that asks for *extensions*."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def issue(
    authority: Authority, node: str, now: datetime, key: ec.EllipticCurvePrivateKey | None = None
) -> tuple[ec.EllipticCurvePrivateKey, Issued]:
    """Return a key and a certificate of *node*."""
    key = key or new_key()
    return key, authority.sign_node(read_request(request_pem(key)), node, TRUST_DOMAIN, now)
