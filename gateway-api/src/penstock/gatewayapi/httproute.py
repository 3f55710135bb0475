"""Translate one HTTPRoute to routes: one for each match of each rule.

Source: Gateway API v1.7, HTTPRouteRule. A rule that cannot be served as written answers 500 to what
it matches; it is never left out, because a broader rule would then get its traffic. The other
rules are not touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from penstock.core.objects import Broken
from penstock.gatewayapi.backends import References, Unresolved, resolve, resolve_port
from penstock.gatewayapi.durations import milliseconds
from penstock.gatewayapi.effects import (
    Effect,
    MirrorFilter,
    effect_on_backend,
    effect_on_rule,
)
from penstock.gatewayapi.faults import INCOMPATIBLE_FILTERS, Fault
from penstock.gatewayapi.filters import HTTPRequestMirrorFilter
from penstock.gatewayapi.grants import Referrer
from penstock.gatewayapi.matches import translate_match
from penstock.gatewayapi.precedence import Age
from penstock.gatewayapi.resources import HTTPRoute
from penstock.gatewayapi.rules import HTTPBackendRef, HTTPRouteMatch, HTTPRouteRule, PathMatchType
from penstock.gatewayapi.verdict import Verdict, verdict_of, verdict_of_broken
from penstock.ir.route import (
    Action,
    Backend,
    Cors,
    Forward,
    HeaderChange,
    InvalidBackend,
    Mirror,
    Respond,
    Retry,
    Route,
    RouteMatch,
)
from penstock.meta.names import NamespacedName, Origin
from penstock.meta.problems import Problem, Severity

INVALID = Respond(status=500)
"""The answer of a rule that cannot be served as written."""


class PlacedRoute(msgspec.Struct, frozen=True):
    """A route and where it stands in its HTTPRoute."""

    route: Route
    position: tuple[int, int]
    """Index of the rule, index of the match in it."""


class TranslatedRoute(msgspec.Struct, frozen=True, kw_only=True):
    """What one HTTPRoute asks for, wherever it is attached."""

    key: NamespacedName
    age: Age
    routes: tuple[PlacedRoute, ...]
    verdict: Verdict
    problems: tuple[Problem, ...]

    @property
    def rules(self) -> tuple[Route, ...]:
        """Return the routes in the order of the object."""
        return tuple(placed.route for placed in self.routes)


class _Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule, translated; `action` is INVALID exactly if there are faults."""

    origin: Origin
    matches: tuple[RouteMatch, ...]
    action: Action
    request_headers: HeaderChange = HeaderChange()
    response_headers: HeaderChange = HeaderChange()
    cors: Cors | None = None
    backends: tuple[Backend, ...]
    lost_mirrors: tuple[InvalidBackend, ...]
    """Where copies should go and cannot."""
    faults: tuple[Fault, ...]


def translate(route: HTTPRoute | Broken, references: References) -> TranslatedRoute:
    """Return the routes of *route* and what is to be said about it.

    Args:
        route: the object; one that did not decode answers 500 to everything on its hostnames.
        references: how backends are found, for parents of one kind: Gateways or Services.
    """
    if isinstance(route, Broken):
        return _of_broken(route)
    base = Origin(route.ref)
    rules = [
        _translate_rule(rule, base.at(f"spec.rules[{index}]"), references)
        for index, rule in enumerate(route.spec.rules)
    ]
    backends = [one for rule in rules for one in (*rule.backends, *rule.lost_mirrors)]
    return TranslatedRoute(
        key=route.key,
        age=Age.of(route.key, route.metadata.creation_timestamp),
        routes=tuple(
            PlacedRoute(_route(rule, match, f"{route.key}/{index}/{place}"), (index, place))
            for index, rule in enumerate(rules)
            for place, match in enumerate(rule.matches)
        ),
        verdict=verdict_of([rule.faults for rule in rules], backends, route.metadata.generation),
        problems=tuple(_problems(route, rules)),
    )


def _of_broken(route: Broken) -> TranslatedRoute:
    answer = Route(
        name=f"{route.key}/0/0", match=RouteMatch(), action=INVALID, origin=Origin(route.ref)
    )
    return TranslatedRoute(
        key=route.key,
        age=Age.of(route.key, route.metadata.creation_timestamp),
        routes=(PlacedRoute(answer, (0, 0)),),
        verdict=verdict_of_broken(route),
        problems=route.problems,
    )


def _route(rule: _Rule, match: RouteMatch, name: str) -> Route:
    return Route(
        name=name,
        match=match,
        action=rule.action,
        request_headers=rule.request_headers,
        response_headers=rule.response_headers,
        cors=rule.cors,
        origin=rule.origin,
    )


def _translate_rule(rule: HTTPRouteRule, origin: Origin, references: References) -> _Rule:
    path = origin.path
    matches = [
        translate_match(match, f"{path}.matches[{at}]")
        for at, match in enumerate(rule.matches or (HTTPRouteMatch(),))
    ]
    effect = effect_on_rule(rule.filters, f"{path}.filters")
    backends, of_backends = _backends(rule.backend_refs, origin, references)
    mirrors, lost = _mirrors(effect.mirrors, origin, references)
    faults = (
        *(fault for match in matches for fault in match.faults),
        *effect.faults,
        *of_backends,
        *_combination_faults(rule, effect, path),
        *_setting_faults(rule, path),
        *(_mesh_faults(effect) if references.mesh else ()),
    )
    valid = not faults
    return _Rule(
        origin=origin,
        matches=tuple(match.match for match in matches),
        action=effect.redirect or _forward(rule, effect, backends, mirrors) if valid else INVALID,
        request_headers=effect.request_headers if valid else HeaderChange(),
        response_headers=effect.response_headers if valid else HeaderChange(),
        cors=effect.cors if valid else None,
        backends=backends,
        lost_mirrors=lost,
        faults=faults,
    )


