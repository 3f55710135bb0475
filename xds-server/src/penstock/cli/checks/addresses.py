"""Where Gateways can be reached: their class, their addresses, and the pool of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from penstock.cli.checks.finding import Check, Finding, shorten
from penstock.cli.checks.observed import Cluster, Json, name_of
from penstock.cli.checks.workloads import nobody_serves
from penstock.gatewayapi.resources import CONTROLLER_NAME

CLASS = Check("PC-GWC-001", "GatewayClass")
POOL = Check("PC-GWA-001", "addresses of Gateways")
GATEWAYS = Check("PC-GWA-002", "Gateways")


_OPTION = "--gateway-addresses="
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def gateway_addresses(cluster: Cluster) -> Iterator[Finding]:
    """Judge the ways in."""
    if not cluster.is_installed:
        return
    yield _class(cluster)
    yield _pool(cluster)
    yield GATEWAYS.unserved() if nobody_serves(cluster) else _gateways(cluster)


def _class(cluster: Cluster) -> Finding:
    classes = cluster["gatewayclasses"]
    if classes.refused:
        return CLASS.skip(f"GatewayClasses cannot be read: {classes.refused}")
    ours = [one for one in classes.items if one["spec"].get("controllerName") == CONTROLLER_NAME]
    if not ours:
        return CLASS.fail(
            f"none has controllerName {CONTROLLER_NAME}",
            "install the chart with gatewayClass.create=true",
        )
    waiting = [one["metadata"]["name"] for one in ours if not _is(one, "Accepted")]
    if waiting:
        return CLASS.fail(
            f"not accepted: {', '.join(waiting)}",
            f"kubectl -n {cluster.namespace} logs deployment/penstock-controller",
        )
    return CLASS.ok(", ".join(one["metadata"]["name"] for one in ours))


def _pool(cluster: Cluster) -> Finding:
    mode = _mode(cluster)
    if mode is None:
        return POOL.skip("the Deployment penstock-controller is not there or cannot be read")
    if not mode.startswith("pool:"):
        by = "the cloud's, by Services" if mode == "loadbalancer" else "those of the nodes"
        return POOL.ok(f"{by} ({mode})")
    try:
        pool = list(_networks(mode.removeprefix("pool:")))
    except ValueError as error:
        return POOL.fail(f"{mode}: {error}", "mend gatewayAddresses.pool: networks and ranges")
    overlaps = [
        f"{one} and {other} ({what})"
        for one in pool
        for what, other in _taken(cluster)
        if one.version == other.version and one.overlaps(other)
    ]
    if overlaps:
        return POOL.fail(
            f"overlap: {'; '.join(overlaps)}",
            "choose a pool of the nodes' link that nothing else uses (gatewayAddresses.pool)",
        )
    used = len(cluster["gateways"].items)
    room = sum(one.num_addresses for one in pool)
    text = f"{mode}: {room} addresses, {used} Gateways"
    if used > room:
        return POOL.fail(text, "give gatewayAddresses.pool more networks")
    return POOL.ok(text)


def _mode(cluster: Cluster) -> str | None:
    """Return what controllers are told, None if that is not known."""
    for one in cluster["deployments"].items:
        if one["metadata"]["name"] == "penstock-controller":
            words = one["spec"]["template"]["spec"]["containers"][0].get("args") or []
            given = [word.removeprefix(_OPTION) for word in words if word.startswith(_OPTION)]
            return given[-1] if given else "nodes"
    return None


def _networks(text: str) -> Iterator[Network]:
    """Yield the networks that make up "192.0.2.0/26,192.0.2.100-192.0.2.110".

    Raises:
        ValueError: it is something else.
    """
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if dash:
            ends = (ipaddress.ip_address(first), ipaddress.ip_address(last))
            yield from ipaddress.summarize_address_range(*ends)
        else:
            yield ipaddress.ip_network(first)


def _taken(cluster: Cluster) -> Iterator[tuple[str, Network]]:
    """Yield networks and addresses that others use."""
    for node in cluster["nodes"].items:
        name = node["metadata"]["name"]
        for text in node["spec"].get("podCIDRs") or []:
            yield f"pods of {name}", ipaddress.ip_network(text)
        for one in (node.get("status") or {}).get("addresses") or []:
            if one["type"] in ("InternalIP", "ExternalIP"):
                yield f"node {name}", ipaddress.ip_network(one["address"])
    for cidr in cluster["servicecidrs"].items:
        for text in cidr["spec"].get("cidrs") or []:
            yield "Services", ipaddress.ip_network(text)
    for service in cluster["services"].items:
        address = service["spec"].get("clusterIP") or "None"
        if service["metadata"]["name"] == "kubernetes" and address != "None":
            yield "Services", ipaddress.ip_network(address)


def _gateways(cluster: Cluster) -> Finding:
    gateways = cluster["gateways"]
    if gateways.refused:
        return GATEWAYS.skip(f"Gateways cannot be read: {gateways.refused}")
    classes = {
        one["metadata"]["name"]
        for one in cluster["gatewayclasses"].items
        if one["spec"].get("controllerName") == CONTROLLER_NAME
    }
    ours = [one for one in gateways.items if one["spec"].get("gatewayClassName") in classes]
    bad = [f"{name_of(one)}: {_complaint(one)}" for one in ours if _complaint(one)]
    if bad:
        hint = "kubectl describe gateway tells why in its conditions"
        return GATEWAYS.warn(shorten(bad), hint, bad)
    return GATEWAYS.ok(f"{len(ours)} programmed, each with an address")


def _complaint(gateway: Json) -> str:
    if not _is(gateway, "Programmed"):
        return "not programmed"
    return "" if (gateway.get("status") or {}).get("addresses") else "no address"


def _is(item: Json, condition: str) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or []
    return any(one["type"] == condition and one["status"] == "True" for one in conditions)
