"""What an Ingress means, in objects of the Gateway API: entries, routes, and permissions.

The objects are never written anywhere. Their names and their namespace cannot be those of real
objects, so nobody can refer to them. Order among routes is that of the Gateway API: Exact before
expressions before prefixes, the longer first, then the older Ingress, then its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from penstock.core.kinds import Service
from penstock.core.objects import ObjectMeta
from penstock.gatewayapi.fields import GATEWAY_GROUP, ParentReference, SecretObjectReference
from penstock.gatewayapi.resources import (
    AllowedRoutes,
    FromNamespaces,
    Gateway,
    GatewaySpec,
    HTTPRoute,
    HTTPRouteSpec,
    Listener,
    ListenerTLSConfig,
    ReferenceGrant,
    ReferenceGrantFrom,
    ReferenceGrantSpec,
    ReferenceGrantTo,
    RouteNamespaces,
)
from penstock.gatewayapi.rules import HTTPRouteMatch, HTTPRouteRule
from penstock.ingress.affinity import Affinity
from penstock.ingress.annotations import Options
from penstock.ingress.passthrough import IngressStream, passed_hosts, streams
from penstock.ingress.resources import Ingress
from penstock.ingress.rules import (
    Canaries,
    Place,
    metadata_of,
    one_label,
    redirecting,
    serving,
    to_default,
)
from penstock.ir.route import NO_GUARDS, Guards
from penstock.ir.upstream import Upstream, UpstreamTls
from penstock.meta.names import NamespacedName, ObjectRef

ENTRY_NAMESPACE = "~ingress"
"""Namespace of the Gateways that stand for entries; no real one has such a name."""
ENTRY_CLASS = "~ingress"
HTTP, HTTPS = 80, 443
ANY = ""
FindService = Callable[[NamespacedName], Service | None]


class IngressRoute(HTTPRoute, frozen=True, kw_only=True):
    """Rules of one host of an Ingress."""

    ingress: ObjectRef
    places: tuple[str, ...]
    """Of each rule the path in the Ingress, as "spec.rules[0].http.paths[1]"."""
    idle_timeout_ms: int = 0
    affinity: Affinity | None = None
    """What its sessions are like."""
    guards: Guards = NO_GUARDS
    upstream: Upstream | None = None


OfIngress = IngressRoute | IngressStream
"""A route that comes from an Ingress."""


class Derived(msgspec.Struct, frozen=True, kw_only=True):
    """What one Ingress of ours means."""

    ingress: Ingress
    entry: NamespacedName
    """The Gateway by which it is reached."""
    routes: tuple[IngressRoute, ...]
    certificates: tuple[tuple[str, str], ...]
    """(host, name of a Secret in its namespace); ANY is every host."""
    streams: tuple[IngressStream, ...] = ()
    passed: tuple[str, ...] = ()
    """Hosts of which TLS is passed on as it is."""
    host_port: int = 0
    """At the nodes, where they share their addresses, the port of its entry; 0 is 80 and 443."""

    @property
    def upstream_tls(self) -> UpstreamTls | None:
        """Return how TLS is spoken to endpoints; None if the Ingress says nothing of it."""
        asked = (one.upstream for one in self.routes)
        return next((one.tls for one in asked if one is not None), None)

    @property
    def shown(self) -> NamespacedName | None:
        """Return the Secret for TLS towards endpoints; None if none is named."""
        return None if self.upstream_tls is None else self.upstream_tls.secret

    @property
    def every_route(self) -> tuple[OfIngress, ...]:
        """Return the routes of requests and those of connections."""
        return (*self.routes, *self.streams)

    @property
    def grant(self) -> ReferenceGrant | None:
        """Return the permission to use its Secrets, None if it has none."""
        names = dict.fromkeys(secret for _, secret in self.certificates)
        if not names:
            return None
        key = self.ingress.key
        who = ReferenceGrantFrom(group=GATEWAY_GROUP, kind="Gateway", namespace=ENTRY_NAMESPACE)
        return ReferenceGrant(
            metadata=ObjectMeta(name=f"ingress~{key.name}", namespace=key.namespace),
            spec=ReferenceGrantSpec(
                from_=(who,),
                to=tuple(ReferenceGrantTo(group="", kind="Secret", name=one) for one in names),
            ),
        )


def entry_of(ingress: Ingress, class_name: str, *, dedicated: bool) -> NamespacedName:
    """Return the name of the Gateway by which *ingress* is reached."""
    key = ingress.key
    name = f"{key.namespace}~{key.name}" if dedicated else f"{class_name}~"
    return NamespacedName(ENTRY_NAMESPACE, name)


def derive(
    ingress: Ingress, class_name: str, asked: Options, canaries: Canaries, service: FindService
) -> Derived:
    """Return what *ingress* means.

    Args:
        ingress: one of ours.
        class_name: of its class.
        asked: what its annotations come to.
        canaries: of its namespace, by host and path.
        service: finds Services, for ports that are given by their names.
    """
    entry = entry_of(ingress, class_name, dedicated=asked.dedicated)
    at = Place(ingress=ingress, asked=asked, canaries=canaries, service=service)
    parent = ParentReference(namespace=entry.namespace, name=entry.name)
    if asked.passthrough:
        return Derived(
            ingress=ingress,
            entry=entry,
            routes=tuple(_attached(route, parent) for route in _redirects(at)),
            certificates=(),
            streams=tuple(_attached(route, parent) for route in streams(at, HTTPS)),
            passed=passed_hosts(ingress),
        )
    routes = () if asked.canary is not None else tuple(_routes(at))
    return Derived(
        ingress=ingress,
        entry=entry,
        routes=tuple(_attached(route, parent) for route in routes),
        certificates=certificates(ingress),
        host_port=0 if needs_two_ports(ingress, asked) else asked.exposing.host_port,
    )


def certificates(ingress: Ingress) -> tuple[tuple[str, str], ...]:
    """Return (host, Secret) of the certificates of *ingress*, each once."""
    found = [
        (host, one.secret_name)
        for one in ingress.spec.tls
        if one.secret_name
        for host in one.hosts or (ANY,)
    ]
    return tuple(dict.fromkeys(found))


def needs_two_ports(ingress: Ingress, asked: Options) -> bool:
    """Tell whether TLS is ended or passed on for *ingress*, or plain requests are led to it.

    A port of a Gateway is for plain requests or for TLS.
    """
    return bool(certificates(ingress)) or asked.passthrough or asked.redirect is True


def is_secure(ingress: Ingress, host: str) -> bool:
    """Return whether *ingress* has a certificate for *host*, whether the Secret exists or not."""
    named = {one for one, _ in certificates(ingress)}
    above = "*." + host.partition(".")[2]
    return bool(named & {host, above, ANY})


def gateway(name: NamespacedName, reached: Sequence[Derived], *, at_nodes: bool = False) -> Gateway:
    """Return the Gateway of an entry.

    Args:
        name: of the entry.
        reached: the Ingresses that are reached by it, at least one; the oldest has the say about
            the addresses that are kept.
        at_nodes: nodes share their addresses, so that an entry may have a port of its own.
    """
    ordered = sorted(reached, key=lambda one: age(one.ingress))
    held = next((one.ingress.assigned for one in ordered if one.ingress.assigned), ())
    plain = (ordered[0].host_port if at_nodes else 0) or HTTP
    listeners = [_listener("http", plain, "HTTP"), *_secure_listeners(ordered)]
    created = ordered[0].ingress.metadata.creation_timestamp
    return Gateway(
        metadata=ObjectMeta(name=name.name, namespace=name.namespace, creation_timestamp=created),
        spec=GatewaySpec(gateway_class_name=ENTRY_CLASS, listeners=tuple(listeners)),
        status={"addresses": [{"type": "IPAddress", "value": one} for one in held]},
    )


def age(ingress: Ingress) -> tuple[str, NamespacedName]:
    """Return the place of *ingress* among those that want the same: the older one goes first."""
    return ingress.metadata.creation_timestamp, ingress.key


def listener_name(host: str) -> str:
    """Return the name of the HTTPS listener of *host* at its entry."""
    return f"https-{host.replace('*', 'any') or 'all'}"


def passing_name(host: str) -> str:
    """Return the name of the listener that passes on TLS for *host* at its entry."""
    return f"tls-{host.replace('*', 'any')}"


def _secure_listeners(ordered: Iterable[Derived]) -> Iterator[Listener]:
    """Yield the listeners of TLS; a host is ended or passed on as the oldest Ingress wants it."""
    found: dict[str, list[SecretObjectReference] | None] = {}
    for one in ordered:
        found.update({host: None for host in one.passed if host not in found})
        for host, secret in one.certificates:
            named = found.setdefault(host, [])
            if named is not None:
                namespace = one.ingress.metadata.namespace
                named.append(SecretObjectReference(name=secret, namespace=namespace))
    for host, references in sorted(found.items()):
        if references is None:
            listener = _listener(passing_name(host), HTTPS, "TLS")
            tls = ListenerTLSConfig(mode="Passthrough")
        else:
            listener = _listener(listener_name(host), HTTPS, "HTTPS")
            tls = ListenerTLSConfig(certificate_refs=tuple(dict.fromkeys(references)))
        yield msgspec.structs.replace(listener, hostname=host or None, tls=tls)


def _listener(name: str, port: int, protocol: str) -> Listener:
    everybody = AllowedRoutes(namespaces=RouteNamespaces(from_=FromNamespaces.ALL))
    return Listener(name=name, port=port, protocol=protocol, allowed_routes=everybody)


_R = TypeVar("_R", bound=OfIngress)


def _attached(route: _R, to: ParentReference) -> _R:
    """Return *route* at the entry *to*; its parents say the port so far."""
    parents = tuple(msgspec.structs.replace(to, port=one.port) for one in route.spec.parent_refs)
    spec = msgspec.structs.replace(route.spec, parent_refs=parents)
    return msgspec.structs.replace(route, spec=spec)


class _Writer(msgspec.Struct, frozen=True):
    """Makes the routes of one Ingress."""

    ingress: Ingress
    asked: Options

    def route(
        self, part: str, hosts: Iterable[str], rules: Sequence[tuple[str, HTTPRouteRule]], port: int
    ) -> IngressRoute:
        """Return the route *part*; rules come with their paths, port 0 is every port."""
        return IngressRoute(
            metadata=metadata_of(self.ingress, part),
            spec=HTTPRouteSpec(
                parent_refs=(ParentReference(name="entry", port=port or None),),
                hostnames=tuple(host for host in hosts if host),
                rules=tuple(rule for _, rule in rules),
            ),
            ingress=self.ingress.ref,
            places=tuple(place for place, _ in rules),
            idle_timeout_ms=self.asked.idle_timeout_ms,
            affinity=self.asked.affinity,
            guards=self.asked.guards,
            upstream=self.asked.upstream,
        )


def _redirects(at: Place) -> Iterator[IngressRoute]:
    """Yield what leads plain requests for hosts whose TLS is passed on to HTTPS."""
    if at.asked.redirect is False:
        return
    writer = _Writer(at.ingress, at.asked)
    for index, rule in enumerate(at.ingress.spec.rules):
        if rule.host:
            match = HTTPRouteMatch(headers=one_label(rule.host))
            answer = redirecting(HTTPRouteRule(matches=(match,)))
            one = writer.route(
                f"{index}-http", (rule.host,), [(f"spec.rules[{index}]", answer)], HTTP
            )
            yield msgspec.structs.replace(one, guards=NO_GUARDS)


def _routes(at: Place) -> Iterator[IngressRoute]:
    ingress = at.ingress
    writer = _Writer(ingress, at.asked)
    for index, rule in enumerate(ingress.spec.rules):
        rules = list(serving(at, rule, index))
        if rules:
            yield from _of_host(writer, str(index), rule.host, rules)
    if ingress.spec.default_backend is not None:
        rules = [to_default(at, ingress.spec.default_backend)]
        hosts = dict.fromkeys(one.host for one in ingress.spec.rules if one.host)
        for place, host in enumerate(hosts):
            yield from _of_host(writer, f"default-{place}", host, rules)
        yield from _of_host(writer, "default", ANY, rules)


def _of_host(
    writer: _Writer, part: str, host: str, rules: Sequence[tuple[str, HTTPRouteRule]]
) -> Iterator[IngressRoute]:
    wanted = writer.asked.redirect
    secure = is_secure(writer.ingress, host)
    if wanted is False or (wanted is None and not secure):
        yield writer.route(part, (host,), rules, 0)
        return
    answers = [(place, redirecting(rule)) for place, rule in rules]
    redirects = writer.route(f"{part}-http", (host,), answers, HTTP)
    yield msgspec.structs.replace(redirects, guards=NO_GUARDS)
    yield writer.route(part, (host,), rules, HTTPS)


_RULE = re.compile(r"spec\.rules\[(\d+)\]")


def place_in_ingress(route: OfIngress, path: str) -> str:
    """Return what a path in *route* is in the Ingress, as exactly as that can be told."""
    found = _RULE.match(path)
    if found is None or int(found[1]) >= len(route.places):
        return "spec"
    return route.places[int(found[1])]
