"""Queries about Services as the kernel sees them: what it balances, and what it leads to Envoy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import assert_never

import msgspec

from penstock.compiler.addresses import frontends
from penstock.compiler.database import Database
from penstock.compiler.routing import mesh_host
from penstock.compiler.services import PROTOCOLS, Backend, KernelPort, backends
from penstock.envoy.scope import destination, egress_key
from penstock.incremental.query import query
from penstock.ir.route import Action, Forward, Redirect, Respond, ServiceBackend, ServicePort
from penstock.meta.limits import BACKENDS_JUDGED_AT_CONNECT
from penstock.meta.names import Origin
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, encode_resource


class KernelService(msgspec.Struct, frozen=True, order=True):
    """A Service port for the kernel, redirected to Envoy or not."""

    port: KernelPort
    proxy: bool


@query
def kernel_service(db: Database, of: KernelService) -> Resource | None:
    """Return the node.v1.Service of a Service port."""
    port = of.port
    addresses = frontends(db, port.service)
    if not addresses:
        return None
    made = node_pb2.Service(
        namespace=port.service.namespace,
        name=port.service.name,
        addresses=addresses,
        port=port.port,
        protocol=PROTOCOLS[port.protocol],
        proxy=of.proxy,
    )
    found = judged_backends(db, port) if of.proxy else backends(db, port)
    for backend in found:
        made.backends.add(address=backend.address, port=backend.port, weight=1)
    name = f"{port.service}/{port.port}/{port.protocol.lower()}"
    needs = _scopes(addresses, port.port) if of.proxy else ()
    return encode_resource(types.SERVICE, name, made, [Origin.of("Service", port.service)], needs)


@query
def judged_backends(db: Database, port: KernelPort) -> tuple[Backend, ...]:
    """Return the endpoints that requests to a proxied port may reach.

    A client to whom policy denies all of them is refused when it connects. None at all means that
    Envoy answers: because some request is redirected, or because there are no endpoints, or more
    than the kernel would look at.
    """
    target = ServicePort(port.service, port.port)
    found: set[Backend] = set()
    for route in mesh_host(db, target).routes:
        endpoints = _endpoints(db, route.action)
        if endpoints is None:
            return ()
        found |= endpoints
    return tuple(sorted(found)) if len(found) <= BACKENDS_JUDGED_AT_CONNECT else ()


def _endpoints(db: Database, action: Action) -> set[Backend] | None:
    """Return the endpoints of an action; None if only Envoy can tell who may have its answer.

    That is a redirect, which anybody may have, and what comes from outside of the cluster. What is
    answered with an error by Envoy may as well be refused by the kernel.
    """
    match action:
        case Redirect():
            return None
        case Respond():
            return set()
        case Forward(hosts=hosts) if hosts:
            return None
        case Forward(backends=targets):
            return {
                backend
                for one in targets
                if isinstance(one, ServiceBackend)
                for backend in backends(db, KernelPort(one.target.service, one.target.port, "TCP"))
            }
        case _:
            assert_never(action)


def _scopes(addresses: Iterable[str], port: int) -> Iterator[ResourceName]:
    """Yield what must be there before clients of a port are led to Envoy."""
    for address in addresses:
        yield ResourceName(types.SCOPE, egress_key(destination(address, port)))
