"""`penstock proxy`: what Envoy runs, beside what was meant and what it accepted.

Each row names the user's object. `diff` shows nothing but the differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.cli import client
from penstock.cli.answers import IntendedResource, IntendedSnapshot, NodeResource
from penstock.cli.difference import Difference, compare
from penstock.cli.dump import Running, read_endpoints, read_running, socket_address
from penstock.cli.formats import Format
from penstock.cli.output import complain, show_table, show_value
from penstock.meta.errors import PenstockError
from penstock.meta.listeners import pod_of
from penstock.meta.paths import RunPaths
from penstock.xds import types


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of the resources of one node."""

    node: str
    intended: list[IntendedResource]
    held: list[NodeResource]
    """What the agent holds."""
    running: list[Running]
    pods: Mapping[str, str]
    """Registered pods: uid → "namespace/name"."""
    complete: bool
    """Whether `intended` is what is meant now; else it is what the agent was last told."""


class _Pod(msgspec.Struct, frozen=True):
    uid: str
    namespace: str = ""
    name: str = ""


class _NodeSnapshot(msgspec.Struct, frozen=True):
    resources: list[NodeResource] = []


class _AgentStatus(msgspec.Struct, frozen=True):
    node: str = ""
    controller_connected: bool = False
    pods: list[_Pod] = []


def read(paths: RunPaths) -> View:
    """Return the view of the instance's node.

    Raises:
        PenstockError: the agent or Envoy does not answer.
    """
    agent = client.agent(paths)
    status = agent.get("/v1/status", _AgentStatus)
    held = agent.get("/v1/snapshot", _NodeSnapshot).resources
    complete, intended = _intended(paths, status.node, held)
    return View(
        node=status.node,
        intended=intended,
        held=held,
        running=read_running(agent),
        pods={pod.uid: f"{pod.namespace}/{pod.name}" for pod in status.pods},
        complete=complete or status.controller_connected,
    )


def _intended(
    paths: RunPaths, node: str, held: list[NodeResource]
) -> tuple[bool, list[IntendedResource]]:
    try:
        answer = client.controller(paths).get("/v1/snapshot", IntendedSnapshot, {"node": node})
    except PenstockError:
        urls = {types.short(url): url for url in types.SENDING_ORDER}
        return False, [
            IntendedResource(
                urls.get(one.type, one.type), one.name, one.intended, one.origins, one.acked or None
            )
            for one in held
        ]
    return True, answer.resources


def diff(paths: RunPaths, form: Format) -> int:
    """Show where Envoy differs from what is meant; return 1 if it does, else 0."""
    view = read(paths)
    found = compare(view.intended, view.held, view.running, view.pods)
    if not view.complete:
        complain("no controller answers: compared with what the agent was last told")
    if form in (Format.JSON, Format.YAML):
        show_value({"node": view.node, "differences": found}, form)
    elif found:
        show_table(
            ("WHAT", "TYPE", "NAME", "INTENDED", "ACKED", "RUNS", "OBJECT", "WHY"),
            [_difference_row(one, view) for one in found],
        )
    return 1 if found else 0


def _difference_row(one: Difference, view: View) -> tuple[str, ...]:
    objects = _objects(one.name, one.origins, view)
    return (
        one.what,
        one.type,
        one.name,
        one.intended or "-",
        one.acked or "-",
        one.runs or "-",
        objects,
        one.detail or "-",
    )


def listing(paths: RunPaths, what: str, form: Format) -> int:
    """Show all listeners, routes, clusters or endpoints and return the exit status."""
    view = read(paths)
    rows = _ROWS[what](paths, view)
    if form in (Format.JSON, Format.YAML):
        show_value({"node": view.node, "items": rows}, form)
    elif rows:
        headers = [name.upper() for name in rows[0]]
        show_table(headers, [[str(value) or "-" for value in row.values()] for row in rows])
    else:
        complain(f"Envoy has no {what}")
    return 0


def _common(view: View, kind: str, one: Running) -> dict[str, Any]:
    """Return the columns that every row ends with."""
    meant = {r.name: r for r in view.intended if types.short(r.type_url) == kind}.get(one.name)
    held = {r.name: r for r in view.held if r.type == kind}.get(one.name)
    origins = meant.origins if meant is not None else []
    return {
        "intended": meant.version if meant is not None else "",
        "acked": held.acked if held is not None else "",
        "runs": one.version or "yes",
        "object": _objects(one.name, origins, view),
    }


