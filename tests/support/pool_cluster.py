"""A cluster of three nodes with a pool of addresses, compiled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.xds import types
from penstock.xds.resource import Resource
from support import objects

NODES = ("n1", "n2", "n3")
POOL = Settings(
    reach=Reach.CLUSTER, gateway_pool="172.31.0.128/26", system_namespace="penstock-system"
)
AT_NODES = Settings(reach=Reach.CLUSTER, addressing=Addressing.NODES)
Things = list[Object | Broken]


def cluster(*more: Object | Broken) -> Things:
    nodes = [objects.node(name, f"172.31.0.1{at}") for at, name in enumerate(NODES)]
    return [*nodes, objects.gateway_class(), *more]


def compiled(things: Iterable[Object | Broken], settings: Settings = POOL) -> Compiler:
    compiler = Compiler(settings)
    compiler.apply(objects.added(things))
    assert compiler.failures == {}
    return compiler


def change(compiler: Compiler, thing: Object | Broken, kind: EventType = EventType.MODIFIED) -> int:
    """Apply one event and return how many nodes have to be told something."""
    changes = compiler.apply([Event(kind, thing)])
    assert compiler.failures == {}
    return len(changes)


def of(compiler: Compiler, node: str, type_url: str) -> dict[str, Resource]:
    return {one.name: one for one in compiler.resources(node) if one.type_url == type_url}


def opened(compiler: Compiler, name: str) -> dict[str, list[tuple[str, int, str]]]:
    """Return node → where a listener is open there."""
    found: dict[str, list[tuple[str, int, str]]] = {}
    for node in NODES:
        resource = of(compiler, node, types.LISTENER).get(name)
        if resource is not None:
            made = listener_pb2.Listener.FromString(resource.body)
            every = [made.address, *(more.address for more in made.additional_addresses)]
            found[node] = [
                (one.address, one.port_value, one.network_namespace_filepath)
                for one in (each.socket_address for each in every)
            ]
    return found


def answering(compiler: Compiler) -> dict[str, str]:
    """Return address → the node that answers for it."""
    return {name: node for node in NODES for name in of(compiler, node, types.ADDRESS)}


def status(compiler: Compiler, thing: Object | Broken) -> dict[str, Any]:
    return status_of(compiler.db, thing, lambda _: None) or {}


def condition(compiler: Compiler, thing: Object | Broken, of_type: str) -> tuple[str, str, str]:
    """Return status, reason and message of a condition."""
    (found,) = [one for one in status(compiler, thing)["conditions"] if one["type"] == of_type]
    return found["status"], found["reason"], found["message"]
