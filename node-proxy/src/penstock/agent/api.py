"""The agent's HTTP API on a unix socket: for whoever starts pods, and for the command line.

| request | answer |
|---|---|
| `PUT /v1/pods/{uid}?timeout=20` | 200 when the pod is captured; 504 with the reason if not yet |
| `GET /v1/pods/{uid}` | 200; 503 with the reason while it is not captured; 404 if not known |
| `DELETE /v1/pods/{uid}?netns=PATH` | 200; 404 if it is not known, or not in that namespace |
| `GET /healthz` | 200: somebody is here |
| `GET /v1/status` | node, Envoy, controller, pods, resources by type, counters |
| `GET /v1/snapshot?type=Cluster` | what was intended, what Envoy runs, what it refused and why |
| `GET /v1/envoy/{path}` | Envoy's admin, reading only |
| `GET /v1/flows?last=20&follow=1` | flows as JSON, one on a line |

Errors are `{"error": "…"}`. There is no authentication but the socket's mode, 0600 in a 0700
folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import web

from penstock.agent.admin import READ_ONLY, AdminUnavailableError, EnvoyAdmin
from penstock.agent.flows import Flow, FlowLog
from penstock.agent.pods import PodError, PodNotCaptured, PodRequest, Pods
from penstock.runtime.sockets import private_socket

DEFAULT_TIMEOUT, LONGEST_TIMEOUT = 20.0, 300.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NodeView(Protocol):
    """What the agent says about itself; the answers are encoded as JSON."""

    def status(self) -> object:
        """Return the answer to GET /v1/status."""
        ...

    def snapshot(self, kind: str) -> object:
        """Return the resources of one type ("Cluster"), or of all for ""."""
        ...


class AgentApi:
    """The handlers and their socket."""

    def __init__(
        self,
        *,
        view: NodeView,
        pods: Pods,
        admin: EnvoyAdmin,
        flows: FlowLog,
        object_uid: Callable[[str], str] = lambda uid: uid,
    ) -> None:
        """Serve what the arguments know; *object_uid* see `penstock.agent.node.Node`."""
        self._object_uid = object_uid
        self._view = view
        self._pods = pods
        self._admin = admin
        self._flows = flows
        self._runner: web.AppRunner | None = None

    def application(self) -> web.Application:
        """Return the application; for tests without a socket."""
        app = web.Application(middlewares=[_errors])
        app.router.add_put("/v1/pods/{uid}", self._put_pod)
        app.router.add_get("/v1/pods/{uid}", self._get_pod)
        app.router.add_delete("/v1/pods/{uid}", self._delete_pod)
        app.router.add_get("/healthz", _alive)
        app.router.add_get("/v1/status", self._get_status)
        app.router.add_get("/v1/snapshot", self._get_snapshot)
        app.router.add_get("/v1/envoy/{path:.+}", self._get_envoy)
        app.router.add_get("/v1/flows", self._get_flows)
        return app

    async def start(self, path: Path) -> None:
        """Listen on the unix socket *path*, in the place of one that an earlier agent left."""
        listening = private_socket(path)
        self._runner = web.AppRunner(
            self.application(), access_log=None, shutdown_timeout=1.0, handler_cancellation=True
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listening).start()

    async def stop(self) -> None:
        """Close the socket and end the requests on it."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _put_pod(self, request: web.Request) -> web.StreamResponse:
        pod = msgspec.json.decode(await request.read(), type=PodRequest)
        uid = request.match_info["uid"]
        if pod.uid != uid:
            raise PodError(f"uid {pod.uid!r} in the body is not {uid!r} of the path")
        pod = msgspec.structs.replace(pod, uid=self._object_uid(uid))
        seconds = min(_number(request, "timeout", DEFAULT_TIMEOUT), LONGEST_TIMEOUT)
        await self._pods.register(pod, timeout=seconds)
        return _json({"uid": uid, "captured": True})

    async def _get_pod(self, request: web.Request) -> web.StreamResponse:
        uid = self._object_uid(request.match_info["uid"])
        if uid not in self._pods.registered():
            return _json({"error": f"pod {uid} is not registered"}, status=404)
        if reason := await self._pods.missing(uid):
            return _json({"error": f"pod {uid} is not captured: {reason}"}, status=503)
        return _json({"uid": uid, "captured": True})

    async def _delete_pod(self, request: web.Request) -> web.StreamResponse:
        uid = self._object_uid(request.match_info["uid"])
        if not await self._pods.unregister(uid, netns=request.query.get("netns")):
            return _json({"error": f"pod {uid} is not registered"}, status=404)
        return _json({"uid": uid, "captured": False})

    async def _get_status(self, _request: web.Request) -> web.StreamResponse:
        return _json(self._view.status())

    async def _get_snapshot(self, request: web.Request) -> web.StreamResponse:
        return _json(self._view.snapshot(request.query.get("type", "")))

    async def _get_envoy(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        if path not in READ_ONLY:
            known = ", ".join(sorted(READ_ONLY))
            return _json({"error": f"{path} is not one of: {known}"}, status=404)
        query = request.rel_url.raw_query_string
        answer = await self._admin.get(f"{path}?{query}" if query else path, timeout=30.0)
        headers = {"content-type": answer.content_type}
        return web.Response(status=answer.status, body=answer.body, headers=headers)

    async def _get_flows(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        last = int(_number(request, "last", 0 if "follow" in request.query else 100))
        follower = self._flows.follow() if request.query.get("follow", "0") != "0" else None
        try:
            await response.prepare(request)
            for flow in self._flows.last(last):
                await response.write(_line(flow))
            if follower is not None:
                with contextlib.suppress(ConnectionError):
                    async for flow in follower:
                        await response.write(_line(flow))
        finally:
            if follower is not None:
                self._flows.leave(follower)
        return response


async def _alive(_request: web.Request) -> web.StreamResponse:
    return web.Response(text="ok\n")


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a caller can cause into an answer."""
    try:
        return await handler(request)
    except PodNotCaptured as error:
        return _json({"error": str(error), "reason": error.reason}, status=504)
    except (PodError, msgspec.MsgspecError) as error:
        return _json({"error": str(error)}, status=400)
    except AdminUnavailableError as error:
        return _json({"error": str(error)}, status=502)
    except web.HTTPException as error:
        return _json({"error": error.reason}, status=error.status)


def _number(request: web.Request, name: str, default: float) -> float:
    text = request.query.get(name)
    try:
        return default if text is None else float(text)
    except ValueError:
        raise PodError(f"{name}={text!r} is not a number") from None


def _json(content: object, status: int = 200) -> web.Response:
    body = msgspec.json.encode(content) + b"\n"
    return web.Response(status=status, body=body, content_type="application/json")


def _line(flow: Flow) -> bytes:
    return msgspec.json.encode(flow) + b"\n"
