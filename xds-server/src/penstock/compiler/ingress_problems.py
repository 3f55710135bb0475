"""Queries about what is wrong with Ingresses, by themselves and beside other objects."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.compiler.certificates import listener_certificates
from penstock.compiler.database import Database
from penstock.compiler.generated_services import current
from penstock.compiler.merged_listeners import ListenerOf, placed_at
from penstock.compiler.routing import ParentOf, RouteFor, translated
from penstock.compiler.settings import Addressing
from penstock.compiler.shadows import shadows
from penstock.compiler.upstreams import fault_of_secret
from penstock.core import jsonpath
from penstock.gatewayapi.shadows import Shadow
from penstock.gatewayapi.shadows import problems as shadow_problems
from penstock.incremental.query import query
from penstock.ingress.annotations import options
from penstock.ingress.derive import (
    Derived,
    IngressRoute,
    listener_name,
    passing_name,
    place_in_ingress,
)
from penstock.ingress.problems import problems
from penstock.ingress.reader import NGINX
from penstock.ingress.resources import Ingress, placed_backends
from penstock.meta.names import NamespacedName, Origin
from penstock.meta.problems import Problem, Severity


def ingress_problems(db: Database, ingress: Ingress) -> Iterator[Problem]:
    """Yield what is wrong with an Ingress, by itself and beside other objects."""
    found = db.ingresses.get(ingress.key)
    if found is None:
        name = ingress.class_name
        if name is None or db.ingress_classes.get(NamespacedName("", name)) is None:
            text = f"IngressClass {name} does not exist" if name else "there is no default class"
            hint = "without it nobody serves the Ingress"
            yield Problem("spec.ingressClassName", text, hint, Severity.WARNING)
        return
    yield from problems_of_ours.once(db, ingress.key)


@query
def problems_of_ours(db: Database, name: NamespacedName) -> tuple[Problem, ...]:
    """Return what is wrong with an Ingress of ours; nothing of others."""
    found = db.ingresses.get(name)
    return () if found is None else tuple(_of_ours(db, found))


def _of_ours(db: Database, found: Derived) -> Iterator[Problem]:
    yield from problems(found.ingress)
    told: set[Problem] = set()
    for route in found.every_route:
        rules = translated(db, RouteFor(route.ref, mesh=False))
        told.update(rules.problems if rules is not None else ())
    lost = {one.path: one for one in _lost_ports(db, found.ingress)}
    yield from sorted({lost.get(one.path, one) for one in told})
    yield from shadow_problems(sorted(set(_shadows(db, found))))
    yield from _of_entry(db, found.ingress.key) if found.passed or found.ingress.spec.tls else ()
    yield from _of_service(db, found)
    fault = "" if found.upstream_tls is None else fault_of_secret(db, found.upstream_tls)
    if fault:
        path = jsonpath.member("metadata.annotations", NGINX + "proxy-ssl-secret")
        yield Problem(path, fault, "its backends are not connected to: 503", Severity.WARNING)


@query
def _of_entry(db: Database, name: NamespacedName) -> tuple[Problem, ...]:
    """Return what is wrong with the TLS of an Ingress, at an entry that it shares with many others.

    Of these nothing is looked at but the listeners of its own hosts.
    """
    found = db.ingresses.get(name)
    if found is None:
        return ()
    return (*_certificate_problems(db, found), *_contested(db, found))


def _of_service(db: Database, found: Derived) -> Iterator[Problem]:
    """Yield what cannot be had of the Service by which an Ingress is reached."""
    asked = options(found.ingress).exposing
    if asked.host_port and db.settings.addressing is not Addressing.NODES:
        text, hint = "addresses here are not those of nodes", "it is without effect: port 80"
        path = jsonpath.member("metadata.annotations", asked.host_port_by)
        yield Problem(path, text, hint, Severity.WARNING)
    if asked.by and db.settings.addressing is not Addressing.LOAD_BALANCER:
        for name in asked.by:
            text, hint = "addresses here are not those of a cloud", "it is without effect"
            path = jsonpath.member("metadata.annotations", name)
            yield Problem(path, text, hint, Severity.WARNING)
        return
    service, wanted = current(db, found.entry), asked.exposed.load_balancer_class
    if service is None or not wanted or asked.exposed.type != "LoadBalancer":
        return
    if service.spec.type == "LoadBalancer" and service.spec.load_balancer_class != wanted:
        name = next(one for one in asked.by if one.endswith("loadbalancer-class"))
        text = f"Service {service.key} is of another class, and that cannot be changed"
        path = jsonpath.member("metadata.annotations", name)
        yield Problem(path, text, "delete the Service to have a new one made", Severity.WARNING)


def _contested(db: Database, found: Derived) -> Iterator[Problem]:
    """Yield the hosts of which an older Ingress ends TLS where this passes it on, or otherwise."""

    def listens(name: str) -> bool:
        return placed_at(db, ListenerOf(found.entry, name)) is not None

    hint = "it has the host; one of them must let go of it"
    for index, rule in enumerate(found.ingress.spec.rules):
        if rule.host in found.passed and listens(listener_name(rule.host)):
            text = f"an older Ingress ends TLS for {rule.host}"
            yield Problem(f"spec.rules[{index}].host", text, hint, Severity.WARNING)
    for index, tls in enumerate(found.ingress.spec.tls if not found.passed else ()):
        for host in tls.hosts:
            if tls.secret_name and listens(passing_name(host)):
                text = f"an older Ingress passes on TLS for {host}"
                yield Problem(f"spec.tls[{index}]", text, hint, Severity.WARNING)


def _shadows(db: Database, found: Derived) -> Iterator[Shadow]:
    """Yield the paths that other Ingresses have for the same host."""
    for route in found.routes:
        for one in shadows(db, ParentOf(route.ref, 0)):
            other = db.routes.get(one.first.object)
            if isinstance(other, IngressRoute) and other.ingress != route.ingress:
                first = Origin(other.ingress, place_in_ingress(other, one.first.path))
                path = place_in_ingress(route, one.path)
                yield Shadow(path, one.where.partition(" at ")[0], first)


def _lost_ports(db: Database, ingress: Ingress) -> Iterator[Problem]:
    """Yield the paths whose Service is there and has no port of the name that is given."""
    for place, backend in placed_backends(ingress):
        named = backend.service.port.name if backend.service is not None else ""
        if backend.service is None or not named:
            continue
        key = NamespacedName(ingress.metadata.namespace, backend.service.name)
        service = db.services.get(key)
        if service is not None and all(one.name != named for one in service.spec.ports):
            text = f"Service {key} has no port named {named}"
            hint = "its share of requests is answered with 500"
            yield Problem(place, text, hint, Severity.WARNING)


def _certificate_problems(db: Database, found: Derived) -> Iterator[Problem]:
    """Yield what is wrong with the Secrets of an Ingress."""
    hint = "handshakes of its hosts are refused unless another Ingress has a certificate for them"
    for index, tls in enumerate(found.ingress.spec.tls):
        for host in tls.hosts or ("",):
            state = listener_certificates(db, ListenerOf(found.entry, listener_name(host)))
            key = NamespacedName(found.ingress.metadata.namespace, tls.secret_name)
            if state is None or not tls.secret_name or key in state.usable:
                continue
            texts = [one.message for one in state.unusable if str(key) in one.message]
            text = f"{host or 'all hosts'}: {'; '.join(texts) or f'Secret {key} is not usable'}"
            yield Problem(f"spec.tls[{index}].secretName", text, hint, Severity.WARNING)
