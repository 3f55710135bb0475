"""Objects with statuses in a real API server, and what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penstock.compiler.settings import Reach, Settings
from penstock.gatewayapi.resources import CONTROLLER_NAME
from support.kube import KubeApi, path_of
from support.objects import gateway_api_raw
from support.replicas import LEASE
from support.source_suite import eventually

CLUSTER = Settings(reach=Reach.CLUSTER, gateway_pool="192.0.2.0/28")


def made_anew(api: KubeApi) -> list[dict[str, Any]]:
    api.namespace("status")
    made = [
        gateway_class(),
        gateway(),
        route(),
        policy({"endpointSelector": {}, "ingress": [{}]}),
    ]
    for raw in made:
        api.delete(raw)
    api.delete(LEASE)
    for raw in made:
        api.apply(raw)
    return made


def of_gateway_api(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return an object of Gateway API in the namespace of these tests."""
    return gateway_api_raw(kind, name, spec, "status")


def gateway_class() -> dict[str, Any]:
    return gateway_api_raw("GatewayClass", "status", {"controllerName": CONTROLLER_NAME}, "")


def gateway() -> dict[str, Any]:
    listener = {"name": "web", "port": 80, "protocol": "HTTP"}
    spec = {"gatewayClassName": "status", "listeners": [listener]}
    return of_gateway_api("Gateway", "g", spec)


def route(*parents: dict[str, Any], port: int = 80) -> dict[str, Any]:
    spec = {
        "parentRefs": list(parents) or [{"name": "g", "sectionName": "web"}],
        "rules": [{"backendRefs": [{"name": "b", "port": port}]}],
    }
    return of_gateway_api("HTTPRoute", "r", spec)


def policy(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p", "namespace": "status"},
        "spec": spec,
    }


def get(api: KubeApi, raw: dict[str, Any]) -> dict[str, Any]:
    status, said = api.request("GET", path_of(raw))
    assert status == 200, said
    return dict(said)


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {one["type"]: one["status"] for one in status.get("conditions", [])}


def put_status(api: KubeApi, raw: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> None:
    """Write a status as another controller would."""
    while True:
        now = get(api, raw)
        change(now.setdefault("status", {}))
        status, said = api.request("PUT", f"{path_of(raw)}/status", now)
        if status != 409:
            assert status == 200, said
            return


async def settled(api: KubeApi, *raws: dict[str, Any]) -> None:
    """Wait until all objects say what we have to say of their present generation."""

    def said() -> bool:
        return all(is_current(get(api, raw)) for raw in raws)

    await eventually(said)


def is_current(thing: dict[str, Any]) -> bool:
    generation, status = thing["metadata"]["generation"], thing.get("status", {})
    found = [*status.get("conditions", [])]
    for one in status.get("parents", []):
        found += one["conditions"] if one["controllerName"] == CONTROLLER_NAME else []
    mine = [one for one in found if one["type"] in ("Accepted", "Programmed", "Valid")]
    return bool(mine) and all(one.get("observedGeneration") == generation for one in mine)
