"""What the rules of a route become, whatever its kind: one route for each match of each rule.

A rule that cannot be served as written answers an error to what it matches; it is never left out,
because a broader rule would then get its traffic. The other rules are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from penstock.core.objects import Broken, Object
from penstock.gatewayapi.backends import References, resolve, resolve_copied
from penstock.gatewayapi.effects import Effect, MirrorFilter, effect_on_backend
from penstock.gatewayapi.external_auth import external_auth
from penstock.gatewayapi.faults import Fault, Refusal
from penstock.gatewayapi.fields import WeightedBackendReference
from penstock.gatewayapi.filters import HTTPRequestMirrorFilter, HTTPRouteFilter
from penstock.gatewayapi.grpc_resources import GRPCRoute
from penstock.gatewayapi.matches import TranslatedMatch
from penstock.gatewayapi.precedence import Age, PathRank
from penstock.gatewayapi.sessions import Kept
from penstock.gatewayapi.verdict import Verdict, verdict_of, verdict_of_broken
from penstock.ir.route import (
    NO_CHANGE,
    NO_GUARDS,
    Action,
    Backend,
    Cors,
    ExternalAuth,
    Guards,
    HeaderChange,
    InvalidBackend,
    Mirror,
    Respond,
    Rewrite,
    Route,
    RouteMatch,
)
from penstock.meta.names import NamespacedName, ObjectRef, Origin
from penstock.meta.problems import Problem, Severity

UNPREFIXED = "HTTPRoute"
"""The kind whose routes are named without their kind."""

Reference = tuple[WeightedBackendReference, Sequence[HTTPRouteFilter]]
"""A backendRef and its filters."""


class PlacedRoute(msgspec.Struct, frozen=True):
    """A route and where it stands in its object."""

    route: Route
    position: tuple[int, int]
    """Index of the rule, index of the match in it."""
    path: PathRank | None = None
    """Place of its path where HTTPRoute's order does not hold."""


