"""HTTPS by hand over unix sockets: server name, ALPN and Host are what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import warnings
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import h2.config
import h2.connection
import h2.events

from support.raw_http import Answer, Connection


class HandshakeRefusedError(Exception):
    """The server ended the connection before TLS was up."""


def client_context(alpn: Sequence[str] = (), only: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """Return a context that believes every certificate: tests compare what comes."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if only is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = only
        context.set_ciphers("DEFAULT@SECLEVEL=0")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class TlsConnection:
    """A connection after its handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._h1 = Connection(reader, writer)
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self._begun = False

    @property
    def tls(self) -> ssl.SSLObject:
        found = self._writer.get_extra_info("ssl_object")
        assert isinstance(found, ssl.SSLObject)
        return found

    @property
    def certificate(self) -> bytes:
        """The server's certificate, DER."""
        return self.tls.getpeercert(binary_form=True) or b""

    async def ask(self, host: str, path: str = "/") -> Answer:
        """Make a request in the protocol that was agreed on."""
        if self.tls.selected_alpn_protocol() == "h2":
            return await self._ask_h2(host, path)
        return await self._h1.ask(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())

    async def _ask_h2(self, host: str, path: str) -> Answer:
        if not self._begun:
            self._h2.initiate_connection()
            self._begun = True
        stream = self._h2.get_next_available_stream_id()
        head = [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", path)]
        self._h2.send_headers(stream, head, end_stream=True)
        headers: list[tuple[str, str]] = []
        body = b""
        while True:
            self._writer.write(self._h2.data_to_send())
            data = await self._reader.read(65536)
            if not data:
                return Answer(status=0)
            for event in self._h2.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    headers = [(str(name), str(value)) for name, value in event.headers or ()]
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data or b""
                elif isinstance(event, h2.events.StreamEnded) and event.stream_id == stream:
                    given = dict(headers)
                    rest = tuple(one for one in headers if not one[0].startswith(":"))
                    return Answer(status=int(given[":status"]), headers=rest, body=body.decode())


@contextlib.asynccontextmanager
async def tls_connection(
    at: Path, server_name: str, context: ssl.SSLContext | None = None
) -> AsyncGenerator[TlsConnection]:
    """Connect to a unix socket; no server name is sent if it is "".

    Raises:
        HandshakeRefusedError: the server closes, or sends an alert.
    """
    context = context or client_context()
    try:
        reader, writer = await asyncio.open_unix_connection(
            str(at), ssl=context, server_hostname=server_name
        )
    except (ssl.SSLError, ConnectionError) as error:
        raise HandshakeRefusedError(str(error)) from error
    try:
        yield TlsConnection(reader, writer)
    finally:
        writer.transport.abort()
