"""HTTP over a unix socket, for the APIs of controller and agent.

Blocking and from the standard library alone: a command makes a few requests and ends.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
from typing_extensions import override

from penstock.meta.errors import PenstockError
from penstock.meta.paths import DEFAULT_RUN_DIR, RunPaths

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
_NOT_FOUND = 404
_SHOWN = 300


_IN_A_CLUSTER = {
    "agent": "kubectl -n penstock-system exec PENSTOCK-AGENT-POD -- penstock …, on each node",
}
"""Who is missing → what to do where no part of it runs on this machine."""


def _option(run_dir: Path) -> str:
    return "" if run_dir == DEFAULT_RUN_DIR else f" --run-dir {run_dir}"


class NotRunningError(PenstockError):
    """Nobody listens on the socket."""

    def __init__(self, what: str, socket_path: Path) -> None:
        """Name who is missing and how to start it."""
        run_dir = socket_path.parent
        super().__init__(
            f"no {what} runs in {run_dir}; start one: penstock up DIR{_option(run_dir)};"
            f" in a cluster: {_IN_A_CLUSTER.get(what, 'kubectl get, penstock check')}"
        )
        self.what, self.socket_path = what, socket_path


class ApiError(PenstockError):
    """The answer is an error, or is not what this version understands."""


class _Connection(http.client.HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost")
        self._path = path
        self._seconds = timeout

    @override
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._seconds)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise


class ApiClient:
    """One API; a connection for each request."""

    def __init__(self, path: Path, what: str) -> None:
        """Use the unix socket *path* of *what*, as "controller"."""
        self._path = path
        self._what = what

    def get(self, path: str, type_: type[T], query: dict[str, str] | None = None) -> T:
        """Return the decoded answer to GET *path*.

        Raises:
            NotRunningError: nobody listens.
            ApiError: the answer is an error or is not a *type_*.
        """
        body = self.fetch(path, query)
        if body is None:
            raise ApiError(f"the {self._what} knows no {path}; is it of another version?")
        return self._decode(body, type_)

    def find(self, path: str, type_: type[T], query: dict[str, str] | None = None) -> T | None:
        """Return the decoded answer to GET *path*, None if it is 404.

        Raises:
            NotRunningError: nobody listens.
            ApiError: the answer is another error or is not a *type_*.
        """
        body = self.fetch(path, query)
        return None if body is None else self._decode(body, type_)

    def fetch(self, path: str, query: dict[str, str] | None = None) -> bytes | None:
        """Return the body of the answer to GET *path*, None if it is 404.

        Raises:
            NotRunningError: nobody listens.
            ApiError: the answer is another error, or none came in time.
        """
        connection = _Connection(self._path, TIMEOUT_SECONDS)
        try:
            answer = self._ask(connection, path, query)
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"the {self._what} broke off its answer to {path}: {error}") from error
        finally:
            connection.close()
        if answer.status == _NOT_FOUND:
            return None
        self._check(answer.status, body, path)
        return body

    def lines(
        self, path: str, type_: type[T], query: dict[str, str], *, endless: bool
    ) -> Iterator[T]:
        """Yield each line of the answer to GET *path*, decoded, as it comes.

        Args:
            path: of the request.
            type_: of each line.
            query: of the request.
            endless: whether there may be any time between two lines.

        Raises:
            NotRunningError: nobody listens, or not any more.
            ApiError: the answer is an error, or a line is not a *type_*.
        """
        connection = _Connection(self._path, None if endless else TIMEOUT_SECONDS)
        try:
            answer = self._ask(connection, path, query)
            if answer.status != http.HTTPStatus.OK:
                self._check(answer.status, answer.read(), path)
            while line := answer.readline():
                yield self._decode(line, type_)
        except (OSError, http.client.HTTPException) as error:
            raise NotRunningError(self._what, self._path) from error
        finally:
            connection.close()

    def _ask(
        self, connection: _Connection, path: str, query: dict[str, str] | None
    ) -> http.client.HTTPResponse:
        try:
            connection.request("GET", f"{path}?{urlencode(query)}" if query else path)
        except (FileNotFoundError, ConnectionError) as error:
            raise NotRunningError(self._what, self._path) from error
        except PermissionError as error:
            raise ApiError(
                f"{self._path}: permission denied; run this as the user who ran `penstock up`"
            ) from error
        return connection.getresponse()

    def _check(self, status: int, body: bytes, path: str) -> None:
        if status == http.HTTPStatus.OK:
            return
        try:
            text = msgspec.json.decode(body, type=_Complaint).error
        except msgspec.MsgspecError:
            text = body[:_SHOWN].decode(errors="replace").strip()
        raise ApiError(f"the {self._what} answered {status} to {path}: {text}")

    def _decode(self, body: bytes, type_: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=type_)
        except msgspec.MsgspecError as error:
            raise ApiError(f"the {self._what} sent what this version cannot read: {error}") from (
                error
            )


class _Complaint(msgspec.Struct):
    error: str


def controller(paths: RunPaths) -> ApiClient:
    """Return the API of the controller of an instance."""
    return ApiClient(paths.controller_api, "controller")


def agent(paths: RunPaths) -> ApiClient:
    """Return the API of the agent of an instance."""
    return ApiClient(paths.agent_api, "agent")
