"""What Envoy runs, read from its admin interface.

Source: envoy/admin/v3/config_dump.proto and clusters.proto, in JSON with the proto's field names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from penstock.cli.client import ApiClient
from penstock.envoy.runtime import LAYER
from penstock.xds import types

Json = dict[str, Any]

CONFIG_DUMP = "/v1/envoy/config_dump"
WITH_ENDPOINTS = {"include_eds": "on"}


class Running(msgspec.Struct, frozen=True):
    """One resource that Envoy has."""

    type: str
    """Short name of the type: "Cluster"."""
    name: str
    version: str
    """Of this resource; "" where Envoy does not tell."""
    body: Json


class EndpointState(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint of a cluster, with Envoy's numbers."""

    cluster: str
    address: str
    health: str
    weight: int
    requests: int
    """Since the endpoint came."""
    failures: int


def read_running(agent: ApiClient) -> list[Running]:
    """Return what came to Envoy over ADS, sorted by type and name.

    Raises:
        PenstockError: the agent or Envoy does not answer.
    """
    dump = agent.get(CONFIG_DUMP, dict[str, Any], WITH_ENDPOINTS)
    found = [one for config in dump.get("configs", []) for one in _of_config(config)]
    found += _runtime(agent.get("/v1/envoy/runtime", dict[str, Any], {"format": "json"}))
    return sorted(found, key=lambda one: (one.type, one.name))


def read_endpoints(agent: ApiClient) -> list[EndpointState]:
    """Return the endpoints of all clusters, sorted.

    Raises:
        PenstockError: the agent or Envoy does not answer.
    """
    answer = agent.get("/v1/envoy/clusters", dict[str, Any], {"format": "json"})
    found = [
        _endpoint(cluster.get("name", ""), host)
        for cluster in answer.get("cluster_statuses", [])
        for host in cluster.get("host_statuses", [])
    ]
    return sorted(found, key=lambda one: (one.cluster, one.address))


_PLAIN = {
    "ClustersConfigDump": ("Cluster", "dynamic_active_clusters", "cluster"),
    "EcdsConfigDump": ("TypedExtensionConfig", "ecds_filters", "ecds_filter"),
    # Envoy leaves keys out by itself.
    "SecretsConfigDump": ("Secret", "dynamic_active_secrets", "secret"),
}
"""Dump → type of the resource, name of the list, name of the resource in an entry."""


def _of_config(config: Json) -> Iterator[Running]:
    match types.short(str(config.get("@type", ""))):
        case "ListenersConfigDump":
            yield from _listeners(config)
        case "ScopedRoutesConfigDump":
            yield from _scopes(config)
        case "EndpointsConfigDump":
            for one in config.get("dynamic_endpoint_configs", []):
                body = one.get("endpoint_config", {})
                name = body.get("cluster_name", "")
                yield Running("ClusterLoadAssignment", name, "", body)
        case name if name in _PLAIN:
            kind, entries, content = _PLAIN[name]
            for one in config.get(entries, []):
                yield _running(kind, one, one.get(content, {}))
        case _:
            return


def _running(kind: str, one: Json, body: Json) -> Running:
    return Running(kind, body.get("name", ""), one.get("version_info", ""), body)


def _listeners(config: Json) -> Iterator[Running]:
    for one in config.get("dynamic_listeners", []):
        active = one.get("active_state")
        if active is not None:
            version = active.get("version_info", "")
            yield Running("Listener", one.get("name", ""), version, active.get("listener", {}))


def _scopes(config: Json) -> Iterator[Running]:
    """Yield each scope once: every listener has a set of them, all with the same content."""
    seen: set[str] = set()
    for one in config.get("dynamic_scoped_route_configs", []):
        for scope in one.get("scoped_route_configs", []):
            name = scope.get("name", "")
            if name not in seen:
                seen.add(name)
                yield Running("ScopedRouteConfiguration", name, "", scope)


def _runtime(answer: Json) -> list[Running]:
    layers = answer.get("layers", [])
    if LAYER not in layers:
        return []
    at = layers.index(LAYER)
    values = {
        name: entry["layer_values"][at]
        for name, entry in answer.get("entries", {}).items()
        if entry.get("layer_values", [])[at:] and entry["layer_values"][at] != ""
    }
    return [Running("Runtime", LAYER, "", values)]


def _endpoint(cluster: str, host: Json) -> EndpointState:
    stats = {one.get("name"): int(one.get("value", 0)) for one in host.get("stats", [])}
    health = host.get("health_status", {})
    status = health.get("eds_health_status", "UNKNOWN")
    return EndpointState(
        cluster=cluster,
        address=socket_address(host.get("address", {})),
        health="UNHEALTHY" if health.get("failed_active_health_check") else status,
        weight=int(host.get("weight", 1)),
        requests=stats.get("rq_total", 0),
        failures=stats.get("rq_error", 0),
    )


def socket_address(address: Json) -> str:
    """Return an address as "10.0.0.1:80", IPv6 in brackets."""
    inner = address.get("socket_address")
    if inner is None:
        pipe = address.get("pipe", {}).get("path", "")
        return str(pipe or "-")
    host = str(inner.get("address", ""))
    return f"[{host}]:{inner.get('port_value')}" if ":" in host else (
        f"{host}:{inner.get('port_value')}"
    )  # fmt: skip
