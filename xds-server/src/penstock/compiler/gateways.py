"""Queries about what Gateways serve by HTTP: their hosts on each port, and the scopes for them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from google.protobuf.message import Message

from penstock.compiler.attached import Claim, PlaceAt, claims_at, parent_at
from penstock.compiler.crowded_hosts import (
    Built,
    BuiltPortion,
    ClaimAt,
    ClaimsAt,
    assembled,
    framed,
    in_order,
    order_of,
)
from penstock.compiler.database import Database
from penstock.compiler.gateway_clusters import clusters_at, needs_of
from penstock.compiler.gateway_ports import (
    GatewayHost,
    GatewayPort,
    covering_listeners,
    http_listeners_on,
    listeners_on,
    owner,
    placed_on,
    scheme,
)
from penstock.compiler.listener_filters import asked_for
from penstock.compiler.portions import CROWD, portions
from penstock.compiler.routing import RankedFor, ranked_for
from penstock.compiler.scopes import clusters_asked, clusters_of
from penstock.compiler.telemetry import is_traced
from penstock.compiler.weights import weights_in_runtime
from penstock.envoy import guards
from penstock.envoy.cluster import Role
from penstock.envoy.listener import EXACT, HOST_FILTER
from penstock.envoy.route import virtual_host as build_host
from penstock.envoy.scope import gateway_key, scope
from penstock.envoy.tls import misdirected
from penstock.envoy.wire import pack
from penstock.gatewayapi.attach import HTTP_PROTOCOLS
from penstock.gatewayapi.hostname import ANY, covering, covers
from penstock.gatewayapi.listener_filters import Asked, filters_of
from penstock.gatewayapi.merge import virtual_host
from penstock.incremental.query import query
from penstock.ir.route import InvalidBackend, VirtualHost
from penstock.meta.names import Origin
from penstock.pb.envoy.config.core.v3 import base_pb2
from penstock.pb.envoy.config.route.v3 import route_components_pb2 as route_pb2
from penstock.pb.envoy.config.route.v3 import scoped_route_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, encode_resource, make_resource


def claimed_on(db: Database, key: GatewayHost) -> bool:
    """Tell whether some route asks for just this hostname by HTTP on a port."""
    for one in covering_listeners(db, key):
        if one.protocol in HTTP_PROTOCOLS:
            place = PlaceAt(key.at.gateway, one.name, key.hostname)
            if claims_at(db, place):
                return True
    return False


@query
def listeners_hosts(db: Database, at: GatewayPort) -> tuple[str, ...]:
    """Return the hostnames of listeners that are asked for by HTTP on a port, sorted.

    Where there are several listeners, theirs are among them: what is one listener's is never
    another's, routes or not.
    """
    http = http_listeners_on(db, at)
    if not http:
        return ()
    here = listeners_on(db, at)
    found: set[str] = set()
    if len(here) > 1:
        secure = scheme(db, at) == "https"
        found = {one.hostname or ANY for one in here if one.hostname or secure}
    # Whoever is asked before there is a route is asked without one, too.
    found.update(one.hostname or ANY for one in http if filters_of(one))
    own = {one.hostname or ANY for one in http} - found
    found.update(name for name in own if claimed_on(db, GatewayHost(at, name)))
    return tuple(sorted(found))


@query
def exact_listeners_hosts(db: Database, at: GatewayPort) -> tuple[str, ...]:
    """Return those of them that stand for one host."""
    return tuple(name for name in listeners_hosts(db, at) if not name.startswith("*"))


@query
def wide_hosts(db: Database, at: GatewayPort) -> tuple[str, ...]:
    """Return the hostnames that stand for several hosts and are asked for on a port, sorted."""
    found = {name for name in listeners_hosts(db, at) if name.startswith("*")}
    if http_listeners_on(db, at):
        for parent in dict.fromkeys(map(parent_at, placed_on(db, at))):
            found.update(
                one.hostname
                for one in db.hostnames.bucket("wide", parent)
                if claimed_on(db, GatewayHost(at, one.hostname))
            )
    return tuple(sorted(found))


@query
def may_misdirect(db: Database, at: GatewayPort) -> bool:
    """Tell whether connections of one listener may carry requests for another."""
    return scheme(db, at) == "https" and len(listeners_on(db, at)) > 1


@query
def claims_of(db: Database, key: GatewayHost) -> tuple[Claim, ...]:
    """Return the claims that count for requests to a hostname.

    One listener owns the hostname; of the routes there, those for wider hostnames count too, after
    those for narrower ones, if they are of the same kind.
    """
    listener = owner(db, key)
    if listener is None:
        return ()
    own = listener.hostname or ANY
    here = [
        claim
        for wide in covering(key.hostname)
        if covers(own, wide)
        for claim in claims_at(db, PlaceAt(key.at.gateway, listener.name, wide))
    ]
    kind = here[0].route.kind if here else ""
    return tuple(claim for claim in here if claim.route.kind == kind)


@query
def wide_host(db: Database, key: GatewayHost) -> VirtualHost:
    """Return the routes for a hostname that stands for several, on a port of a Gateway.

    All of them are in one scope, so each is remembered.
    """
    return _host(db, key, claims_of(db, key))


def _host(db: Database, key: GatewayHost, claims: Iterable[Claim]) -> VirtualHost:
    return virtual_host(
        key.hostname, [ranked_for(db, RankedFor(one.route, one.written)) for one in claims]
    )


def _build(
    db: Database,
    key: GatewayHost,
    host: VirtualHost,
    into: route_pb2.VirtualHost,
    *,
    catch_all: bool,
) -> None:
    asked = asked_for(db, key)
    _build_host(db, key.at, host, into, catch_all=catch_all or bool(asked), asked=asked)
    listener = owner(db, key) if may_misdirect(db, key.at) else None
    if listener is not None:
        elsewhere = misdirected(listener.name)
        for name, nothing in guards.passing_by(len(asked)):
            elsewhere.typed_per_filter_config[name].CopyFrom(pack(nothing))
        into.routes.insert(0, elsewhere)


def _build_host(
    db: Database,
    at: GatewayPort,
    host: VirtualHost,
    into: route_pb2.VirtualHost,
    *,
    catch_all: bool,
    asked: Asked,
) -> None:
    build_host(
        host,
        clusters_at(db, at.gateway),
        runtime_weights=weights_in_runtime(db, None),
        catch_all=catch_all,
        asked=asked,
        port=at.port,
        scheme=scheme(db, at),
        traced=is_traced(db, at.gateway),
        into=into,
    )


@query
def exact_scope(db: Database, key: GatewayHost) -> Resource:
    """Return the scope of an exact hostname."""
    claims = claims_of(db, key)
    if len(claims) >= CROWD:
        return _crowded_scope(db, key, claims)
    host = _host(db, key, claims)
    name, made = _exact_scope(db, key, host)
    return _resource(db, key.at, name, made, {key: host})


def _exact_scope(
    db: Database, key: GatewayHost, host: VirtualHost
) -> tuple[str, scoped_route_pb2.ScopedRouteConfiguration]:
    """Return name and content of the scope of an exact hostname with the routes of *host*."""
    # The domain is "*": the scope is chosen by the host already, in whatever way it is written.
    everything = msgspec.structs.replace(host, hostname="*")
    name = gateway_key(str(key.at), key.hostname)
    made = scope(name, per_filter={HOST_FILTER: _DISABLED})
    built = made.route_configuration.virtual_hosts.add()
    _build(db, key, everything, built, catch_all=True)
    for route in built.routes:
        route.metadata.MergeFromString(_exact())
    return name, made


def _crowded_scope(db: Database, key: GatewayHost, claims: Sequence[Claim]) -> Resource:
    """Return the scope of an exact hostname that very many routes ask for."""
    name, made = _exact_scope(db, key, VirtualHost(hostname=key.hostname, routes=()))
    own = made.route_configuration.virtual_hosts[0].routes
    before = framed(own[:-1])  # the last one answers 404 to what no route matches
    del own[:-1]
    some = [
        _portion(db, ClaimsAt(key.at, part))
        for part in portions(claims, lambda claim: claim.route.name)
    ]
    body = assembled(made, before, in_order(one for part in some for one in part.routes))
    origins = sorted({origin for part in some for origin in part.origins})
    needs = {need for part in some for need in part.needs}
    needs.update(_needs_of_asked(db, key))
    origins.append(Origin.of("Gateway", key.at.gateway))
    return make_resource(types.SCOPE, name, body, origins, needs)


@query
def _portion(db: Database, key: ClaimsAt) -> BuiltPortion:
    """Return what some of those who ask for an exact hostname add to its scope."""
    return BuiltPortion.of(
        one for claim in key.claims for one in _built(db, ClaimAt(key.at, claim))
    )


@query
def _built(db: Database, key: ClaimAt) -> tuple[Built, ...]:
    """Return what somebody who asks for an exact hostname adds to its scope."""
    found: list[Built] = []
    for one in ranked_for(db, RankedFor(key.claim.route, key.claim.written)):
        host = VirtualHost(hostname=ANY, routes=(one.route,))
        made = route_pb2.VirtualHost()
        _build_host(db, key.at, host, made, catch_all=False, asked=())
        for route in made.routes:
            route.metadata.MergeFromString(_exact())
        needs = {*clusters_of(host, Role.GATEWAY), *needs_of(db, key.at.gateway, host)}
        found.append(
            Built(
                order_of(one.rank),
                one.route.name,
                framed(made.routes),
                one.route.origin,
                frozenset(needs),
            )
        )
    return tuple(found)


@functools.cache
def _exact() -> bytes:
    """Return what says of a route that it belongs to an exact host, as its metadata."""
    result = base_pb2.Metadata()
    result.filter_metadata[HOST_FILTER].update({EXACT: 1})
    return result.SerializeToString(deterministic=True)


_DISABLED = pack(route_pb2.FilterConfig(disabled=True))


@query
def wildcard_scope(db: Database, at: GatewayPort) -> Resource:
    """Return the scope of all hostnames that are not exact."""
    keys = [GatewayHost(at, name) for name in wide_hosts(db, at)]
    hosts = {key: wide_host(db, key) for key in keys}
    name = gateway_key(str(at), "*")
    made = scope(name)
    for key, host in hosts.items():
        _build(db, key, host, made.route_configuration.virtual_hosts.add(), catch_all=False)
    return _resource(db, at, name, made, hosts)


def _resource(
    db: Database, at: GatewayPort, name: str, made: Message, hosts: dict[GatewayHost, VirtualHost]
) -> Resource:
    origins = sorted({route.origin for host in hosts.values() for route in host.routes})
    needs: set[ResourceName] = set()
    for key, host in hosts.items():
        needs.update(clusters_of(host, Role.GATEWAY))
        needs.update(needs_of(db, at.gateway, host))
        needs.update(_needs_of_asked(db, key))
    return encode_resource(
        types.SCOPE, name, made, [*origins, Origin.of("Gateway", at.gateway)], needs
    )


def _needs_of_asked(db: Database, key: GatewayHost) -> Iterator[ResourceName]:
    """Yield what a node must have to ask about requests to a hostname."""
    for one in asked_for(db, key):
        if not isinstance(one, InvalidBackend):
            yield from clusters_asked(one)
