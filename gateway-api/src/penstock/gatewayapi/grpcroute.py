"""Translate one GRPCRoute to routes: one for each match of each rule.

Source: Gateway API v1.7, GRPCRouteRule. A call of method M of service S is a request for "/S/M".
What cannot be served answers 503, which clients of gRPC see as UNAVAILABLE; what no rule matches is
404, which they see as UNIMPLEMENTED.
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.core.objects import Broken
from penstock.gatewayapi.backends import References
from penstock.gatewayapi.effects import effect_on_rule
from penstock.gatewayapi.faults import GRPC_REFUSAL, Fault
from penstock.gatewayapi.grpc_resources import (
    GRPCMethodMatch,
    GRPCRoute,
    GRPCRouteMatch,
    GRPCRouteRule,
)
from penstock.gatewayapi.matches import TranslatedMatch, first_of_each, named
from penstock.gatewayapi.regexes import certain_start
from penstock.gatewayapi.rules import StringMatchType
from penstock.gatewayapi.sessions import kept_session
from penstock.gatewayapi.translation import (
    Parts,
    Rule,
    TranslatedRoute,
    destinations,
    refused,
    translated,
)
from penstock.ir.regex import regex_fault
from penstock.ir.route import Forward, PathKind, PathMatch, RouteMatch
from penstock.meta.names import Origin

_ANY = "[^/]+"
"""Every service, every method."""


def translate(route: GRPCRoute | Broken, references: References) -> TranslatedRoute:
    """Return the routes of *route* and what is to be said about it.

    Args:
        route: the object; one that did not decode answers UNAVAILABLE to everything on its
            hostnames.
        references: how backends are found, for parents of one kind: Gateways or Services.
    """
    if isinstance(route, Broken):
        return refused(route, GRPC_REFUSAL)

    def translate_rule(rule: GRPCRouteRule, origin: Origin) -> Rule:
        return _translate_rule(rule, origin, references)

    asked = route.spec.use_default_gateways
    return translated(route, route.spec.rules, translate_rule, GRPC_REFUSAL, asked)


def _translate_rule(rule: GRPCRouteRule, origin: Origin, references: References) -> Rule:
    path = origin.path
    effect = effect_on_rule([one.as_http for one in rule.filters], f"{path}.filters")
    refs = ((ref, [one.as_http for one in ref.filters]) for ref in rule.backend_refs)
    parts = Parts(
        origin=origin,
        matches=tuple(
            translate_match(match, f"{path}.matches[{at}]")
            for at, match in enumerate(rule.matches or (GRPCRouteMatch(),))
        ),
        effect=effect,
        to=destinations(refs, effect, origin, references),
        kept=kept_session(rule.session_persistence, rule.name, origin),
    )

    def action() -> Forward:
        return Forward(
            backends=parts.to.backends,
            rewrite_host=effect.host,
            mirrors=parts.to.mirrors,
            invalid_status=GRPC_REFUSAL.status,
            session=parts.kept.session,
        )

    return parts.rule(parts.faults, action, GRPC_REFUSAL)


def translate_match(given: GRPCRouteMatch, path: str) -> TranslatedMatch:
    """Return what *given*, which is at *path* of its route, selects."""
    called = given.method or GRPCMethodMatch(service="", method="")
    faults = list(_faults(called, f"{path}.method"))
    selected = _anything_alike(called) if faults else _selected(called)
    headers = first_of_each((one.name.lower(), one) for one in given.headers)
    match = RouteMatch(path=selected, headers=named(headers, f"{path}.headers", faults))
    longer = (-len(called.service or ""), -len(called.method or ""))
    return TranslatedMatch(match, tuple(faults), longer)


def _faults(called: GRPCMethodMatch, path: str) -> Iterator[Fault]:
    if called.type is StringMatchType.EXACT:
        return
    named_faults = {
        "service": regex_fault(called.service or ""),
        "method": regex_fault(called.method or ""),
    }
    for name, fault in named_faults.items():
        if fault:
            yield Fault(f"{path}.{name}", fault)
    together = "" if any(named_faults.values()) else regex_fault(_selected(called).value)
    if together:
        yield Fault(path, f"service and method together: {together}")


def _anything_alike(called: GRPCMethodMatch) -> PathMatch:
    """Return what may have been meant by expressions of which one cannot be read.

    No broader rule gets what was meant for it, and what certainly was not goes on as before.
    """
    service = called.service or ""
    value = f"/{_whole(service)}/.*"
    if not service or regex_fault(service) or regex_fault(value):
        start = certain_start(f"/{service}")
        value = f"{start}.*" if len(start) > 1 else ""
    return PathMatch(kind=PathKind.REGEX, value=value) if value else PathMatch()


def _selected(called: GRPCMethodMatch) -> PathMatch:
    """Return the paths of the calls."""
    service, method = called.service or "", called.method or ""
    if not service and not method:
        return PathMatch()
    if called.type is StringMatchType.EXACT:
        if not method:
            return PathMatch(value=f"/{service}")
        if service:
            return PathMatch(kind=PathKind.EXACT, value=f"/{service}/{method}")
        return PathMatch(kind=PathKind.REGEX, value=f"/{_ANY}/{method}")
    value = f"/{_whole(service)}/{_whole(method)}"
    return PathMatch(kind=PathKind.REGEX, value=value)


def _whole(pattern: str) -> str:
    """Return *pattern* for a part of a path; that it is compared as a whole goes without saying."""
    bare = pattern.removeprefix("^")
    body = bare.removesuffix("$")
    if body != bare and (len(body) - len(body.rstrip("\\"))) % 2 == 0:
        bare = body
    return f"(?:{bare})" if bare else _ANY
