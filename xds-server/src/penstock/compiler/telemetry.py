"""Queries about traces: which Gateways have any, and where the collectors are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from penstock.compiler.backend_tls import tls_towards
from penstock.compiler.database import Database
from penstock.compiler.endpoints import port_of
from penstock.compiler.gateway_classes import is_our_gateway
from penstock.compiler.indexes import ALL
from penstock.compiler.routing import references
from penstock.compiler.selected import external_place
from penstock.compiler.services import OTLP_HTTP_PORT, otlp_by_grpc
from penstock.compiler.telemetry_targets import any_policies, gateways_naming, holding
from penstock.core import jsonpath
from penstock.envoy import cluster as clusters
from penstock.envoy.cluster import Protocol, Role, cluster_name
from penstock.envoy.external import external_cluster
from penstock.envoy.tracing import RUNTIME
from penstock.envoy.upstream_tls import secure
from penstock.gatewayapi import telemetry
from penstock.gatewayapi.backends import TLS_PROTOCOLS, Unresolved
from penstock.gatewayapi.fields import LocalObjectReference
from penstock.gatewayapi.telemetry_policy import XTelemetryPolicy, is_gateway
from penstock.incremental.query import query
from penstock.ir.backend_tls import BackendTls
from penstock.ir.external import External, Place, Selected, Spoken, target_of_xbackend
from penstock.ir.route import ServicePort
from penstock.ir.tracing import Collector, Tracing
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName
from penstock.meta.problems import Problem, Severity
from penstock.xds import types
from penstock.xds.resource import Resource, encode_resource

States = tuple[tuple[dict[str, Any], tuple[Condition, ...]], ...]
"""Targets of a policy, as references, and what it comes to at each."""


@query
def collector(db: Database, name: NamespacedName) -> Collector | Unresolved | None:
    """Return who is told the traces of a policy, or why nobody can be; None if nothing is."""
    policy = db.telemetry.get(name)
    found = None if policy is None else telemetry.named_backend(policy, references(db))
    match found:
        case ServicePort():
            return _at_service(db, found)
        case External() | Selected():
            return _at_xbackend(found)
        case _:
            return found


def _at_xbackend(place: Place) -> Collector:
    name = place.origin.object.key
    unsaid = place.spoken is Spoken.ANY and place.port != OTLP_HTTP_PORT
    return Collector(
        target=target_of_xbackend(name),
        host=place.hostname if isinstance(place, External) else f"{name.name}.{name.namespace}",
        grpc=place.spoken is Spoken.HTTP2 or unsaid,
    )


def _at_service(db: Database, target: ServicePort) -> Collector | Unresolved:
    service = db.services.get(target.service)
    spec = port_of(service, target.port) if service is not None else None
    if spec is None:
        return Unresolved("BackendNotFound", f"there is no Service {target.service}")
    if spec.app_protocol in TLS_PROTOCOLS and not isinstance(tls_towards(db, target), BackendTls):
        where = f"port {target.port} of Service {target.service}"
        return Unresolved("UnsupportedProtocol", f"{where} needs TLS; add a BackendTLSPolicy")
    host = f"{target.service.name}.{target.service.namespace}"
    return Collector(target=target, host=host, grpc=otlp_by_grpc(spec))


@query
def traces(db: Database, gateway: NamespacedName) -> Tracing | None:
    """Return the traces of a Gateway; None if it is not traced."""
    name = holding(db, gateway) if any_policies(db) else None
    policy = db.telemetry.get(name) if name is not None else None
    found = collector(db, policy.key) if policy is not None else None
    if policy is None or not isinstance(found, Collector):
        return None
    return telemetry.tracing(policy, found)


@query
def is_traced(db: Database, gateway: NamespacedName) -> bool:
    """Tell whether anything is told of the requests of a Gateway."""
    return traces(db, gateway) is not None


@query
def collects(db: Database, target: ServicePort) -> bool:
    """Tell whether traces of a Gateway may go to a Service port, or what stands for an XBackend."""
    found = (collector(db, name) for name in db.telemetry.bucket("collector", target))
    return any(isinstance(one, Collector) and one.target == target for one in found)


@query
def gateways_telling(db: Database, target: ServicePort) -> frozenset[NamespacedName]:
    """Return the Gateways of ours whose traces go to a Service port, or an XBackend's stand-in."""
    named = gateways_naming(db, target.service)
    return frozenset(one for one in named if _tells(db, one, target))


