"""Tell the node's agent about pods: a pod's commands start only after the agent captured it."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Protocol

import aiohttp
import msgspec

from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths

_SECONDS = 30.0


class AgentUnavailableError(PenstockError):
    """The agent does not answer, or could not capture a pod."""


class PodNotCapturedError(AgentUnavailableError):
    """The agent answers, and something that polices the pod is not there yet."""


class PodRegistration(msgspec.Struct, frozen=True, kw_only=True):
    """A pod of this node, as `PUT /v1/pods/{uid}` tells it."""

    uid: str
    namespace: str
    name: str
    netns: str
    """Relative to the run folder."""
    cgroup: str
    """Absolute path."""
    addresses: Sequence[str]


class AgentClient(Protocol):
    """What the lab asks of the agent; both calls may be repeated."""

    async def put_pod(self, pod: PodRegistration) -> None:
        """Return when the pod is captured: its first packet will be policed.

        Raises:
            AgentUnavailableError: it is not; ask again.
        """
        ...

    async def delete_pod(self, uid: str) -> None:
        """Return when the agent has let go of the pod's network namespace.

        Raises:
            AgentUnavailableError: it has not; ask again.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class HttpAgentClient:
    """The agent's HTTP API on the unix socket in the run folder."""

    def __init__(self, paths: RunPaths) -> None:
        """Use the agent of one run folder; connects with the first call."""
        self._socket = str(paths.agent_api)
        self._session: aiohttp.ClientSession | None = None

    async def put_pod(self, pod: PodRegistration) -> None:
        """Register a pod; see `AgentClient`.

        Raises:
            AgentUnavailableError: it did not answer 200.
        """
        await self._call("PUT", pod.uid, msgspec.json.encode(pod))

    async def delete_pod(self, uid: str) -> None:
        """Let a pod go; see `AgentClient`.

        Raises:
            AgentUnavailableError: it did not answer 200, 204 or 404.
        """
        await self._call("DELETE", uid, None)

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(self, method: str, uid: str, body: bytes | None) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=self._socket),
                timeout=aiohttp.ClientTimeout(total=_SECONDS),
            )
        url = f"http://agent/v1/pods/{uid}"
        headers = {"content-type": "application/json"} if body is not None else {}
        try:
            async with self._session.request(method, url, data=body, headers=headers) as answer:
                text = (await answer.text())[:500]
                gone = method == "DELETE" and answer.status == HTTPStatus.NOT_FOUND
                if answer.status not in (200, 204) and not gone:
                    raise _refusal(answer.status, method, text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AgentUnavailableError(
                f"no answer from the agent on {self._socket}: {_cause(error)}; "
                "its log is logs/agent.log in the run folder"
            ) from error


def _cause(error: Exception) -> str:
    """Return in a few words why there was no answer."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or type(error.os_error).__name__
    if isinstance(error, TimeoutError):
        return f"not in {_SECONDS:g} s"
    return str(error) or type(error).__name__


def _refusal(status: int, method: str, text: str) -> AgentUnavailableError:
    """Return the error for an answer that is not success. Source: penstock.agent.api."""
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return PodNotCapturedError(text)
    return AgentUnavailableError(f"agent answered {status} to {method}: {text}")
