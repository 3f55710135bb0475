"""`penstock status`: the instance on one page."""

from __future__ import annotations

from typing import Any

from penstock.cli import client
from penstock.cli.answers import Health, Items, Problems
from penstock.cli.client import NotRunningError
from penstock.cli.formats import Format
from penstock.cli.output import say, show_pairs, show_table, show_value
from penstock.cli.processes import Processes, read_processes
from penstock.cli.reach import Reachable, reachable, scheme_at
from penstock.lab.state import NoLabError, PodRecord, read_state
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths
from penstock.runtime.processes import ProcessId

Json = dict[str, Any]


def status(paths: RunPaths, form: Format) -> int:
    """Show the state of the instance; return 0 if everything runs, else 1.

    Raises:
        NotRunningError: there is no instance.
    """
    processes = read_processes(paths)
    if processes is None:
        raise NotRunningError("instance", paths.controller_api)
    page = page_of(paths, processes)
    if form in (Format.JSON, Format.YAML):
        show_value(page, form)
    else:
        _show(page)
    parts = [page[name]["running"] for name in ("up", "controller", "agent", "envoy")]
    return 0 if all(parts) else 1


def page_of(paths: RunPaths, processes: Processes) -> Json:
    """Return everything that is known; keys are the same whatever runs."""
    agent_status = _agent(paths)
    envoy = agent_status.get("envoy") or {}
    return {
        "runDir": str(paths.root),
        "folder": processes.folder,
        "mode": processes.mode,
        "up": _process(processes.up),
        "controller": _process(processes.controller) | _controller(paths),
        "agent": _process(processes.agent) | {"node": agent_status.get("node", "")},
        "envoy": {
            "running": envoy.get("pid") is not None,
            "pid": envoy.get("pid") or 0,
            "state": envoy.get("state", "unknown"),
            "restarts": envoy.get("restarts", 0),
        },
        "pods": [_pod(one) for one in _pods(paths)],
        "gateways": _gateways(paths),
        "problems": _problems(paths),
    }


def _process(process: ProcessId | None) -> Json:
    alive = process is not None and process.alive
    return {"running": alive, "pid": process.pid if process is not None and alive else 0}


def _controller(paths: RunPaths) -> Json:
    try:
        health = client.controller(paths).get("/v1/health", Health)
    except PenstockError:
        return {"synced": False, "objects": 0}
    return {"synced": health.synced, "objects": health.objects}


def _agent(paths: RunPaths) -> Json:
    try:
        return client.agent(paths).get("/v1/status", dict[str, Any])
    except PenstockError:
        return {}


def _pods(paths: RunPaths) -> tuple[PodRecord, ...]:
    try:
        return read_state(paths).pods
    except NoLabError:
        return ()


def _pod(pod: PodRecord) -> Json:
    first = next((one for one in pod.containers if one.process is not None), None)
    return {
        "namespace": pod.namespace,
        "name": pod.name,
        "uid": pod.uid,
        "phase": pod.phase,
        "ready": pod.ready,
        "restarts": pod.restarts,
        "reason": pod.reason,
        "message": pod.message,
        "addresses": list(pod.addresses),
        "pid": first.process.pid if first is not None and first.process is not None else 0,
    }


def _gateways(paths: RunPaths) -> list[Json]:
    """Return the Gateways with what their conditions and Envoy's listeners say."""
    try:
        items = client.controller(paths).get("/v1/objects", Items, {"kind": "Gateway"}).items
    except PenstockError:
        items = []
    try:
        open_ports = reachable(client.agent(paths))
    except PenstockError:
        open_ports = []
    return [_gateway(item, open_ports) for item in items]


def _gateway(item: Json, open_ports: list[Reachable]) -> Json:
    namespace, name = item["metadata"].get("namespace", ""), item["metadata"]["name"]
    found = [one for one in open_ports if one.gateway == f"{namespace}/{name}"]
    places = [one.local or one.addresses[0] for one in found]
    return {
        "namespace": namespace,
        "name": name,
        "programmed": _programmed(item),
        "reachable": places,
        "urls": [
            f"{scheme_at(item, one.port)}://{at}/" for one, at in zip(found, places, strict=True)
        ],
    }


def _programmed(item: Json) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Programmed" and one["status"] == "True" for one in conditions)


def _problems(paths: RunPaths) -> list[Json]:
    try:
        found = client.controller(paths).get("/v1/problems", Problems).items
    except PenstockError:
        return []
    return [{"place": one.place, "severity": one.severity, "text": one.text} for one in found]


def _show(page: Json) -> None:
    _show_processes(page)
    if page["pods"]:
        say("")
        _show_pods(page["pods"])
    if page["gateways"]:
        say("")
        _show_gateways(page["gateways"])
    if page["problems"]:
        say("")
        for one in page["problems"]:
            say(f"{one['place']}: {one['severity']}: {one['text']}")


def _show_processes(page: Json) -> None:
    envoy = page["envoy"]
    show_pairs(
        [
            ("run folder", page["runDir"]),
            ("objects from", page["folder"]),
            ("mode", page["mode"]),
            ("up", _line(page["up"])),
            ("controller", f"{_line(page['controller'])}, {page['controller']['objects']} objects"),
            ("agent", f"{_line(page['agent'])}, node {page['agent']['node'] or '-'}"),
            ("envoy", f"{_line(envoy)}, {envoy['state']}, {envoy['restarts']} restarts"),
        ]
    )


def _show_pods(pods: list[Json]) -> None:
    show_table(
        ("NAMESPACE", "POD", "READY", "STATUS", "RESTARTS", "ADDRESSES"),
        [
            (
                pod["namespace"],
                pod["name"],
                str(pod["ready"]),
                pod["reason"] or pod["phase"],
                str(pod["restarts"]),
                ",".join(pod["addresses"]),
            )
            for pod in pods
        ],
    )


def _show_gateways(gateways: list[Json]) -> None:
    show_table(
        ("NAMESPACE", "GATEWAY", "PROGRAMMED", "REACHABLE AT"),
        [
            (
                one["namespace"],
                one["name"],
                str(one["programmed"]),
                " ".join(one["urls"]) or "-",
            )
            for one in gateways
        ],
    )


def _line(process: Json) -> str:
    return f"runs (pid {process['pid']})" if process["running"] else "does not run"
