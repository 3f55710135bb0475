"""Who may join as which node: by a token of a service account, or by one that was given out.

Source: Kubernetes, authentication.k8s.io/v1 TokenReview; the claims of a token that is bound to a
Pod name the Pod's node (extra `authentication.kubernetes.io/node-name`, Kubernetes 1.32).
"""

from __future__ import annotations

import hmac
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import msgspec

from penstock.controlplane.authority_store import Ask
from penstock.meta.names import NamespacedName
from penstock.sources.kubernetes.connection import Call, UnreachableError

NODE_NAME = "authentication.kubernetes.io/node-name"
SHORTEST_TOKEN = 16
"""Characters of a token that is given out."""
_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"


class JoinRefusedError(Exception):
    """Somebody does not get a certificate; the text is for them and for the log."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        """Answer *status* because of *reason*."""
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Tokens(Protocol):
    """Knows tokens."""

    async def holder(self, token: str, node: str) -> str:
        """Return who holds *token* and may be *node*.

        Raises:
            JoinRefusedError: nobody, or somebody else.
        """
        ...


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    extra: dict[str, tuple[str, ...]] = {}


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    audiences: tuple[str, ...] = ()
    user: _User = _User()


class _Review(msgspec.Struct, frozen=True):
    status: _Status = _Status()


class ReviewedTokens:
    """Tokens of one service account, judged by the API server."""

    def __init__(self, ask: Ask, account: NamespacedName, audience: str) -> None:
        """Take tokens of *account* that were made for *audience*."""
        self._ask = ask
        self._user = f"system:serviceaccount:{account.namespace}:{account.name}"
        self._audience = audience

    async def holder(self, token: str, node: str) -> str:
        """See Tokens."""
        status = await self._review(token)
        if not status.authenticated or self._audience not in status.audiences:
            raise JoinRefusedError(
                HTTPStatus.UNAUTHORIZED,
                f"the API server does not know this token for the audience {self._audience!r}",
            )
        if status.user.username != self._user:
            raise JoinRefusedError(
                HTTPStatus.FORBIDDEN, f"{status.user.username} is not {self._user}"
            )
        nodes = status.user.extra.get(NODE_NAME, ())
        if nodes != (node,):
            where = " and ".join(nodes) or "no node (Kubernetes before 1.32?)"
            raise JoinRefusedError(
                HTTPStatus.FORBIDDEN, f"the token is that of a Pod on {where}, not on {node}"
            )
        return status.user.username

    async def _review(self, token: str) -> _Status:
        spec = {"token": token, "audiences": [self._audience]}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        try:
            answer = await self._ask(Call("POST", _REVIEWS, body))
        except UnreachableError as error:
            raise JoinRefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"the token cannot be judged now: {error}"
            ) from error
        if answer.status != HTTPStatus.CREATED:
            said = answer.body.get("message", "")
            raise JoinRefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the token cannot be judged: {answer.status} {said}; may the controller create"
                " tokenreviews?",
            )
        try:
            return msgspec.convert(answer.body, _Review).status
        except msgspec.ValidationError as error:
            raise JoinRefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"the API server's TokenReview is odd: {error}"
            ) from error


class GivenToken:
    """One token for agents outside of Kubernetes, in a file that is read each time."""

    def __init__(self, file: Path) -> None:
        """Take the token in *file*, for any node."""
        self._file = file

    async def holder(self, token: str, node: str) -> str:  # noqa: ARG002  # the protocol's
        """See Tokens."""
        try:
            wanted = self._file.read_bytes().strip()
        except OSError as error:
            raise JoinRefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"the join token cannot be read: {error}"
            ) from error
        if len(wanted) < SHORTEST_TOKEN:
            raise JoinRefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the join token has less than {SHORTEST_TOKEN} characters; make a longer one",
            )
        if not hmac.compare_digest(wanted, token.encode()):
            raise JoinRefusedError(HTTPStatus.UNAUTHORIZED, "this is not the join token")
        return f"the token in {self._file.name}"


class EitherTokens:
    """Tokens of two sorts: those that are judged here first."""

    def __init__(self, first: Tokens, second: Tokens) -> None:
        """Ask *second* about what *first* does not know."""
        self._first = first
        self._second = second

    async def holder(self, token: str, node: str) -> str:
        """See Tokens."""
        try:
            return await self._first.holder(token, node)
        except JoinRefusedError:
            return await self._second.holder(token, node)
