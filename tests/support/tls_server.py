"""A server with TLS that wants certificates of its clients."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path

from aiohttp import web

from support.http_backend import serving
from support.pki import Issued, issue

NAME = "web.internal"
"""Whose certificate it has."""


@contextlib.asynccontextmanager
async def strict_server(
    folder: Path,
) -> AsyncGenerator[tuple[tuple[str, int], Issued, list[str]]]:
    """Run a server that lets in clients of its own authority only.

    Yields its address and port, the authority, and a list of whose certificates it saw.
    """
    authority, seen = issue("authority"), list[str]()
    own = issue(NAME, by=authority)
    file = folder / "strict.pem"
    file.write_text(own.pem + own.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(file)

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        subject = request.transport.get_extra_info("peercert")["subject"]
        seen.append(dict(pair for (pair,) in subject)["commonName"])
        return web.Response(text="secret")

    async with serving(answer, tls=context) as place:
        yield place, authority, seen
