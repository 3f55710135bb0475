"""Queries about TLS towards endpoints: policies, their certificates, and whom they concern."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import is_our_gateway
from penstock.compiler.indexes import ALL, served_as
from penstock.compiler.merged_listeners import gateway_of, is_let_in, placed_listeners
from penstock.compiler.routing import head
from penstock.compiler.telemetry_targets import gateways_naming
from penstock.envoy.upstream_tls import SYSTEM_AUTHORITIES, trusted_secret
from penstock.gatewayapi import backend_tls
from penstock.gatewayapi.attach import ParentKind, kind_of, target_of
from penstock.gatewayapi.backend_tls import Authorities, Fault
from penstock.gatewayapi.backend_tls_policy import (
    BackendTLSPolicy,
    PolicyTarget,
    services_of_broken,
)
from penstock.gatewayapi.listener_tls import TLS, terminates_tls
from penstock.gatewayapi.stream_resources import TLSRoute
from penstock.incremental.query import query
from penstock.ir.backend_tls import BackendTls, RefusedTls
from penstock.ir.route import ServicePort
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName, ObjectRef, Origin
from penstock.xds import types
from penstock.xds.resource import Resource, encode_resource

MAX_ANCESTORS = 16
"""PolicyStatus.ancestors."""


@query
def policy_authorities(db: Database, name: NamespacedName) -> Authorities | None:
    """Return what the references of a policy came to."""
    policy = db.backend_tls.get(name)
    return None if policy is None else backend_tls.authorities(policy, db.trust_sources)


@query
def system_authorities(db: Database, _: None) -> Resource | None:
    """Return the resource with the authorities of the system; None if nobody asks for them."""
    pem = db.settings.system_authorities
    asked = db.backend_tls.holds("system", ALL) or db.externals.holds("system", ALL)
    if not pem or not asked:
        return None
    return encode_resource(types.SECRET, SYSTEM_AUTHORITIES, trusted_secret(pem))


def policies_for(db: Database, service: NamespacedName) -> list[BackendTLSPolicy]:
    """Return the policies that name a Service."""
    found = (db.backend_tls.get(name) for name in db.backend_tls.bucket("service", service))
    return [one for one in found if one is not None]


@query
def any_policies(db: Database, _: None) -> bool:
    """Tell whether there is any policy: without one nothing depends on the policies of a port."""
    return db.backend_tls.holds("all", ALL) or db.broken_backend_tls.holds("all", ALL)


def tls_towards(db: Database, target: ServicePort) -> BackendTls | RefusedTls | None:
    """Return how Gateways meet the endpoints of a Service port; None is without TLS."""
    return _tls_towards(db, target) if any_policies(db, None) else None


@query
def _tls_towards(db: Database, target: ServicePort) -> BackendTls | RefusedTls | None:
    for broken in db.broken_backend_tls.bucket("service", target.service):
        return RefusedTls(origin=Origin.of("BackendTLSPolicy", broken))
    service = db.services.get(target.service)
    ports = service.spec.ports if service is not None else ()
    named = next((p.name for p in ports if (p.port, p.protocol) == (target.port, "TCP")), None)
    policies = policies_for(db, target.service)
    if named is None or not policies:
        return None
    policy = backend_tls.winner(policies, target.service.name, named)
    found = None if policy is None else policy_authorities(db, policy.key)
    if policy is None or found is None:
        return None
    return backend_tls.backend_tls(policy, found)


@query
def policy_state(
    db: Database, name: NamespacedName
) -> tuple[tuple[Condition, ...], tuple[NamespacedName, ...]] | None:
    """Return the conditions of a policy and the Gateways that it concerns, sorted."""
    policy, found = db.backend_tls.get(name), policy_authorities(db, name)
    if policy is None or found is None:
        return None
    conditions = backend_tls.policy_conditions(policy, found, lost_targets(db, name))
    gateways = {one for service in policy.services for one in _gateways_to(db, service)}
    return conditions, tuple(sorted(gateways))[:MAX_ANCESTORS]


@query
def lost_targets(db: Database, name: NamespacedName) -> dict[PolicyTarget, Fault]:
    """Return the targets of a policy for which it does not hold, and why."""
    policy = db.backend_tls.get(name)
    if policy is None:
        return {}
    others = [one for service in policy.services for one in policies_for(db, service)]
    return backend_tls.target_faults(policy, others, lambda one: _ports(db, name, one))


def gateways_to_broken(db: Database, name: NamespacedName) -> list[NamespacedName]:
    """Return the Gateways that a policy concerns of which only its Services can be read, sorted."""
    broken = db.broken_backend_tls.get(name)
    services = () if broken is None else services_of_broken(broken)
    gateways = {one for service in services for one in _gateways_to(db, service)}
    return sorted(gateways)[:MAX_ANCESTORS]


def _ports(db: Database, policy: NamespacedName, service: str) -> Sequence[str] | None:
    """Return the names of the ports of a Service beside a policy."""
    found = db.services.get(NamespacedName(policy.namespace, service))
    return None if found is None else [one.name for one in found.spec.ports if one.name]


def _gateways_to(db: Database, name: NamespacedName) -> set[NamespacedName]:
    """Return the Gateways of ours that need connections to a Service, be it there or not.

    For requests and copies of them, for TLS that they end, for connections, to ask whether requests
    may pass, or to tell of them.
    """
    found = set(gateways_naming(db, name))
    for route in db.routes.bucket("used", name):
        over_tls = route.kind == TLSRoute.kind
        found |= {one for one in gateways_of(db, route) if not over_tls or _ends_tls(db, one)}
    found |= {one for one in db.gateways.bucket("used", name) if is_our_gateway(db, one)}
    sets = (
        gateway_of(db, one) for one in db.listener_sets.bucket("used", name) if is_let_in(db, one)
    )
    return found | {one for one in sets if one is not None}


@query
def _ends_tls(db: Database, gateway: NamespacedName) -> bool:
    """Tell whether a Gateway ends TLS for TLSRoutes; else it hands on what they get."""
    listeners = (one.own for one in placed_listeners(db, gateway))
    return any(one.protocol == TLS and terminates_tls(one) for one in listeners)


def gateways_of(db: Database, name: ObjectRef) -> set[NamespacedName]:
    """Return the Gateways of ours that a route names."""
    route = head(db, name)
    found: set[NamespacedName] = set()
    for parent in route.parents if route is not None else ():
        kind, target = kind_of(parent), target_of(parent, name.key)
        if served_as(kind) is not ParentKind.GATEWAY:
            continue
        if kind is ParentKind.LISTENER_SET:
            gateway = gateway_of(db, target)
        else:
            gateway = target if is_our_gateway(db, target) else None
        if gateway is not None:
            found.add(gateway)
    return found
