"""What the filters of a rule or of a backendRef do together.

Source: Gateway API v1.7, HTTPRouteFilter. Filters that are not served yet are faults.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from penstock.gatewayapi.faults import INCOMPATIBLE_FILTERS, Fault
from penstock.gatewayapi.filters import (
    FilterType,
    HTTPExternalAuthFilter,
    HTTPHeaderFilter,
    HTTPRequestMirrorFilter,
    HTTPRouteFilter,
)
from penstock.gatewayapi.modifiers import HeaderEdit, cors, header_edit, path_rewrite, redirect
from penstock.ir.route import NO_CHANGE, Cors, HeaderChange, PathRewrite, Redirect

ON_BACKENDS = frozenset(
    {
        FilterType.REQUEST_HEADER_MODIFIER,
        FilterType.RESPONSE_HEADER_MODIFIER,
        FilterType.URL_REWRITE,
    }
)
ON_RULES = ON_BACKENDS | {
    FilterType.REQUEST_REDIRECT,
    FilterType.REQUEST_MIRROR,
    FilterType.CORS,
    FilterType.EXTERNAL_AUTH,
}


class MirrorFilter(msgspec.Struct, frozen=True):
    """A filter that copies requests, and where it is, as "spec.rules[0].filters[1]"."""

    given: HTTPRequestMirrorFilter
    path: str


class AuthFilter(msgspec.Struct, frozen=True):
    """A filter that asks a server, and where it is, as "spec.rules[0].filters[1]"."""

    given: HTTPExternalAuthFilter
    path: str


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Changes of request and response, perhaps a redirect, and what is wrong."""

    request_headers: HeaderChange = NO_CHANGE
    response_headers: HeaderChange = NO_CHANGE
    host: str = ""
    path: PathRewrite | None = None
    redirect: Redirect | None = None
    cors: Cors | None = None
    mirrors: tuple[MirrorFilter, ...] = ()
    auth: AuthFilter | None = None
    faults: tuple[Fault, ...] = ()


_NONE = Effect()
_REMEMBERED = 1024


class _Placed(msgspec.Struct, frozen=True):
    """A filter and where it is, as "spec.rules[0].filters[1]"."""

    filter: HTTPRouteFilter
    path: str


def effect_on_rule(filters: Sequence[HTTPRouteFilter], path: str) -> Effect:
    """Return what *filters* of a rule do; *path* is theirs, as "spec.rules[0].filters"."""
    return _effect(tuple(filters), path, ON_RULES) if filters else _NONE


def effect_on_backend(filters: Sequence[HTTPRouteFilter], path: str) -> Effect:
    """Return what *filters* of a backendRef do: changes of headers, host and path only."""
    return _effect(tuple(filters), path, ON_BACKENDS)


@functools.lru_cache(maxsize=_REMEMBERED)
def _effect(
    filters: tuple[HTTPRouteFilter, ...], path: str, served: frozenset[FilterType]
) -> Effect:
    """Return what filters do; routes are alike, and so what few of them do is remembered."""
    if not filters:
        return _NONE
    placed = [_Placed(one, f"{path}[{index}]") for index, one in enumerate(filters)]
    single = {one.filter.type: one for one in reversed(placed) if one.filter.type in served}
    request = _header_edit(single, FilterType.REQUEST_HEADER_MODIFIER, host=served is ON_RULES)
    response = _header_edit(single, FilterType.RESPONSE_HEADER_MODIFIER, host=False)
    rewritten_host, rewritten_path = _rewrite(single)
    answer = _redirect(single)
    return Effect(
        request_headers=request.change,
        response_headers=response.change,
        host=request.host or rewritten_host,
        path=rewritten_path if isinstance(rewritten_path, PathRewrite) else None,
        redirect=answer if isinstance(answer, Redirect) else None,
        cors=_cors(single),
        mirrors=_mirrors(placed) if FilterType.REQUEST_MIRROR in served else (),
        auth=_auth(single),
        faults=(
            *_not_served(placed, served),
            *request.faults,
            *response.faults,
            *(rewritten_path if isinstance(rewritten_path, tuple) else ()),
            *(answer if isinstance(answer, tuple) else ()),
            *_incompatible(single, path, request.host, rewritten_host),
        ),
    )


