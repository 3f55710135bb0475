"""What a run folder holds and its processes say: of a lab, or of one node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from penstock.cli import client
from penstock.cli.client import ApiClient
from penstock.cli.sysdump.parts import Part, read_tail
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths

Asked = dict[str, tuple[str, dict[str, str]]]
"""Path in the archive, and what is asked: path and query."""

AGENT: Asked = {
    "agent/status.json": ("/v1/status", {}),
    "agent/snapshot.json": ("/v1/snapshot", {}),
    "agent/flows.jsonl": ("/v1/flows", {"last": "1000"}),
    "envoy/config_dump.json": ("/v1/envoy/config_dump", {"include_eds": "on"}),
    "envoy/clusters.json": ("/v1/envoy/clusters", {"format": "json"}),
    "envoy/listeners.json": ("/v1/envoy/listeners", {"format": "json"}),
    "envoy/server_info.json": ("/v1/envoy/server_info", {}),
    "envoy/stats.txt": ("/v1/envoy/stats", {}),
}
CONTROLLER: Asked = {
    "controller/health.json": ("/v1/health", {}),
    "controller/objects.json": ("/v1/objects", {}),
    "controller/problems.json": ("/v1/problems", {}),
    "controller/snapshot.json": ("/v1/snapshot", {}),
}


def names(paths: RunPaths) -> list[str]:
    """Return what would be taken from a run folder."""
    asked = [*AGENT, *CONTROLLER] if paths.controller_api.exists() else list(AGENT)
    return [*asked, *(f"logs/{file.name}" for file in _logs(paths))]


def parts(paths: RunPaths) -> Iterator[Part]:
    """Yield what the processes of a run folder say, and their logs; for what fails, why."""
    yield from _answers(client.agent(paths), AGENT)
    if paths.controller_api.exists():
        yield from _answers(client.controller(paths), CONTROLLER)
    for file in _logs(paths):
        yield Part(f"logs/{file.name}", read_tail(file))


def _answers(api: ApiClient, asked: Asked) -> Iterator[Part]:
    for name, (path, query) in asked.items():
        try:
            yield Part(name, api.fetch(path, query) or b"not known to this version\n")
        except PenstockError as error:
            yield Part(f"{name}.error.txt", f"{error}\n".encode())


def _logs(paths: RunPaths) -> list[Path]:
    return sorted(file for file in paths.logs.glob("*.log") if file.is_file())
