"""Where Envoy differs from what is meant. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

import msgspec

from penstock.cli.answers import IntendedResource, NodeResource
from penstock.cli.dump import Running
from penstock.meta.listeners import pod_of
from penstock.xds import types

_SHORT_ENVOY_TYPES = frozenset(map(types.short, types.ENVOY_TYPES))


class Difference(msgspec.Struct, frozen=True, order=True, kw_only=True):
    """One resource that is not as it is meant."""

    what: str
    """missing: Envoy has not got it; extra: Envoy has it and should not; different: Envoy runs
    another version; rejected: Envoy refused it; pending: not accepted, or not with the agent yet.
    """
    type: str
    name: str
    intended: str = ""
    """Version."""
    acked: str = ""
    runs: str = ""
    origins: list[str] = []
    detail: str = ""


def compare(
    intended: Iterable[IntendedResource],
    held: Iterable[NodeResource],
    running: Iterable[Running],
    pods: Container[str],
) -> list[Difference]:
    """Return all differences, sorted; none after convergence.

    Args:
        intended: what the controller means for the node.
        held: what the agent has of it, and what Envoy said.
        running: what Envoy shows.
        pods: uids of the pods on the node; listeners of other pods are held back by the agent.
    """
    at_agent = {(one.type, one.name): one for one in held}
    at_envoy = {(one.type, one.name): one for one in running}
    meant = {(types.short(one.type_url), one.name): one for one in intended}
    found = [
        difference
        for key, one in meant.items()
        if _due(one, pods)
        for difference in _of_intended(one, at_agent.get(key), at_envoy.get(key))
    ]
    found += [
        Difference(what="extra", type=one.type, name=one.name, runs=one.version)
        for key, one in at_envoy.items()
        if key not in meant and not _made_by_its_cluster(one, meant)
    ]
    return sorted(found)


def _made_by_its_cluster(one: Running, meant: Container[tuple[str, str]]) -> bool:
    """Tell whether endpoints belong to a cluster that finds them itself, as ORIGINAL_DST does."""
    return one.type == "ClusterLoadAssignment" and ("Cluster", one.name) in meant


def _due(one: IntendedResource, pods: Container[str]) -> bool:
    uid = pod_of(one.name) if one.type_url == types.LISTENER else ""
    return not uid or uid in pods


def _of_intended(
    one: IntendedResource, held: NodeResource | None, runs: Running | None
) -> Iterator[Difference]:
    """Yield the difference of one resource, if there is one."""
    kind = types.short(one.type_url)
    base = Difference(
        what="",
        type=kind,
        name=one.name,
        intended=one.version,
        acked=held.acked if held is not None else one.acked or "",
        runs=runs.version if runs is not None else "",
        origins=one.origins,
    )
    what, detail = _judged(one, kind, held, runs)
    if what:
        yield msgspec.structs.replace(base, what=what, detail=detail)


def _judged(
    one: IntendedResource, kind: str, held: NodeResource | None, runs: Running | None
) -> tuple[str, str]:
    """Return what is wrong and why; "" if nothing is."""
    if kind not in _SHORT_ENVOY_TYPES:
        return ("", "") if one.acked == one.version else ("pending", "the agent has not taken it")
    if held is None or held.intended != one.version:
        return "pending", "the agent has not got this version"
    if held.rejected:
        return "rejected", held.rejected
    if runs is None:
        return "missing", ""
    if runs.version and runs.version != one.version:
        return "different", ""
    return ("", "") if held.acked == one.version else ("pending", "Envoy has not accepted it")
