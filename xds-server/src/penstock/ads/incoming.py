"""What a client sends on its stream, one message at a time, held only while it is looked at.

A client that comes back names all that it has: some megabytes, in a message that many clients send
at once and that is of no use once it is read. So nothing here, and no variable of a frame that
lives as long as the stream, keeps a message; gRPC's iterator of requests keeps the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import grpc.aio

from penstock.ads.peers import Context

M = TypeVar("M")


class Incoming(Generic[M]):
    """The messages of one stream."""

    def __init__(self, context: Context, decode: Callable[[bytes], M]) -> None:
        """Read what comes on the stream of *context*, with *decode*."""
        self._context, self._decode = context, decode
        self._peeked: list[M] = []

    async def peek(self) -> M | None:
        """Return the message that `next` returns next; None at the end.

        Raises:
            google.protobuf.message.DecodeError: it is no such message.
        """
        if not self._peeked and (message := await self._read()) is not None:
            self._peeked.append(message)
        return self._peeked[0] if self._peeked else None

    async def next(self) -> M | None:
        """Return one more message; None at the end.

        Raises:
            google.protobuf.message.DecodeError: it is no such message.
        """
        return self._peeked.pop() if self._peeked else await self._read()

    async def _read(self) -> M | None:
        payload = await self._context.read()
        return None if payload is grpc.aio.EOF else self._decode(payload)
