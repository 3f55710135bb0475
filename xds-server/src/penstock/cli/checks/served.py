"""Whether routes and policies are in force as they are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from penstock.cli.checks.finding import Check, Finding, shorten
from penstock.cli.checks.observed import Cluster, Json, name_of
from penstock.cli.checks.workloads import nobody_serves, on_node
from penstock.gatewayapi.resources import CONTROLLER_NAME
from penstock.status.data_plane import DATA_PLANE_ACKED

ROUTES = Check("PC-RTE-001", "routes")
POLICIES = Check("PC-POL-001", "policies")
OTHERS = Check("PC-NPL-001", "NetworkPolicies")

_ROUTE_LISTS = {
    "httproutes": "HTTPRoute",
    "grpcroutes": "GRPCRoute",
    "tlsroutes": "TLSRoute",
    "tcproutes": "TCPRoute",
    "udproutes": "UDPRoute",
}
_BAD_IF_FALSE = ("Accepted", "Valid", "ResolvedRefs")
_BAD_IF_TRUE = ("PartiallyInvalid",)
_LATER = frozenset({"Pending", "NotReconciled"})
_PLUGIN = (
    "nothing to do if the CNI plugin enforces them, as Calico's does and flannel's does not;"
    " else write CiliumNetworkPolicies"
)


class _Complaint(msgspec.Struct, frozen=True):
    text: str
    on_nodes: bool = False
    """It is about nodes that do not have it."""


def served(cluster: Cluster) -> Iterator[Finding]:
    """Judge what users write, by the statuses that controllers gave it."""
    if not cluster.is_installed:
        return
    if nobody_serves(cluster):
        yield ROUTES.unserved()
        yield POLICIES.unserved()
    else:
        yield _routes(cluster)
        yield _policies(cluster)
    yield from _network_policies(cluster)


def _routes(cluster: Cluster) -> Finding:
    lists = {name: cluster[name] for name in _ROUTE_LISTS}
    refused = [one.refused for one in lists.values() if one.refused and not one.absent]
    if refused:
        return ROUTES.skip(f"routes cannot be read: {refused[0]}")
    found = [(_ROUTE_LISTS[name], one) for name, listed in lists.items() for one in listed.items]
    ours = [(f"{kind} {name_of(one)}", one, list(_of_ours(one))) for kind, one in found]
    bad = [complaint for name, _, said in ours for complaint in _complaints(name, said)]
    bad += [
        _Complaint(f"{name}: no parent is a Gateway or Service of ours")
        for name, one, said in ours
        if not said and not (one.get("status") or {}).get("parents")
    ]
    if bad:
        hint = "kubectl describe tells all of an object; penstock lint FILES tells it before"
        return _warn(ROUTES, cluster, bad, hint)
    return ROUTES.ok(f"{sum(bool(said) for _, _, said in ours)} in force as written")


def _policies(cluster: Cluster) -> Finding:
    policies = cluster["policies"]
    if policies.absent:
        return POLICIES.ok("there are none")
    if policies.refused:
        return POLICIES.skip(f"policies cannot be read: {policies.refused}")
    bad = [
        complaint
        for one in policies.items
        for complaint in _complaints(
            str(name_of(one)), (one.get("status") or {}).get("conditions") or []
        )
    ]
    if bad:
        hint = "what is not understood closes what it selects; penstock lint FILES tells it before"
        return _warn(POLICIES, cluster, bad, hint)
    return POLICIES.ok(f"{len(policies.items)} in force as written")


def _network_policies(cluster: Cluster) -> Iterator[Finding]:
    """Tell of policies that look as if they were ours to enforce."""
    listed = cluster["networkpolicies"]
    if listed.refused and not listed.absent:
        yield OTHERS.skip(f"NetworkPolicies cannot be read: {listed.refused}")
    names = [str(name_of(one)) for one in listed.items]
    if names:
        text = f"Penstock does not enforce them, that is the CNI plugin's task: {shorten(names)}"
        yield OTHERS.warn(text, _PLUGIN, names)


def _warn(check: Check, cluster: Cluster, bad: Sequence[_Complaint], usual: str) -> Finding:
    """Return a finding with the next steps that fit; *usual* is for what nodes do not say."""
    steps = [] if all(one.on_nodes for one in bad) else [usual]
    if any(one.on_nodes for one in bad):
        steps.append(f"on a node that is named: {on_node(cluster)}")
    texts = [one.text for one in bad]
    return check.warn(shorten(texts), "; ".join(steps), texts)


def _of_ours(route: Json) -> Iterator[Json]:
    """Yield the conditions at those parents that are ours."""
    for parent in (route.get("status") or {}).get("parents") or []:
        if parent.get("controllerName") == CONTROLLER_NAME:
            yield from parent.get("conditions") or []


def _complaints(name: str, conditions: list[Json]) -> Iterator[_Complaint]:
    """Yield the first thing that is wrong, what is certain before what nodes do not have yet."""
    bad = sorted(filter(_is_bad, conditions), key=lambda one: one.get("status") == "Unknown")
    for one in bad[:1]:
        value, kind = one.get("status", ""), one.get("type", "")
        said = one.get("message") or one.get("reason", "")
        yield _Complaint(f"{name}: {kind} {value}: {said}", on_nodes=kind == DATA_PLANE_ACKED)


def _is_bad(condition: Json) -> bool:
    value, kind = condition.get("status", ""), condition.get("type", "")
    if kind == DATA_PLANE_ACKED:
        return bool(value != "True")
    bad = (value == "False" and kind in _BAD_IF_FALSE) or (value == "True" and kind in _BAD_IF_TRUE)
    return bad and condition.get("reason", "") not in _LATER
