"""When `penstock up` calls itself ready, and what it says then."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from penstock.cli import client
from penstock.cli.answers import Health, IntendedSnapshot, Items, conditions_of
from penstock.cli.mode import Mode
from penstock.cli.reach import Reachable, reachable, scheme_at
from penstock.cli.report import Report
from penstock.lab.runtime import Lab
from penstock.meta.errors import PenstockError
from penstock.meta.paths import DEFAULT_RUN_DIR, RunPaths
from penstock.status.data_plane import DATA_PLANE_ACKED
from penstock.xds import types

_LOOK_SECONDS = 0.1
_PATIENCE_SECONDS = 15.0
_ENDPOINTS_SECONDS = 5.0
"""No longer: what is refused or slow to warm must not keep `up` from being ready."""


async def wait_until_ready(paths: RunPaths, lab: Lab | None, report: Report) -> None:
    """Return when pods are ready and Gateways are programmed; tell what is waited for."""
    await _patiently(_controller_synced(paths), "the controller", paths, report)
    await _patiently(_agent_answers(paths), "the agent and Envoy", paths, report)
    report.did("controller, agent, Envoy", "serve")
    if lab is not None:
        await _patiently(lab.wait_settled(), "pods", paths, report, _unready(lab))
        report.did("pods", f"{len(lab.status())} run and are ready")
        await _patiently(_endpoints_served(paths), "endpoints to arrive", paths, report)
    await _patiently(_gateways_programmed(paths), "Gateways", paths, report)


def _unready(lab: Lab) -> Callable[[], str]:
    """Return a function that says which pods are not ready, and why."""

    def text() -> str:
        waiting = [pod for pod in lab.status() if not pod.is_ready_or_done]
        named = [f"{p.namespace}/{p.name}: {p.reason or p.phase} {p.message}" for p in waiting]
        return "; ".join(one.strip() for one in named)

    return text


async def _patiently(
    condition: Any,
    what: str,
    paths: RunPaths,
    report: Report,
    detail: Callable[[], str] = str,
) -> None:
    """Wait for *condition*; say now and then that it takes long, and what *detail* knows."""
    waiting = asyncio.ensure_future(condition)
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=_PATIENCE_SECONDS)
            if done:
                waiting.result()
                return
            report.notes(f"still waiting for {what}", detail() or _advice(paths))
    finally:
        waiting.cancel()


def _advice(paths: RunPaths) -> str:
    return f"`penstock status{run_dir_option(paths)}` tells more; logs are in {paths.logs}"


async def _until(check: Any) -> None:
    """Return when *check* returns True; one that cannot answer yet is asked again."""
    while True:
        try:
            if await asyncio.to_thread(check):
                return
        except PenstockError:
            pass
        await asyncio.sleep(_LOOK_SECONDS)


async def _controller_synced(paths: RunPaths) -> None:
    await _until(lambda: client.controller(paths).get("/v1/health", Health).synced)


async def _agent_answers(paths: RunPaths) -> None:
    def envoy_connected() -> bool:
        return bool(client.agent(paths).get("/v1/status", dict[str, Any]).get("envoy_connected"))

    await _until(envoy_connected)


async def _gateways_programmed(paths: RunPaths) -> None:
    await _until(lambda: all(map(_settled, _gateways(paths))))


def _gateways(paths: RunPaths) -> list[dict[str, Any]]:
    return client.controller(paths).get("/v1/objects", Items, {"kind": "Gateway"}).items


async def _endpoints_served(paths: RunPaths) -> None:
    """Return when the node knows the pods that are ready, so that a first request finds them."""

    def arrived() -> bool:
        api = client.controller(paths)
        known = api.get("/v1/objects", Items, {"kind": "EndpointSlice"}).items
        if not _written_endpoints(paths) <= set(map(_endpoints_of, known)):
            return False
        return all(
            one.version in (one.acked, one.rejected)
            for one in api.get("/v1/snapshot", IntendedSnapshot).resources
            if one.type_url != types.LISTENER  # those of pods that are not run stay with the agent
        )

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_until(arrived), _ENDPOINTS_SECONDS)


def _written_endpoints(paths: RunPaths) -> set[bytes]:
    """Return the endpoints of each EndpointSlice that the lab has written."""
    files = paths.objects.glob("endpointslice.*.json")
    return {_endpoints_of(msgspec.json.decode(file.read_bytes())) for file in files}


def _endpoints_of(endpoint_slice: dict[str, Any]) -> bytes:
    """Return what tells two states of EndpointSlices apart: name, addresses, readiness."""
    meta = endpoint_slice["metadata"]
    found = [
        (*one["addresses"], (one.get("conditions") or {}).get("ready"))
        for one in endpoint_slice.get("endpoints") or []
    ]
    return msgspec.json.encode((meta.get("namespace"), meta["name"], found))


def _settled(gateway: dict[str, Any]) -> bool:
    """Tell whether there is nothing to wait for: it is programmed, or it never will be."""
    found = conditions_of(gateway.get("status") or {})
    programmed, acked = found.get("Programmed"), found.get(DATA_PLANE_ACKED)
    refused = acked is not None and acked.status == "False"
    waits = programmed is not None and programmed.reason == "Pending"
    return refused or not waits


def announce(paths: RunPaths, folder: Path, mode: Mode, report: Report) -> None:
    """Say where Gateways are and what to do next."""
    try:
        open_ports, written = reachable(client.agent(paths)), _gateways(paths)
    except PenstockError:
        open_ports, written = [], []
    named = {
        f"{one['metadata'].get('namespace', '')}/{one['metadata']['name']}": one for one in written
    }
    for one in open_ports:
        scheme = scheme_at(named.get(one.gateway, {}), one.port)
        report.did("Gateway", f"{one.gateway}  {_address(one, scheme)}")
    report.did("ready", "Ctrl-C ends and removes everything")
    report.plain(["next:", *(f"  {line}" for line in hints(paths, folder, mode))])


def _address(one: Reachable, scheme: str) -> str:
    if one.local:
        return f"{scheme}://{one.local}/  (port {one.port})"
    return f"port {one.port}: another Gateway has this port of the machine"


def hints(paths: RunPaths, folder: Path, mode: Mode) -> list[str]:
    """Return three commands that are worth trying now."""
    option = run_dir_option(paths)
    first = f"penstock status{option}"
    if mode.full:
        return [
            first,
            f"penstock get pods{option}   then   penstock exec{option} POD -- curl -s http://SERVICE/",
            f"penstock observe -f{option}   and change a file in {folder}",
        ]
    return [first, f"penstock get httproutes{option}", f"penstock proxy routes{option}"]


def run_dir_option(paths: RunPaths) -> str:
    """Return the option that other commands need to find this instance, with a space before."""
    return "" if paths.root == DEFAULT_RUN_DIR else f" --run-dir {paths.root}"
