"""The paths of an Ingress as rules of an HTTPRoute."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from penstock.core.kinds import Service
from penstock.core.objects import ObjectMeta
from penstock.gatewayapi.filters import (
    FilterType,
    HTTPCORSFilter,
    HTTPPathModifier,
    HTTPRequestRedirectFilter,
    HTTPRouteFilter,
    HTTPURLRewriteFilter,
    PathModifierType,
)
from penstock.gatewayapi.rules import (
    HTTPBackendRef,
    HTTPHeaderMatch,
    HTTPPathMatch,
    HTTPRouteMatch,
    HTTPRouteRule,
    HTTPRouteTimeouts,
    PathMatchType,
    StringMatchType,
    path_faults,
)
from penstock.gatewayapi.session_persistence import SessionPersistence
from penstock.ingress.annotations import Canary, Cors, Options
from penstock.ingress.resources import HTTPIngressPath, Ingress, IngressBackend, IngressRule
from penstock.meta.names import NamespacedName

AUTHORITY = ":authority"
REDIRECT: Literal[308] = 308
"""As ingress-nginx: the method stays what it was."""
_CAPTURED = re.compile(r"(/[^()|$\[\]*+?\\^{}]*?)?(\(/\|\$\)|/)\(\.\*\)\Z")
"""Paths such as "/shop(/|$)(.*)" and "/(.*)"."""
_LAST = re.compile(r"(/[^$]*?)?/?\$([12])\Z")


class CanaryAt(msgspec.Struct, frozen=True, kw_only=True):
    """A canary of one host and path."""

    asked: Canary
    backend: IngressBackend
    name: str
    """Of its Ingress."""


Canaries = Mapping[tuple[str, str, str], Sequence[CanaryAt]]
"""(host, type of the path, path) → canaries; the oldest counts."""


def metadata_of(ingress: Ingress, part: str) -> ObjectMeta:
    """Return the metadata of a route that *ingress* becomes in *part*."""
    meta = ingress.metadata
    return ObjectMeta(
        name=f"ingress~{meta.name}~{part}",
        namespace=meta.namespace,
        generation=meta.generation,
        creation_timestamp=meta.creation_timestamp,
    )


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """An Ingress and what its rules are looked up in."""

    ingress: Ingress
    asked: Options
    canaries: Canaries
    service: Callable[[NamespacedName], Service | None]


def serving(at: Place, rule: IngressRule, index: int) -> Iterator[tuple[str, HTTPRouteRule]]:
    """Yield the rules of one rule of an Ingress, each with its path in the Ingress."""
    for number, path in enumerate(rule.http.paths if rule.http is not None else ()):
        place = f"spec.rules[{index}].http.paths[{number}]"
        for one in _of_path(at, rule.host, path):
            yield place, one


def to_default(at: Place, backend: IngressBackend) -> tuple[str, HTTPRouteRule]:
    """Return the rule of the default backend."""
    refs = () if at.asked.closed else (backend_ref(at, backend),)
    rule = HTTPRouteRule(
        backend_refs=refs,
        filters=_cors(at.asked),
        timeouts=_timeouts(at.asked),
        session_persistence=_session(at.asked, "/"),
    )
    return "spec.defaultBackend", rule


def redirecting(rule: HTTPRouteRule) -> HTTPRouteRule:
    """Return the rule that leads requests of *rule* to HTTPS."""
    redirect = HTTPRequestRedirectFilter(scheme="https", status_code=REDIRECT)
    one = HTTPRouteFilter(type=FilterType.REQUEST_REDIRECT, request_redirect=redirect)
    return HTTPRouteRule(matches=rule.matches, filters=(one,))


def backend_ref(at: Place, backend: IngressBackend, weight: int = 1) -> HTTPBackendRef:
    """Return the reference to *backend*; one without a port leads nowhere."""
    if backend.service is None:
        other = backend.resource
        kind, group = (other.kind, other.api_group) if other is not None else ("", "")
        name = other.name if other is not None else ""
        return HTTPBackendRef(group=group, kind=kind, name=name, weight=weight)
    number = backend.service.port.number or _number(at, backend)
    return HTTPBackendRef(name=backend.service.name, port=number, weight=weight)


def _number(at: Place, backend: IngressBackend) -> int | None:
    """Return the number of a port that is given by its name, None if there is none."""
    if backend.service is None:
        return None
    key = NamespacedName(at.ingress.metadata.namespace, backend.service.name)
    service = at.service(key)
    ports = service.spec.ports if service is not None else ()
    name = backend.service.port.name
    return next((one.port for one in ports if one.name == name and one.protocol == "TCP"), None)


def canary_key(host: str, path: HTTPIngressPath) -> tuple[str, str, str]:
    """Return by what canaries and what they are for are brought together."""
    return host, path.path_type, path.path or "/"


def _of_path(at: Place, host: str, path: HTTPIngressPath) -> Iterator[HTTPRouteRule]:
    match, rewrite = _match(at.asked, path)
    match = msgspec.structs.replace(match, headers=one_label(host))
    if at.asked.closed or rewrite is None:
        # Without backends it answers 500; left out, a broader rule would have its requests.
        yield HTTPRouteRule(matches=(match,))
        return
    filters = (*rewrite, *_cors(at.asked))

    def rule(*refs: HTTPBackendRef, header: HTTPHeaderMatch | None = None) -> HTTPRouteRule:
        headers = match.headers if header is None else (*match.headers, header)
        return HTTPRouteRule(
            matches=(msgspec.structs.replace(match, headers=headers),),
            filters=filters,
            backend_refs=refs,
            timeouts=_timeouts(at.asked),
            session_persistence=_session(at.asked, path.path or "/"),
        )

    own = backend_ref(at, path.backend)
    found = at.canaries.get(canary_key(host, path), ())
    if not found:
        yield rule(own)
        return
    canary = found[0].asked
    other = backend_ref(at, found[0].backend)
    for header, chosen in _choices(canary):
        yield rule(other if chosen else own, header=header)
    yield rule(*_shared(at, path.backend, found[0].backend, canary))


def _shared(
    at: Place, own: IngressBackend, other: IngressBackend, canary: Canary
) -> tuple[HTTPBackendRef, ...]:
    if not canary.weight:
        return (backend_ref(at, own),)
    rest = canary.total - canary.weight
    return (backend_ref(at, own, rest), backend_ref(at, other, canary.weight))


def _choices(canary: Canary) -> Iterator[tuple[HTTPHeaderMatch, bool]]:
    """Yield what decides before the weight, the strongest first, and whether for the canary."""
    if canary.header and canary.value:
        yield HTTPHeaderMatch(name=canary.header, value=canary.value), True
    elif canary.header:
        yield HTTPHeaderMatch(name=canary.header, value="always"), True
        yield HTTPHeaderMatch(name=canary.header, value="never"), False
    for value in ("always", "never") if canary.cookie else ():
        pattern = rf"(.*;\s*)?{re.escape(canary.cookie)}={value}(;.*)?"
        expression = StringMatchType.REGULAR_EXPRESSION
        yield HTTPHeaderMatch(type=expression, name="cookie", value=pattern), value == "always"


def one_label(host: str) -> tuple[HTTPHeaderMatch, ...]:
    """Return the match that lets "*" stand for one label only, nothing for other hosts."""
    if not host.startswith("*."):
        return ()
    pattern = rf"(?i)[^.:]+{re.escape(host[1:])}(:[0-9]+)?"
    expression = StringMatchType.REGULAR_EXPRESSION
    return (HTTPHeaderMatch(type=expression, name=AUTHORITY, value=pattern),)


def path_fault(asked: Options, path: HTTPIngressPath) -> str:
    """Return why no request can have a path, "" if one can; expressions are looked at later."""
    loose = path.path_type == "ImplementationSpecific"
    if loose and (asked.regex or _CAPTURED.match(path.path)):
        return ""
    return next(iter(path_faults(path.path or "/")), "")


def rewrite_fault(asked: Options, path: HTTPIngressPath) -> str:
    """Return why the rewrite of a path is not served, "" if it is."""
    if path_fault(asked, path) or _match(asked, path)[1] is not None:
        return ""
    return f"{asked.rewrite!r} of path {path.path!r} is not served"


_Filters = tuple[HTTPRouteFilter, ...]


def _match(asked: Options, path: HTTPIngressPath) -> tuple[HTTPRouteMatch, _Filters | None]:
    """Return the match of a path and its rewrite; None if that cannot be served."""
    value = path.path or "/"
    if path_fault(asked, path):
        return _path(PathMatchType.EXACT, value), None
    loose = path.path_type == "ImplementationSpecific"
    captured = _CAPTURED.match(value) if loose and asked.rewrite else None
    if captured is not None:
        prefix = captured[1] or ""
        return _path(PathMatchType.PATH_PREFIX, prefix or "/"), _captured(asked, captured)
    rewrite = _whole(asked) if asked.rewrite else ()
    if path.path_type == "Exact":
        return _path(PathMatchType.EXACT, value), rewrite
    if loose and asked.regex:
        return _path(PathMatchType.REGULAR_EXPRESSION, f"(?i){value}.*"), rewrite
    return _path(PathMatchType.PATH_PREFIX, value), rewrite


def _path(kind: PathMatchType, value: str) -> HTTPRouteMatch:
    return HTTPRouteMatch(path=HTTPPathMatch(type=kind, value=value))


def _whole(asked: Options) -> _Filters | None:
    """Return the rewrite to a path without captures: it replaces the whole path."""
    if "$" in asked.rewrite:
        return None
    full = HTTPPathModifier(
        type=PathModifierType.REPLACE_FULL_PATH, replace_full_path=asked.rewrite
    )
    return _rewriting(full)


def _captured(asked: Options, path: re.Match[str]) -> _Filters | None:
    """Return the rewrite to what the last group of a path captured."""
    target = _LAST.match(asked.rewrite)
    wanted = "2" if path[2].startswith("(") else "1"
    if target is None or target[2] != wanted:
        return _whole(asked)
    prefix = HTTPPathModifier(
        type=PathModifierType.REPLACE_PREFIX_MATCH, replace_prefix_match=target[1] or "/"
    )
    return _rewriting(prefix)


def _rewriting(path: HTTPPathModifier) -> _Filters:
    rewrite = HTTPURLRewriteFilter(path=path)
    return (HTTPRouteFilter(type=FilterType.URL_REWRITE, url_rewrite=rewrite),)


def _cors(asked: Options) -> _Filters:
    if asked.cors is None:
        return ()
    given: Cors = asked.cors
    made = HTTPCORSFilter(
        allow_origins=given.origins,
        allow_credentials=given.credentials,
        allow_methods=given.methods,
        allow_headers=given.headers,
        expose_headers=given.exposed,
        max_age=given.max_age,
    )
    return (HTTPRouteFilter(type=FilterType.CORS, cors=made),)


def _session(asked: Options, path: str) -> SessionPersistence | None:
    return None if asked.affinity is None else asked.affinity.persistence(path)


def _timeouts(asked: Options) -> HTTPRouteTimeouts | None:
    return HTTPRouteTimeouts(request=asked.request_timeout) if asked.request_timeout else None
