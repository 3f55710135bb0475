"""Translate one HTTPRoute to routes: one for each match of each rule.

Source: Gateway API v1.7, HTTPRouteRule. A rule that cannot be served as written answers 500.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from penstock.core.objects import Broken
from penstock.gatewayapi.backends import References
from penstock.gatewayapi.durations import milliseconds
from penstock.gatewayapi.effects import effect_on_rule
from penstock.gatewayapi.faults import HTTP_REFUSAL, INCOMPATIBLE_FILTERS, Fault
from penstock.gatewayapi.matches import translate_match
from penstock.gatewayapi.resources import HTTPRoute
from penstock.gatewayapi.rules import HTTPRouteMatch, HTTPRouteRule, PathMatchType
from penstock.gatewayapi.sessions import kept_session
from penstock.gatewayapi.translation import (
    Parts,
    Rule,
    TranslatedRoute,
    destinations,
    refused,
    translated,
)
from penstock.ir.route import (
    NO_REWRITE,
    Action,
    Forward,
    HostBackend,
    InvalidBackend,
    Retry,
    ServiceBackend,
)
from penstock.meta.names import Origin

_ANYTHING = (HTTPRouteMatch(),)


def translate(route: HTTPRoute | Broken, references: References) -> TranslatedRoute:
    """Return the routes of *route* and what is to be said about it.

    Args:
        route: the object; one that did not decode answers 500 to everything on its hostnames.
        references: how backends are found, for parents of one kind: Gateways or Services.
    """
    if isinstance(route, Broken):
        return refused(route, HTTP_REFUSAL)

    def translate_rule(rule: HTTPRouteRule, origin: Origin) -> Rule:
        return _translate_rule(rule, origin, references)

    asked = route.spec.use_default_gateways
    return translated(route, route.spec.rules, translate_rule, HTTP_REFUSAL, asked)


def _translate_rule(rule: HTTPRouteRule, origin: Origin, references: References) -> Rule:
    path = origin.path
    effect = effect_on_rule(rule.filters, f"{path}.filters")
    refs = [(ref, ref.filters) for ref in rule.backend_refs]
    parts = Parts(
        origin=origin,
        matches=tuple(
            [
                translate_match(match, f"{path}.matches[{at}]")
                for at, match in enumerate(rule.matches or _ANYTHING)
            ]
        ),
        effect=effect,
        to=destinations(refs, effect, origin, references),
        kept=kept_session(rule.session_persistence, rule.name, origin),
    )
    faults = (*parts.faults, *_combination_faults(rule, parts), *_setting_faults(rule, path))

    def action() -> Action:
        return effect.redirect or _forward(rule, parts)

    return parts.rule(faults, action, HTTP_REFUSAL)


def _forward(rule: HTTPRouteRule, parts: Parts) -> Forward:
    request, backend = _timeouts(rule)
    return Forward(
        backends=parts.to.backends,
        rewrite_host=parts.effect.host,
        rewrite_path=parts.effect.path,
        request_timeout_ms=request,
        backend_timeout_ms=backend,
        mirrors=parts.to.mirrors,
        retry=_retry(rule),
        session=parts.kept.session,
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


def _combination_faults(rule: HTTPRouteRule, parts: Parts) -> Iterable[Fault]:
    """Return filters that do not go with the matches or backends of the rule."""
    effect = parts.effect
    rewriting = [
        one
        for one in parts.to.backends
        if not isinstance(one, InvalidBackend) and one.rewrite is not NO_REWRITE
    ]
    if effect.redirect is None and effect.path is None and not rewriting:
        return ()
    return _contradictions(rule, parts, rewriting)


def _contradictions(
    rule: HTTPRouteRule, parts: Parts, rewriting: Iterable[ServiceBackend | HostBackend]
) -> Iterator[Fault]:
    effect, path = parts.effect, parts.origin.path
    if effect.redirect is not None and rule.backend_refs:
        text = "RequestRedirect and backendRefs cannot be used together"
        yield Fault(f"{path}.filters", text, INCOMPATIBLE_FILTERS)
    rewrites = [
        (f"{path}.filters", effect.path),
        (f"{path}.filters", None if effect.redirect is None else effect.redirect.path),
    ]
    for one in rewriting:
        where = f"{one.origin.path}.filters"
        rewrites.append((where, one.rewrite.path))
        for what, by_rule, by_backend in (
            ("host", effect.host, one.rewrite.host),
            ("path", effect.path, one.rewrite.path),
        ):
            if by_rule and by_backend:
                text = f"the {what} is rewritten by a filter of the rule already"
                yield Fault(where, text, INCOMPATIBLE_FILTERS)
    kinds = [match.path.type for match in rule.matches or _ANYTHING]
    for where, rewrite in rewrites:
        if rewrite is not None and rewrite.prefix and kinds != [PathMatchType.PATH_PREFIX]:
            text = "ReplacePrefixMatch needs exactly one match, with path type PathPrefix"
            yield Fault(where, text)


def _setting_faults(rule: HTTPRouteRule, path: str) -> tuple[Fault, ...]:
    """Return settings that contradict each other."""
    request, backend = _timeouts(rule)
    if request and backend is not None and backend > request:
        return (Fault(f"{path}.timeouts.backendRequest", "must not be longer than request"),)
    return ()