_Single = Mapping[FilterType, _Placed]
"""The first filter of each type that is served."""


def _not_served(placed: Sequence[_Placed], served: frozenset[FilterType]) -> Iterator[Fault]:
    seen: set[FilterType] = set()
    for one in placed:
        name = one.filter.type.value
        if one.filter.type not in served:
            where = " on a backendRef" if one.filter.type in ON_RULES else ""
            yield Fault(one.path, f"filter {name} is not supported{where}")
        elif one.filter.type in seen and one.filter.type is not FilterType.REQUEST_MIRROR:
            yield Fault(one.path, f"{name} cannot be repeated", INCOMPATIBLE_FILTERS)
        seen.add(one.filter.type)


def _header_edit(single: _Single, wanted: FilterType, *, host: bool) -> HeaderEdit:
    placed = single.get(wanted)
    if placed is None:
        return HeaderEdit()
    request = wanted is FilterType.REQUEST_HEADER_MODIFIER
    one = placed.filter
    given = one.request_header_modifier if request else one.response_header_modifier
    path = f"{placed.path}.{wanted.member}"
    return header_edit(given or HTTPHeaderFilter(), path, host_may_change=host)


def _rewrite(single: _Single) -> tuple[str, PathRewrite | tuple[Fault, ...] | None]:
    placed = single.get(FilterType.URL_REWRITE)
    given = None if placed is None else placed.filter.url_rewrite
    if placed is None or given is None:
        return "", None
    path = f"{placed.path}.urlRewrite.path"
    return given.hostname or "", None if given.path is None else path_rewrite(given.path, path)


def _redirect(single: _Single) -> Redirect | tuple[Fault, ...] | None:
    placed = single.get(FilterType.REQUEST_REDIRECT)
    given = None if placed is None else placed.filter.request_redirect
    if placed is None or given is None:
        return None
    return redirect(given, f"{placed.path}.requestRedirect")


def _cors(single: _Single) -> Cors | None:
    placed = single.get(FilterType.CORS)
    given = None if placed is None else placed.filter.cors
    return None if given is None else cors(given)


def _auth(single: _Single) -> AuthFilter | None:
    placed = single.get(FilterType.EXTERNAL_AUTH)
    given = None if placed is None else placed.filter.external_auth
    return None if placed is None or given is None else AuthFilter(given, placed.path)


def _mirrors(placed: Sequence[_Placed]) -> tuple[MirrorFilter, ...]:
    return tuple(
        MirrorFilter(one.filter.request_mirror, one.path)
        for one in placed
        if one.filter.request_mirror is not None
    )


def _incompatible(
    single: _Single, path: str, set_host: str, rewritten_host: str
) -> Iterator[Fault]:
    """Yield pairs of filters that contradict each other."""
    redirected = FilterType.REQUEST_REDIRECT in single
    if redirected and FilterType.URL_REWRITE in single:
        text = "RequestRedirect and URLRewrite cannot be used together"
        yield Fault(path, text, INCOMPATIBLE_FILTERS)
    for other in (FilterType.REQUEST_MIRROR, FilterType.CORS):
        if redirected and other in single:
            text = f"RequestRedirect and {other.value} cannot be used together"
            yield Fault(path, text, INCOMPATIBLE_FILTERS)
    if redirected and set_host:
        text = "RequestRedirect and a set Host cannot be used together"
        yield Fault(path, text, INCOMPATIBLE_FILTERS)
    if set_host and rewritten_host:
        text = "Host is set by RequestHeaderModifier and by URLRewrite"
        yield Fault(path, text, INCOMPATIBLE_FILTERS)
