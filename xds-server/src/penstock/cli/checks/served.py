"""Whether routes and policies are in force as they are written."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.cli.checks.finding import Check, Finding, shorten
from penstock.cli.checks.observed import Cluster, Json
from penstock.gatewayapi.status import CONTROLLER_NAME
from penstock.meta.names import NamespacedName

ROUTES = Check("PC-RTE-001", "routes")
POLICIES = Check("PC-POL-001", "policies")

_ROUTE_LISTS = {
    "httproutes": "HTTPRoute",
    "grpcroutes": "GRPCRoute",
    "tlsroutes": "TLSRoute",
    "tcproutes": "TCPRoute",
    "udproutes": "UDPRoute",
}
_BAD_IF_FALSE = ("Accepted", "Valid", "ResolvedRefs", "DataPlaneAcked")
_BAD_IF_TRUE = ("PartiallyInvalid",)
_LATER = frozenset({"Pending", "NotReconciled"})


def served(cluster: Cluster) -> Iterator[Finding]:
    """Judge what users write, by the statuses that controllers gave it."""
    if not cluster.is_installed:
        return
    yield _routes(cluster)
    yield _policies(cluster)


def _routes(cluster: Cluster) -> Finding:
    lists = {name: cluster[name] for name in _ROUTE_LISTS}
    refused = [one.refused for one in lists.values() if one.refused and not one.absent]
    if refused:
        return ROUTES.skip(f"routes cannot be read: {refused[0]}")
    found = [(_ROUTE_LISTS[name], one) for name, listed in lists.items() for one in listed.items]
    ours = [(kind, one, list(_of_ours(one))) for kind, one in found]
    bad = [
        f"{kind} {_name(one)}: {complaint}"
        for kind, one, conditions in ours
        if (complaint := _complaint(conditions))
    ]
    bad += [
        f"{kind} {_name(one)}: no parent is a Gateway or Service of ours"
        for kind, one, said in ours
        if not said and not (one.get("status") or {}).get("parents")
    ]
    if bad:
        hint = "kubectl describe tells all of an object; penstock lint FILES tells it before"
        return ROUTES.warn(shorten(bad), hint)
    return ROUTES.ok(f"{sum(bool(said) for _, _, said in ours)} in force as written")


def _policies(cluster: Cluster) -> Finding:
    policies = cluster["policies"]
    if policies.absent:
        return POLICIES.ok("there are none")
    if policies.refused:
        return POLICIES.skip(f"policies cannot be read: {policies.refused}")
    bad = [
        f"{_name(one)}: {complaint}"
        for one in policies.items
        if (complaint := _complaint((one.get("status") or {}).get("conditions") or []))
    ]
    if bad:
        hint = "what is not understood closes what it selects; penstock lint FILES tells it before"
        return POLICIES.warn(shorten(bad), hint)
    return POLICIES.ok(f"{len(policies.items)} in force as written")


def _of_ours(route: Json) -> Iterator[Json]:
    """Yield the conditions at those parents that are ours."""
    for parent in (route.get("status") or {}).get("parents") or []:
        if parent.get("controllerName") == CONTROLLER_NAME:
            yield from parent.get("conditions") or []


def _complaint(conditions: list[Json]) -> str:
    """Return the first thing that is wrong for certain, "" if nothing is."""
    for one in conditions:
        value, kind, reason = (one.get(key, "") for key in ("status", "type", "reason"))
        bad = (value == "False" and kind in _BAD_IF_FALSE) or (
            value == "True" and kind in _BAD_IF_TRUE
        )
        if bad and reason not in _LATER:
            return f"{kind} {value}: {one.get('message') or reason}"
    return ""


def _name(item: Json) -> NamespacedName:
    return NamespacedName(item["metadata"].get("namespace", ""), item["metadata"]["name"])
