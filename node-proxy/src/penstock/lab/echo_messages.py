"""What the echo server reads and answers, whatever the version of HTTP. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

import msgspec

_STATUS = re.compile(r"/status/([1-9][0-9]{2})(?:[/?]|\Z)")
_DELAY = re.compile(r"/delay/([0-9]{1,5})(?:[/?]|\Z)")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came."""

    method: str
    path: str
    host: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case."""
    body_bytes: int
    protocol: str


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """An answer; both protocols add their own framing."""

    status: int
    body: bytes
    delay: float
    """Seconds to wait first."""


class Whoami(msgspec.Struct, frozen=True, kw_only=True):
    """What this server says about itself."""

    pod: str
    namespace: str
    service: str
    version: str

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Whoami:
        """Return what the environment says."""
        return cls(
            pod=env.get("POD_NAME") or env.get("HOSTNAME", ""),
            namespace=env.get("POD_NAMESPACE", ""),
            service=env.get("SERVICE", ""),
            version=env.get("VERSION", ""),
        )


def respond(request: Request, me: Whoami, remote: str) -> Response:
    """Return the answer to *request* from the address *remote*."""
    headers: dict[str, str] = {}
    for name, value in request.headers:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    body = {
        **msgspec.structs.asdict(me),
        "method": request.method,
        "path": request.path,
        "host": request.host,
        "protocol": request.protocol,
        "remote": remote,
        "body_bytes": request.body_bytes,
        "headers": headers,
    }
    status = _STATUS.match(request.path)
    delay = _DELAY.match(request.path)
    return Response(
        status=int(status[1]) if status else 200,
        body=msgspec.json.encode(body) + b"\n",
        delay=int(delay[1]) / 1000 if delay else 0.0,
    )


class Codec(Protocol):
    """One connection's protocol: bytes in, requests out, responses in, bytes out."""

    def receive(self, data: bytes) -> list[tuple[int, Request]]:
        """Return requests that *data* completed, each with a number for its response.

        Raises:
            ValueError: the peer broke the protocol; `take_output` may hold a last word.
        """
        ...

    def send(self, number: int, response: Response, *, last: bool) -> None:
        """Answer a request; *last* asks the peer to end the connection."""
        ...

    def take_output(self) -> bytes:
        """Return bytes to be sent now."""
        ...

    @property
    def closing(self) -> bool:
        """Return whether the connection ends when the output is sent."""
        ...