def _backends(
    refs: Sequence[HTTPBackendRef], origin: Origin, references: References
) -> tuple[tuple[Backend, ...], list[Fault]]:
    """Return the backends with their changes of headers, and what is wrong with the latter."""
    backends: list[Backend] = []
    faults: list[Fault] = []
    for index, ref in enumerate(refs):
        here = origin.at(f"backendRefs[{index}]")
        effect = effect_on_backend(ref.filters, f"{here.path}.filters")
        backend = resolve(ref, here, references)
        if not isinstance(backend, InvalidBackend):
            backend = msgspec.structs.replace(
                backend,
                request_headers=effect.request_headers,
                response_headers=effect.response_headers,
            )
        backends.append(backend)
        faults += effect.faults
    return tuple(backends), faults


def _mirrors(
    filters: Sequence[MirrorFilter], origin: Origin, references: References
) -> tuple[tuple[Mirror, ...], tuple[InvalidBackend, ...]]:
    """Return where copies go, and the references that lead nowhere."""
    mirrors: list[Mirror] = []
    lost: list[InvalidBackend] = []
    for one in filters:
        ref = one.given.backend_ref
        found = resolve_port(ref, Referrer(origin.object.namespace), references)
        if isinstance(found, Unresolved):
            here = Origin(origin.object, f"{one.path}.requestMirror.backendRef")
            lost.append(
                InvalidBackend(reason=found.reason, message=found.message, weight=0, origin=here)
            )
        elif (share := _share(one.given))[0]:
            mirrors.append(Mirror(target=found, numerator=share[0], denominator=share[1]))
    return tuple(mirrors), tuple(lost)


def _share(given: HTTPRequestMirrorFilter) -> tuple[int, int]:
    """Return numerator and denominator of the share of requests that is copied."""
    if given.fraction is not None:
        return given.fraction.numerator, given.fraction.denominator
    return (1, 1) if given.percent is None else (given.percent, 100)


def _forward(
    rule: HTTPRouteRule,
    effect: Effect,
    backends: tuple[Backend, ...],
    mirrors: tuple[Mirror, ...],
) -> Forward:
    request, backend = _timeouts(rule)
    return Forward(
        backends=backends,
        rewrite_host=effect.host,
        rewrite_path=effect.path,
        request_timeout_ms=request,
        backend_timeout_ms=backend,
        mirrors=mirrors,
        retry=_retry(rule),
    )


def _retry(rule: HTTPRouteRule) -> Retry | None:
    if rule.retry is None:
        return None
    backoff = rule.retry.backoff
    return Retry(
        attempts=rule.retry.attempts,
        codes=tuple(sorted(set(rule.retry.codes))),
        backoff_ms=None if backoff is None else milliseconds(backoff),
    )


def _timeouts(rule: HTTPRouteRule) -> tuple[int | None, int | None]:
    """Return the limits for the whole request and for one try, in milliseconds."""
    if rule.timeouts is None:
        return None, None
    given = (rule.timeouts.request, rule.timeouts.backend_request)
    request, backend = (None if one is None else milliseconds(one) for one in given)
    return request, backend


def _combination_faults(rule: HTTPRouteRule, effect: Effect, path: str) -> Iterator[Fault]:
    """Yield filters that do not go with the matches or backends of the rule."""
    if effect.redirect is not None and rule.backend_refs:
        text = "RequestRedirect and backendRefs cannot be used together"
        yield Fault(f"{path}.filters", text, INCOMPATIBLE_FILTERS)
    rewrites = (effect.path, None if effect.redirect is None else effect.redirect.path)
    if any(one is not None and one.prefix for one in rewrites):
        kinds = [match.path.type for match in rule.matches or (HTTPRouteMatch(),)]
        if kinds != [PathMatchType.PATH_PREFIX]:
            text = "ReplacePrefixMatch needs exactly one match, with path type PathPrefix"
            yield Fault(f"{path}.filters", text)


def _setting_faults(rule: HTTPRouteRule, path: str) -> Iterator[Fault]:
    """Yield settings that contradict each other or are not served yet."""
    request, backend = _timeouts(rule)
    if request and backend is not None and backend > request:
        yield Fault(f"{path}.timeouts.backendRequest", "must not be longer than request")
    if rule.session_persistence is not None:
        yield Fault(f"{path}.sessionPersistence", "is not supported")


def _mesh_faults(effect: Effect) -> Iterator[Fault]:
    """Yield what is served at Gateways only: a copy does not leave from the client's pod."""
    for one in effect.mirrors:
        yield Fault(one.path, "filter RequestMirror is not supported on a Service")


def _problems(route: HTTPRoute, rules: Sequence[_Rule]) -> Iterator[Problem]:
    """Yield everything that its author should know."""
    for rule in rules:
        for fault in rule.faults:
            yield Problem(fault.path, fault.message, "the rule answers 500 until this is mended")
        for backend in rule.backends:
            if isinstance(backend, InvalidBackend):
                text = f"{backend.reason}: {backend.message}"
                hint = "its share of requests is answered with 500"
                yield Problem(backend.origin.path, text, hint, Severity.WARNING)
        for mirror in rule.lost_mirrors:
            text = f"{mirror.reason}: {mirror.message}"
            yield Problem(mirror.origin.path, text, "nothing is copied there", Severity.WARNING)
    if route.spec.use_default_gateways == "All":
        text = "there are no default Gateways"
        hint = "name the Gateway in parentRefs"
        yield Problem("spec.useDefaultGateways", text, hint, Severity.WARNING)