class TranslatedRoute(msgspec.Struct, frozen=True, kw_only=True):
    """What one object asks for, wherever it is attached."""

    key: NamespacedName
    age: Age
    routes: tuple[PlacedRoute, ...]
    backends: tuple[Backend, ...] = ()
    """Of a route that is no HTTP: where everything goes, whoever carries it."""
    verdict: Verdict
    problems: tuple[Problem, ...]

    @property
    def rules(self) -> tuple[Route, ...]:
        """Return the routes in the order of the object."""
        return tuple(placed.route for placed in self.routes)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule, translated; `action` is the refusal exactly if there are faults."""

    origin: Origin
    matches: tuple[TranslatedMatch, ...]
    action: Action
    request_headers: HeaderChange = NO_CHANGE
    response_headers: HeaderChange = NO_CHANGE
    cors: Cors | None = None
    auth: ExternalAuth | None = None
    backends: tuple[Backend, ...]
    lost_mirrors: tuple[InvalidBackend, ...]
    """Where copies should go and cannot."""
    lost_auth: InvalidBackend | None = None
    """Who should be asked and cannot; `action` is the refusal then, too."""
    faults: tuple[Fault, ...]


_Given = TypeVar("_Given")
"""A rule as it is written."""


def translated(
    route: Object,
    rules: Sequence[_Given],
    translate_rule: Callable[[_Given, Origin], Rule],
    refusal: Refusal,
    gateways: str | None,
) -> TranslatedRoute:
    """Return *route*, translated.

    Args:
        route: the object.
        rules: its rules.
        translate_rule: returns what one of them, at its place, becomes.
        refusal: how the route answers what cannot be served.
        gateways: its useDefaultGateways.
    """
    base = Origin(route.ref)
    made = [translate_rule(rule, base.at(f"spec.rules[{at}]")) for at, rule in enumerate(rules)]
    return _assembled(route, made, refusal, default_gateways(gateways))


class Destinations(msgspec.Struct, frozen=True, kw_only=True):
    """Where the requests of a rule go."""

    backends: tuple[Backend, ...]
    mirrors: tuple[Mirror, ...]
    lost_mirrors: tuple[InvalidBackend, ...]
    auth: ExternalAuth | InvalidBackend | None
    """Who is asked whether a request may pass."""
    faults: tuple[Fault, ...]
    """What is wrong with the filters of backends."""

    @property
    def lost_auth(self) -> InvalidBackend | None:
        """Return who should be asked and cannot."""
        auth = self.auth
        return auth if auth is not None and isinstance(auth, InvalidBackend) else None


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the parts of a rule came to that all kinds of routes have."""

    origin: Origin
    matches: tuple[TranslatedMatch, ...]
    effect: Effect
    to: Destinations
    kept: Kept

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Return what is wrong with them."""
        return (
            *[fault for match in self.matches for fault in match.faults],
            *self.effect.faults,
            *self.to.faults,
            *self.kept.faults,
        )

    def rule(
        self, faults: tuple[Fault, ...], action: Callable[[], Action], refusal: Refusal
    ) -> Rule:
        """Return the rule.

        Args:
            faults: all that is wrong with it.
            action: returns what is done with its requests if nothing is.
            refusal: how they are answered else, and where nobody can be asked about them.
        """
        valid, effect, to = not faults, self.effect, self.to
        served = valid and to.lost_auth is None
        return Rule(
            origin=self.origin,
            matches=self.matches,
            action=action() if served else Respond(status=refusal.status),
            request_headers=effect.request_headers if valid else NO_CHANGE,
            response_headers=effect.response_headers if valid else NO_CHANGE,
            cors=effect.cors if valid else None,
            auth=to.auth if valid and isinstance(to.auth, ExternalAuth) else None,
            backends=to.backends,
            lost_mirrors=to.lost_mirrors,
            lost_auth=to.lost_auth,
            faults=faults,
        )


def destinations(
    refs: Iterable[Reference], effect: Effect, origin: Origin, references: References
) -> Destinations:
    """Return where the requests of a rule go.

    Args:
        refs: its backendRefs.
        effect: what its filters do.
        origin: the rule.
        references: how backends are found.
    """
    backends, faults = _backends(refs, origin, references)
    mirrors, lost = _mirrors(effect.mirrors, origin, references)
    auth = None if effect.auth is None else external_auth(effect.auth, origin, references)
    return Destinations(
        backends=backends, mirrors=mirrors, lost_mirrors=lost, auth=auth, faults=faults
    )


def _assembled(
    route: Object, rules: Sequence[Rule], refusal: Refusal, problems: Iterable[Problem]
) -> TranslatedRoute:
    backends = [
        one
        for rule in rules
        for one in (*rule.backends, *rule.lost_mirrors, rule.lost_auth)
        if one is not None
    ]
    generation, key, ref = route.metadata.generation, route.key, route.ref
    return TranslatedRoute(
        key=key,
        age=Age.of(key, route.metadata.creation_timestamp),
        routes=tuple(
            [
                PlacedRoute(_route(rule, match.match, route_name(ref, at)), at, match.path)
                for index, rule in enumerate(rules)
                for place, match in enumerate(rule.matches)
                for at in ((index, place),)
            ]
        ),
        verdict=verdict_of([rule.faults for rule in rules], backends, generation, refusal),
        problems=(*_problems(rules, refusal), *problems),
    )


def refused(route: Broken, refusal: Refusal) -> TranslatedRoute:
    """Return a route that did not decode: it answers *refusal* to everything on its hostnames."""
    answer = Route(
        name=route_name(route.ref, (0, 0)),
        match=RouteMatch(),
        action=Respond(status=refusal.status),
        origin=Origin(route.ref),
    )
    return TranslatedRoute(
        key=route.key,
        age=Age.of(route.key, route.metadata.creation_timestamp),
        routes=(PlacedRoute(answer, (0, 0)),),
        verdict=verdict_of_broken(route, refusal),
        problems=route.problems,
    )


def route_name(route: ObjectRef, at: tuple[int, int]) -> str:
    """Return the name of a match of a rule; a kind is never the name of a namespace."""
    name = f"{route.namespace}/{route.name}/{at[0]}/{at[1]}"
    return name if route.kind == UNPREFIXED else f"{route.kind}/{name}"


def _route(rule: Rule, match: RouteMatch, name: str) -> Route:
    return Route(
        name=name,
        match=match,
        action=rule.action,
        request_headers=rule.request_headers,
        response_headers=rule.response_headers,
        cors=rule.cors,
        guards=NO_GUARDS if rule.auth is None else Guards(auth=rule.auth),
        origin=rule.origin,
    )


def _backends(
    refs: Iterable[Reference], origin: Origin, references: References
) -> tuple[tuple[Backend, ...], tuple[Fault, ...]]:
    """Return the backends with the changes of their filters, and what is wrong with the latter."""
    backends: list[Backend] = []
    faults: list[Fault] = []
    for index, (ref, filters) in enumerate(refs):
        here = origin.at(f"backendRefs[{index}]")
        backend = resolve(ref, here, references)
        if filters:
            effect = effect_on_backend(filters, f"{here.path}.filters")
            faults += effect.faults
            if not isinstance(backend, InvalidBackend):
                backend = msgspec.structs.replace(
                    backend,
                    request_headers=effect.request_headers,
                    response_headers=effect.response_headers,
                    rewrite=Rewrite(host=effect.host, path=effect.path),
                )
        backends.append(backend)
    return tuple(backends), tuple(faults)


def _mirrors(
    filters: Sequence[MirrorFilter], origin: Origin, references: References
) -> tuple[tuple[Mirror, ...], tuple[InvalidBackend, ...]]:
    """Return where copies go, and the references that lead nowhere."""
    mirrors: list[Mirror] = []
    lost: list[InvalidBackend] = []
    for one in filters:
        here = Origin(origin.object, f"{one.path}.requestMirror.backendRef")
        found = resolve_copied(one.given.backend_ref, here, references)
        if isinstance(found, InvalidBackend):
            lost.append(found)
        elif (share := _share(one.given))[0]:
            http2 = origin.object.kind == GRPCRoute.kind
            mirrors.append(
                Mirror(target=found, numerator=share[0], denominator=share[1], http2=http2)
            )
    return tuple(mirrors), tuple(lost)


def _share(given: HTTPRequestMirrorFilter) -> tuple[int, int]:
    """Return numerator and denominator of the share of requests that is copied."""
    if given.fraction is not None:
        return given.fraction.numerator, given.fraction.denominator
    return (1, 1) if given.percent is None else (given.percent, 100)


def _problems(rules: Sequence[Rule], refusal: Refusal) -> Iterator[Problem]:
    """Yield everything about rules that their author should know."""
    for rule in rules:
        for fault in rule.faults:
            hint = f"the rule answers {refusal.words} until this is mended"
            yield Problem(fault.path, fault.message, hint)
        for backend in rule.backends:
            if isinstance(backend, InvalidBackend):
                text = f"{backend.reason}: {backend.message}"
                hint = f"its share of requests is answered with {refusal.words}"
                yield Problem(backend.origin.path, text, hint, Severity.WARNING)
        for mirror in rule.lost_mirrors:
            text = f"{mirror.reason}: {mirror.message}"
            yield Problem(mirror.origin.path, text, "nothing is copied there", Severity.WARNING)
        if rule.lost_auth is not None:
            lost = rule.lost_auth
            hint = f"the rule answers {refusal.words}: nobody can be asked"
            yield Problem(lost.origin.path, f"{lost.reason}: {lost.message}", hint)


def default_gateways(asked: str | None) -> Iterator[Problem]:
    """Yield that a route asks for Gateways that there are not."""
    if asked == "All":
        text = "there are no default Gateways"
        hint = "name the Gateway in parentRefs"
        yield Problem("spec.useDefaultGateways", text, hint, Severity.WARNING)
