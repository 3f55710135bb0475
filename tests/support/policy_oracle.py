"""Brute force: what policies allow, read straight from their JSON values.

Shares no code with `penstock.policy`: no compiled selectors, no entries, no lattice. One question
is asked of every rule, and the answers are combined as the language says. It knows only the
supported part of the language and only valid policies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

Json = dict[str, Any]

RESERVED = {"host": 1, "world": 2, "health": 4, "init": 5, "remote-node": 6, "ingress": 8}
CLUSTER_WIDE = {1, 3, 4, 5, 6, 7, 8}


class Peer(NamedTuple):
    """A workload, or a reserved identity with neither namespace nor labels."""

    identity: int
    namespace: str | None
    labels: dict[str, str]


class Call(NamedTuple):
    """A connection, with the request on it if it carries HTTP."""

    egress: bool
    peer: Peer
    port: int
    protocol: str
    path: str | None = None
    method: str = "GET"
    token: str | None = None


def connection_allowed(policies: list[Json], subject: Peer, call: Call) -> bool:
    """Can the connection be made, whatever is said on it?"""
    return _allowed(policies, subject, call._replace(path=None))


def request_allowed(policies: list[Json], subject: Peer, call: Call) -> bool:
    return _allowed(policies, subject, call)


def _allowed(policies: list[Json], subject: Peer, call: Call) -> bool:
    if not call.egress and call.peer.identity == RESERVED["host"]:
        return True
    way = "egress" if call.egress else "ingress"
    enforced = False
    allowed = False
    for policy, spec in _selecting(policies, subject):
        here = policy["metadata"]["namespace"]
        allows, denies = spec.get(way, []), spec.get(f"{way}Deny", [])
        switch = spec.get("enableDefaultDeny", {}).get(way)
        strict = switch if switch is not None else len(allows) + len(denies) > 0
        enforced = enforced or strict
        for rule in denies:
            if _reaches(rule, here, call, is_deny=True):
                return False
        for rule in allows:
            if _reaches(rule, here, call, is_deny=False) and _says(rule, call, strict=strict):
                allowed = True
    return allowed or not enforced


def _selecting(policies: list[Json], subject: Peer) -> Iterator[tuple[Json, Json]]:
    for policy in policies:
        specs = [policy["spec"]] if "spec" in policy else []
        for spec in specs + policy.get("specs", []):
            same = subject.namespace == policy["metadata"]["namespace"]
            if same and _labels_match(spec["endpointSelector"], subject):
                yield policy, spec


def _labels_match(selector: Json, peer: Peer) -> bool:
    facts = dict(peer.labels)
    if peer.namespace is not None:
        facts["io.kubernetes.pod.namespace"] = peer.namespace
    for key, value in selector.get("matchLabels", {}).items():
        if facts.get(key) != value:
            return False
    for one in selector.get("matchExpressions", []):
        value = facts.get(one["key"])
        good = {
            "In": value in one.get("values", []),
            "NotIn": value not in one.get("values", []),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[one["operator"]]
        if not good:
            return False
    return True


def _is_meant(selector: Json, here: str, peer: Peer) -> bool:
    if peer.namespace is None:
        return False
    text = str(selector)
    if "io.kubernetes.pod.namespace" not in text and peer.namespace != here:
        return False
    return _labels_match(selector, peer)


def _entity(name: str, peer: Peer) -> bool:
    if name == "all":
        return True
    if name == "none":
        return False
    if name == "cluster":
        return peer.namespace is not None or peer.identity in CLUSTER_WIDE
    return peer.identity == RESERVED[name]


def _reaches(rule: Json, here: str, call: Call, *, is_deny: bool) -> bool:
    """Do peer and some port of the rule fit the connection?"""
    side = "to" if call.egress else "from"
    endpoints, entities = rule.get(f"{side}Endpoints"), rule.get(f"{side}Entities")
    anybody = endpoints is None and entities is None
    peer_fits = anybody or (
        any(_is_meant(one, here, call.peer) for one in endpoints or [])
        or any(_entity(one, call.peer) for one in entities or [])
    )
    items = rule.get("toPorts") or []
    if not items:
        return peer_fits and (is_deny or not anybody)
    return peer_fits and any(_port_fits(item, call, is_deny=is_deny) for item in items)


def _port_fits(item: Json, call: Call, *, is_deny: bool) -> bool:
    ports = item.get("ports", [])
    if not ports:
        return is_deny
    for one in ports:
        first = int(one["port"])
        last = one.get("endPort", 0) if first and one.get("endPort", 0) > first else first
        number_fits = first == 0 or first <= call.port <= last
        wanted = one.get("protocol", "ANY")
        if number_fits and wanted in ("ANY", call.protocol):
            return True
    return False


def _says(rule: Json, call: Call, *, strict: bool) -> bool:
    """Do the requests that the rule allows on a fitting port include this one?"""
    items = rule.get("toPorts") or []
    if call.path is None or not items:
        return True
    for item in items:
        if not _port_fits(item, call, is_deny=False):
            continue
        wanted = item.get("rules", {}).get("http", [])
        if not wanted or not strict or any(_request_fits(one, call) for one in wanted):
            return True
    return False


def _request_fits(wanted: Json, call: Call) -> bool:
    path = call.path or ""
    if wanted.get("path") and not re.fullmatch(wanted["path"], path):
        return False
    if wanted.get("method") and not re.fullmatch(wanted["method"], call.method):
        return False
    for text in wanted.get("headers", []):
        if call.token is None or text not in ("X-Token", f"X-Token: {call.token}"):
            return False
    return True
