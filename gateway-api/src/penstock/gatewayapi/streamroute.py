"""Translate one TLSRoute, TCPRoute or UDPRoute: where everything goes that comes, by weight.

Source: Gateway API v1.7, TLSRouteRule, TCPRouteRule, UDPRouteRule. The share of a backend that is
not there is refused, and so is everything while the route cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.core.objects import Broken
from penstock.gatewayapi.backends import References, resolve
from penstock.gatewayapi.faults import STREAM_REFUSAL
from penstock.gatewayapi.precedence import Age
from penstock.gatewayapi.stream_resources import StreamRoute, TCPRoute
from penstock.gatewayapi.translation import (
    PlacedRoute,
    TranslatedRoute,
    default_gateways,
    route_name,
)
from penstock.gatewayapi.verdict import verdict_of, verdict_of_broken
from penstock.ir.route import (
    Backend,
    Forward,
    InvalidBackend,
    Route,
    RouteMatch,
)
from penstock.meta.names import Origin
from penstock.meta.problems import Problem, Severity


def translate(route: StreamRoute | Broken, references: References) -> TranslatedRoute:
    """Return the backends of *route* and what is to be said about it.

    Args:
        route: the object; one that did not decode refuses everything.
        references: how backends are found.
    """
    age = Age.of(route.key, route.metadata.creation_timestamp)
    if isinstance(route, Broken):
        verdict = verdict_of_broken(route, STREAM_REFUSAL)
        return TranslatedRoute(
            key=route.key, age=age, routes=(), verdict=verdict, problems=route.problems
        )
    origin = Origin(route.ref)
    backends = tuple(
        resolve(ref, origin.at(f"spec.rules[{at}].backendRefs[{place}]"), references)
        for at, rule in enumerate(route.spec.rules)
        for place, ref in enumerate(rule.backend_refs)
    )
    problems = (*_problems(backends), *default_gateways(route.spec.use_default_gateways))
    requests = references.mesh and route.kind == TCPRoute.kind
    return TranslatedRoute(
        key=route.key,
        age=age,
        routes=(_of_requests(route, backends),) if requests else (),
        backends=backends,
        verdict=verdict_of([()], backends, route.metadata.generation, STREAM_REFUSAL),
        problems=problems,
    )


def _of_requests(route: StreamRoute, backends: tuple[Backend, ...]) -> PlacedRoute:
    """Return the same for requests: where rules of policies read them, Envoy balances."""
    return PlacedRoute(
        Route(
            name=route_name(route.ref, (0, 0)),
            match=RouteMatch(),
            action=Forward(backends=backends),
            origin=Origin(route.ref),
        ),
        (0, 0),
    )


def _problems(backends: tuple[Backend, ...]) -> Iterator[Problem]:
    for one in backends:
        if isinstance(one, InvalidBackend):
            text = f"{one.reason}: {one.message}"
            yield Problem(one.origin.path, text, "its share is refused", Severity.WARNING)