def _tells(db: Database, gateway: NamespacedName, target: ServicePort) -> bool:
    found = traces(db, gateway)
    return found is not None and found.collector.target == target


@query
def cluster_of_xbackend(db: Database, name: NamespacedName) -> Resource | None:
    """Return the Cluster of an XBackend that traces go to."""
    place, netns = external_place(db, name), db.settings.dial_netns
    if not isinstance(place, External | Selected):
        return None
    to = _at_xbackend(place)
    protocol = Protocol.HTTP2 if to.grpc else Protocol.HTTP1
    if isinstance(place, External):
        made = external_cluster(name, place, protocol, mesh=False, node_netns=netns)
        made.name = cluster_name(Role.TRACES, to.target)
        made.load_assignment.cluster_name = made.name
    else:
        made = clusters.asked(Role.TRACES, to.target, protocol, node_netns=netns)
        if place.tls is not None:
            secure(made, place.tls, http2=to.grpc)
    return encode_resource(types.CLUSTER, made.name, made, [place.origin])


@query
def runtime_keys(db: Database, _: None) -> dict[str, int]:
    """Return the runtime keys of all tracers; none if nothing is to be traced."""
    return RUNTIME if db.telemetry.holds("enabled", ALL) else {}


@query
def telemetry_state(db: Database, name: NamespacedName) -> States | None:
    """Return the targets of a policy that are ours to tell about, and what it comes to at each.

    Gateways of others are theirs. One that is not there may be anybody's.
    """
    policy = db.telemetry.get(name)
    if policy is None:
        return None
    found: list[tuple[dict[str, Any], tuple[Condition, ...]]] = []
    for target in policy.targets:
        key = NamespacedName(name.namespace, target.name)
        if is_of_others(db, target, key):
            continue
        there = is_gateway(target) and db.gateways.get(key) is not None
        first = holding(db, key) if there else None
        conditions = telemetry.target_conditions(
            policy, target, None if first == name else first, collector(db, name), there=there
        )
        reference = {
            "group": target.group,
            "kind": target.kind,
            "namespace": key.namespace,
            "name": key.name,
        }
        found.append((reference, conditions))
    return tuple(found)


def is_of_others(db: Database, target: LocalObjectReference, key: NamespacedName) -> bool:
    """Tell whether *target*, which means *key*, is a Gateway of another controller."""
    return is_gateway(target) and db.gateways.get(key) is not None and not is_our_gateway(db, key)


def telemetry_problems(db: Database, policy: XTelemetryPolicy) -> Iterator[Problem]:
    """Yield what keeps *policy* from doing what it says."""
    for index, target in enumerate(policy.spec.target_refs):
        key = NamespacedName(policy.metadata.namespace, target.name)
        first = holding.once(db, key) if is_gateway(target) else None
        before = None if first == policy.key else first
        there = db.gateways.get(key) is not None
        (accepted, *_) = telemetry.target_conditions(policy, target, before, None, there=there)
        if not accepted.status:
            text = f"{accepted.reason}: {accepted.message}"
            place = jsonpath.item("spec.targetRefs", index)
            yield Problem(place, text, "the policy is not in force there", Severity.WARNING)
    found = collector.once(db, policy.key)
    if isinstance(found, Unresolved):
        text = f"{found.reason}: {found.message}"
        yield Problem(telemetry.BACKEND, text, "nothing is traced", Severity.WARNING)
    for fault in telemetry.left_out(policy, found) if isinstance(found, Collector) else ():
        yield Problem(fault.path, fault.message, "", Severity.WARNING)
