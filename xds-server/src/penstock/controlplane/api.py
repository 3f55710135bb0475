"""HTTP API of the controller for the command line, on a unix socket that only root can open."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from penstock.controlplane.acknowledgements import ResourceState
from penstock.controlplane.mistakes import mistakes
from penstock.controlplane.shown import shown_object
from penstock.controlplane.world import World
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from penstock.sources.source import Source, SourceProblem


def application(world: World, source: Source) -> web.Application:
    """Return the API over *world* and *source*."""
    api = _Api(world, source)
    app = web.Application()
    app.add_routes(
        [
            web.get("/v1/health", api.health),
            web.get("/v1/objects", api.objects),
            web.get("/v1/problems", api.problems),
            web.get("/v1/locate", api.locate),
            web.get("/v1/snapshot", api.snapshot),
        ]
    )
    return app


class _Api:
    def __init__(self, world: World, source: Source) -> None:
        self._world = world
        self._source = source

    async def health(self, _: web.Request) -> web.Response:
        world = self._world
        nodes = {
            name: {"connected": connected}
            for name, connected in world.acknowledgements.connected.items()
        }
        return web.json_response(
            {
                "synced": world.synced.is_set(),
                "objects": len(world.objects),
                "problems": len(self._problems()),
                "failures": sorted(world.compiler.failures),
                "nodes": nodes,
            }
        )

    async def objects(self, request: web.Request) -> web.Response:
        kind = request.query.get("kind", "")
        namespace = request.query.get("namespace", "")
        wanted = [
            (ref, thing)
            for ref, thing in sorted(self._world.objects.items())
            if kind in ("", ref.kind) and namespace in ("", ref.namespace)
        ]
        return web.json_response({"items": [self._object(*one) for one in wanted]})

    async def problems(self, _: web.Request) -> web.Response:
        return web.json_response({"items": [_problem(p) for p in self._problems()]})

    async def locate(self, request: web.Request) -> web.Response:
        query = request.query
        ref = ObjectRef(query.get("kind", ""), query.get("namespace", ""), query.get("name", ""))
        place = self._source.locate(ref, query.get("path", ""))
        if place is None:
            return web.json_response({"error": f"{ref} is in no file"}, status=404)
        return web.json_response({"file": place.file, "line": place.line})

    async def snapshot(self, request: web.Request) -> web.Response:
        node = request.query.get("node", "")
        connected = self._world.acknowledgements.connected
        if not node and len(connected) == 1:
            node = next(iter(connected))
        states = self._world.states(node)
        return web.json_response({"node": node, "resources": [_resource(one) for one in states]})

    def _problems(self) -> list[SourceProblem]:
        world, source = self._world, self._source
        objects = world.objects.values()
        return mistakes(source.problems(), objects, world.compiler.db, source.locate)

    def _object(self, ref: ObjectRef, thing: Object | Broken) -> dict[str, Any]:
        place = self._source.locate(ref, "")
        shown = shown_object(thing)
        shown["status"] = self._world.status(thing) or shown.get("status") or {}
        where = None if place is None else {"file": place.file, "line": place.line}
        return shown | {"location": where}


def _problem(one: SourceProblem) -> dict[str, Any]:
    ref = one.ref
    return {
        "file": one.location.file,
        "line": one.location.line,
        "column": one.location.column,
        "ref": None if ref is None else msgspec.to_builtins(ref),
        "path": one.problem.path,
        "message": one.problem.message,
        "hint": one.problem.hint,
        "severity": one.problem.severity.value,
        "lastGood": one.last_good,
    }


def _resource(state: ResourceState) -> dict[str, Any]:
    resource = state.resource
    return {
        "type_url": resource.type_url,
        "name": resource.name,
        "version": resource.version,
        "size": resource.body_size,
        "origins": [str(origin) for origin in resource.origins],
        "acked": state.acked,
        "rejected": state.rejected,
    }