def _objects(name: str, origins: list[str], view: View) -> str:
    """Return the user's objects behind a resource; of a listener in a pod, the pod."""
    pod = view.pods.get(pod_of(name))
    if pod is not None:
        return f"Pod {pod}"
    return ", ".join(origins)


def _of_type(view: View, kind: str) -> list[Running]:
    return [one for one in view.running if one.type == kind]


def _listeners(_paths: RunPaths, view: View) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "addresses": " ".join(_addresses(one.body))}
        | _common(view, "Listener", one)
        for one in _of_type(view, "Listener")
    ]


def _addresses(listener: dict[str, Any]) -> list[str]:
    more = [one.get("address", {}) for one in listener.get("additional_addresses", [])]
    return [socket_address(one) for one in (listener.get("address", {}), *more)]


def _routes(_paths: RunPaths, view: View) -> list[dict[str, Any]]:
    """Return one row for each route of each scope."""
    rows: list[dict[str, Any]] = []
    for one in _of_type(view, "ScopedRouteConfiguration"):
        common = _common(view, "ScopedRouteConfiguration", one)
        for host in one.body.get("route_configuration", {}).get("virtual_hosts", []):
            rows += [
                {
                    "scope": one.name,
                    "host": ",".join(host.get("domains", [])),
                    "match": _match(route.get("match", {})),
                    "action": _action(route, view),
                }
                | common
                for route in host.get("routes", [])
            ]
    return rows


def _match(match: dict[str, Any]) -> str:
    """Return the path of a match, and how many conditions there are besides."""
    path = "*"
    for name, form in (("path", "= {}"), ("prefix", "{}"), ("path_separated_prefix", "{}/")):
        if name in match:
            path = form.format(match[name])
    if "safe_regex" in match:
        path = f"~ {match['safe_regex'].get('regex')}"
    more = [
        f"{one.get('name')}={_exact(one)}"
        for one in (*match.get("headers", []), *match.get("query_parameters", []))
    ]
    return " ".join([path, *more])


def _exact(matcher: dict[str, Any]) -> str:
    inner = matcher.get("string_match", {})
    return str(inner.get("exact") or inner.get("safe_regex", {}).get("regex") or "*")


def _action(route: dict[str, Any], view: View) -> str:
    """Return where requests go, with the weights that are in force."""
    if "direct_response" in route:
        return f"answers {route['direct_response'].get('status')}"
    if "redirect" in route:
        return f"redirects {route['redirect'].get('response_code', 'MOVED_PERMANENTLY')}"
    action = route.get("route", {})
    if "weighted_clusters" not in action:
        return str(action.get("cluster") or action.get("cluster_header") or "-")
    weighted = action["weighted_clusters"]
    runtime = next((one.body for one in view.running if one.type == "Runtime"), {})
    prefix = weighted.get("runtime_key_prefix", "")
    shares = [
        f"{name}={runtime.get(f'{prefix}.{name}', weight)}"
        for name, weight in (
            (one.get("name"), one.get("weight", 0)) for one in weighted.get("clusters", [])
        )
    ]
    return " ".join(shares)


def _clusters(_paths: RunPaths, view: View) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "type": one.body.get("type", "STATIC")} | _common(view, "Cluster", one)
        for one in _of_type(view, "Cluster")
    ]


def _endpoints(paths: RunPaths, view: View) -> list[dict[str, Any]]:
    dynamic = {one.name for one in _of_type(view, "Cluster")}
    meant = {r.name: r for r in view.intended if r.type_url == types.ENDPOINTS}
    held = {r.name: r for r in view.held if r.type == "ClusterLoadAssignment"}
    rows: list[dict[str, Any]] = []
    for one in read_endpoints(client.agent(paths)):
        if one.cluster not in dynamic:
            continue
        known, kept = meant.get(one.cluster), held.get(one.cluster)
        rows.append(
            {
                "cluster": one.cluster,
                "address": one.address,
                "health": one.health,
                "weight": one.weight,
                "requests": one.requests,
                "failures": one.failures,
                "intended": known.version if known is not None else "",
                "acked": kept.acked if kept is not None else "",
                "object": ", ".join(known.origins) if known is not None else "",
            }
        )
    return rows


_ROWS = {
    "listeners": _listeners,
    "routes": _routes,
    "clusters": _clusters,
    "endpoints": _endpoints,
}
