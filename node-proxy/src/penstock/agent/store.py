"""The node's last-good resources, on disk: Envoy and the kernel are served without a controller.

The file is a log. Each record is one transaction, the changes of a moment that belong together:

    length (u32) | CRC-32 of the body (u32) | body (msgpack of `Transaction`)

A record that is cut or damaged ends the log when it is read: the state is that after the last
whole transaction, whatever byte a crash stopped at. The log is rewritten as one transaction when
most of it is outdated, so a change costs what it changes.

Secrets are stored only where files are in memory: then they are read back with the rest, and a key
that was replaced or taken away is written out of the file at once. Elsewhere they are left out, and
a restarted agent serves what needs them when the controller has sent them again.
"""

from __future__ import annotations

import asyncio
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import msgspec
import structlog
from google.protobuf import message

from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.runtime.files import sync_folder
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, read_resource
from penstock.xds.snapshot import Delta, Snapshot

HEADER = struct.Struct("<II")
MAGIC = b"penstock-log-1\n"
SLACK = 1 << 20
"""Bytes of outdated records that are always tolerated."""
RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Transaction(msgspec.Struct, frozen=True, array_like=True):
    """Changes that are read back together or not at all."""

    framed: tuple[bytes, ...]
    """Resources, each as a `resources` field of a DeltaDiscoveryResponse."""
    removed: tuple[ResourceName, ...]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Transaction)


def encode(transaction: Transaction) -> bytes:
    """Return the transaction as a record of the log."""
    body = _encoder.encode(transaction)
    return HEADER.pack(len(body), zlib.crc32(body)) + body


def decode(content: bytes) -> tuple[dict[ResourceName, Resource], int]:
    """Return the state after the last whole transaction and the number of bytes that made it.

    Anything is accepted: bytes that are not a log are an empty state and 0.
    """
    state: dict[ResourceName, Resource] = {}
    if not content.startswith(MAGIC):
        return state, 0
    at = len(MAGIC)
    while at + HEADER.size <= len(content):
        length, checksum = HEADER.unpack_from(content, at)
        body = content[at + HEADER.size : at + HEADER.size + length]
        if len(body) < length or zlib.crc32(body) != checksum:
            break
        try:
            transaction = _decoder.decode(body)
            resources = [parse_framed(frame) for frame in transaction.framed]
        except (msgspec.MsgspecError, message.DecodeError):
            break
        for key in transaction.removed:
            state.pop(key, None)
        state.update((resource.key, resource) for resource in resources)
        at += HEADER.size + length
    return state, at


def parse_framed(framed: bytes) -> Resource:
    """Return the resource whose `framed` is given."""
    return read_resource(discovery_pb2.DeltaDiscoveryResponse.FromString(framed).resources[0])


class NodeStore:
    """Resources in memory at once, on disk soon after: changes of a moment are one write."""

    def __init__(self, path: Path, *, secrets: bool = False) -> None:
        """Read what an earlier agent left at *path*; a damaged tail is cut off.

        Args:
            path: of the file.
            secrets: whether secrets may be in it.
        """
        self._path = path
        self._secrets = secrets
        content = path.read_bytes() if path.exists() else b""
        state, good = decode(content)
        if good < len(content):
            log.warning("node store cut", path=str(path), bytes=len(content), good=good)
        unwanted = [key for key in state if not self._is_stored(key)]
        for key in unwanted:
            del state[key]
        self.snapshot = Snapshot(state.values())
        self._pending: dict[ResourceName, Resource | None] = dict.fromkeys(unwanted)
        self._changed = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._rewrite = bool(unwanted)
        """Whether the file as it is must not stay."""
        if unwanted:
            self._written.clear()
            self._changed.set()
        self._live = sum(map(_cost, state.values()))
        self._size = good
        self._file = self._open(good)

    def apply(self, delta: Delta) -> Delta:
        """Take changes and return what really changed; durable after the next `flush`."""
        before = {
            key: self.snapshot.get(key.type_url, key.name)
            for key in (*delta.removals, *(resource.key for resource in delta.upserts))
        }
        changed = self.snapshot.apply(delta)
        for key in changed.removals:
            self._replace(key, before[key], None)
        for resource in changed.upserts:
            self._replace(resource.key, before[resource.key], resource)
        if self._pending:
            self._written.clear()
            self._changed.set()
        return changed

    def _is_stored(self, key: ResourceName) -> bool:
        return self._secrets or key.type_url != types.SECRET

    def _replace(self, key: ResourceName, old: Resource | None, new: Resource | None) -> None:
        if not self._is_stored(key):
            return
        if key.type_url == types.SECRET and old is not None:
            self._rewrite = True
        self._live += (_cost(new) if new else 0) - (_cost(old) if old else 0)
        self._pending[key] = new

    async def run(self) -> None:
        """Write changes as they come; on cancellation write what is left."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._write_pending()
        finally:
            if job := self._take():
                self._write(*job)

    async def _write_pending(self) -> None:
        pending = dict(self._pending)
        job = self._take()
        if job is None:
            return
        write = asyncio.create_task(asyncio.to_thread(self._write, *job))
        try:
            await asyncio.shield(write)
        except asyncio.CancelledError:
            await write
            raise
        except OSError as error:
            # The tail may be cut; only a new file is surely whole.
            log.error("node store not written; it is tried again", error=str(error))  # noqa: TRY400 - the text says it all
            self._rewrite = True
            self._pending = pending | self._pending
            self._changed.set()
            await asyncio.sleep(RETRY_SECONDS)
        if not self._pending:
            self._written.set()

    async def flush(self) -> None:
        """Return when all that was applied so far is durable; `run` must be running."""
        await self._written.wait()

    def close(self) -> None:
        """Close the file; `run` must have ended."""
        self._file.close()

    def _take(self) -> tuple[bytes, bool] | None:
        """Return the next record and whether it replaces the log."""
        if not self._pending:
            return None
        pending, self._pending = self._pending, {}
        if self._rewrite or self._size > 2 * self._live + SLACK:
            self._rewrite = False
            kept = (one for one in self.snapshot if self._is_stored(one.key))
            whole = Transaction(tuple(resource.framed for resource in kept), ())
            return MAGIC + encode(whole), True
        stored = tuple(resource.framed for resource in pending.values() if resource is not None)
        removed = tuple(key for key, resource in pending.items() if resource is None)
        return encode(Transaction(stored, removed)), False

    def _write(self, content: bytes, whole: bool) -> None:  # noqa: FBT001 - as `_take` returns it
        """Append *content*, or put it in place of the log; runs in a thread, one at a time."""
        if not whole:
            self._file.write(content)
            self._sync()
            self._size += len(content)
            return
        fresh = self._path.with_name(self._path.name + ".new")
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        old, self._file = self._file, os.fdopen(fd, "r+b")
        self._file.write(content)
        self._sync()
        fresh.replace(self._path)
        sync_folder(self._path.parent)
        self._size = len(content)
        old.close()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _open(self, good: int) -> BinaryIO:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, good)
        file = os.fdopen(fd, "r+b")
        file.seek(good)
        if good == 0:
            file.write(MAGIC)
            file.flush()
            self._size = len(MAGIC)
        return file


def _cost(resource: Resource) -> int:
    """Return about how many bytes the resource takes in the log."""
    return len(resource.framed) + 16
