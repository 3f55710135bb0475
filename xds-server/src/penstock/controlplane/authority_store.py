"""Where the certificate authority is kept: a Secret of the cluster, or a folder.

Any replica makes it if it is absent; whoever is later reads what the first one made. The
certificates alone are published for agents, in the ConfigMap of the same name or as ca.crt.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from penstock.ca.authority import Authority, AuthorityError, read_authority
from penstock.meta.errors import PenstockError
from penstock.meta.names import NamespacedName
from penstock.runtime.files import replace_file
from penstock.sources.kubernetes.connection import Answer, Call
from penstock.sources.kubernetes.requests import object_target

NAME = "penstock-ca"
BUNDLE_KEY = "ca.crt"
_CERTIFICATES, _KEYS = "tls.crt", "tls.key"
_LABELS = {"app.kubernetes.io/name": "penstock", "app.kubernetes.io/managed-by": "penstock"}

Ask = Callable[[Call], Awaitable[Answer]]
"""Makes one request to the API server; raises UnreachableError."""


class StoreError(PenstockError):
    """The authority cannot be read or kept; the text says what to allow or mend."""


class AuthorityStore(Protocol):
    """One place; all methods raise PenstockError if it does not let us."""

    async def read(self) -> Authority | None:
        """Return what is kept, None if there is nothing."""
        ...

    async def create(self, authority: Authority) -> None:
        """Keep *authority* if nothing is kept."""
        ...

    async def replace(self, authority: Authority) -> None:
        """Keep *authority* in the place of the one that was read last, unless that has changed."""
        ...

    async def publish(self, certificates: bytes) -> None:
        """Let everybody read what is to be trusted."""
        ...


class ClusterStore:
    """A Secret and a ConfigMap in one namespace."""

    def __init__(self, ask: Ask, namespace: str) -> None:
        """Keep both in *namespace*."""
        self._ask = ask
        self._name = NamespacedName(namespace, NAME)
        self._secret: dict[str, Any] = {}

    async def read(self) -> Authority | None:
        """See AuthorityStore."""
        found = await self._get("Secret")
        self._secret = found or {}
        if found is None:
            return None
        try:
            data = found.get("data") or {}
            parts = [base64.b64decode(data.get(key) or "") for key in (_CERTIFICATES, _KEYS)]
            return read_authority(*parts)
        except (AuthorityError, binascii.Error, TypeError) as error:
            raise StoreError(
                f"Secret {self._name} is no certificate authority: {error}; restore it, or delete"
                " it to have a new one made"
            ) from error

    async def create(self, authority: Authority) -> None:
        """See AuthorityStore."""
        body = self._new("Secret") | {"type": "Opaque", "data": _data(authority)}
        await self._post("Secret", body)

    async def replace(self, authority: Authority) -> None:
        """See AuthorityStore."""
        body = {**self._secret, "data": _data(authority)}
        await self._put("Secret", body)

    async def publish(self, certificates: bytes) -> None:
        """See AuthorityStore; written only if it says something else."""
        data = {BUNDLE_KEY: certificates.decode()}
        found = await self._get("ConfigMap")
        if found is None:
            await self._post("ConfigMap", self._new("ConfigMap") | {"data": data})
        elif (found.get("data") or {}) != data:
            await self._put("ConfigMap", {**found, "data": data})

    async def _get(self, kind: str) -> dict[str, Any] | None:
        answer = await self._ask(Call("GET", self._target(kind)))
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        self._expect(kind, "get", answer, HTTPStatus.OK)
        return answer.body

    async def _post(self, kind: str, body: dict[str, Any]) -> None:
        target = self._target(kind).rpartition("/")[0]
        answer = await self._ask(Call("POST", target, body))
        self._expect(kind, "create", answer, HTTPStatus.CREATED, HTTPStatus.CONFLICT)

    async def _put(self, kind: str, body: dict[str, Any]) -> None:
        answer = await self._ask(Call("PUT", self._target(kind), body))
        self._expect(kind, "update", answer, HTTPStatus.OK, HTTPStatus.CONFLICT)

    def _expect(self, kind: str, verb: str, answer: Answer, *good: int) -> None:
        """Take an answer; a conflict means that another replica was first, which is as good.

        Raises:
            StoreError: it is another one.
        """
        if answer.status not in good:
            said = answer.body.get("message", "")
            raise StoreError(
                f"cannot {verb} {kind} {self._name}: {answer.status} {said}; allow get, create and"
                " update there by RBAC"
            )

    def _target(self, kind: str) -> str:
        return object_target("v1", kind, self._name)

    def _new(self, kind: str) -> dict[str, Any]:
        metadata = {"namespace": self._name.namespace, "name": self._name.name, "labels": _LABELS}
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


class FolderStore:
    """`ca.pem` (keys, certificates; 0600) and `ca.crt` in a folder that only its owner enters."""

    def __init__(self, folder: Path) -> None:
        """Keep both in *folder*, which should be on tmpfs: the key need not be on a disk."""
        self._folder = folder
        self._file = folder / "ca.pem"

    async def read(self) -> Authority | None:
        """See AuthorityStore."""
        try:
            content = self._file.read_bytes()
            return read_authority(content, content)
        except FileNotFoundError:
            return None
        except (OSError, AuthorityError) as error:
            raise StoreError(f"{self._file} is no certificate authority: {error}") from error

    async def create(self, authority: Authority) -> None:
        """See AuthorityStore."""
        beside = self._folder / f".ca.{secrets.token_hex(8)}"
        with self._told():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            try:
                replace_file(beside, authority.keys() + authority.every_certificate())
                with contextlib.suppress(FileExistsError):
                    os.link(beside, self._file)
            finally:
                beside.unlink(missing_ok=True)

    async def replace(self, authority: Authority) -> None:
        """See AuthorityStore."""
        with self._told():
            replace_file(self._file, authority.keys() + authority.every_certificate())

    async def publish(self, certificates: bytes) -> None:
        """See AuthorityStore."""
        file = self._folder / BUNDLE_KEY
        with self._told():
            if not file.exists() or file.read_bytes() != certificates:
                replace_file(file, certificates, mode=0o644)

    @contextlib.contextmanager
    def _told(self) -> Any:
        try:
            yield
        except OSError as error:
            raise StoreError(f"the authority cannot be kept in {self._folder}: {error}") from error


def _data(authority: Authority) -> dict[str, str]:
    parts = {_CERTIFICATES: authority.every_certificate(), _KEYS: authority.keys()}
    return {key: base64.b64encode(part).decode() for key, part in parts.items()}
