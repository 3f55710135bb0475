"""Rules of an HTTPRoute, as objects.

Source: Gateway API v1.7, HTTPRouteRule and its members, experimental channel.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta
from typing_extensions import override

from penstock.core.objects import ApiStruct
from penstock.gatewayapi.fields import (
    Duration,
    HeaderName,
    HeaderValue,
    SectionName,
    ShortText,
    WeightedBackendReference,
    at_most,
    unique,
)
from penstock.gatewayapi.filters import HTTPRouteFilter
from penstock.gatewayapi.session_persistence import SessionPersistence
from penstock.meta.problems import Problem

MAX_MATCHES, MAX_FILTERS, MAX_BACKENDS, MAX_CONDITIONS = 64, 16, 16, 16


class PathMatchType(enum.Enum):
    """How a path is compared."""

    __hash__ = object.__hash__  # of the matches of all routes: the one of Enum runs Python

    EXACT = "Exact"
    PATH_PREFIX = "PathPrefix"
    REGULAR_EXPRESSION = "RegularExpression"


_PATH_CHARACTERS = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/._~!$&'()*+,;=:@%"
)
_HEX = frozenset("0123456789abcdefABCDEF")


class HTTPPathMatch(ApiStruct, frozen=True, kw_only=True):
    """Comparison of the path."""

    type: PathMatchType = PathMatchType.PATH_PREFIX
    value: ShortText = "/"

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what cannot be the path of a normalised request."""
        if self.type is PathMatchType.REGULAR_EXPRESSION:
            return
        for text in path_faults(self.value):
            yield Problem("value", text)


@functools.lru_cache(maxsize=1024)
def path_faults(path: str) -> tuple[str, ...]:
    """Return why *path* cannot be the path of a normalised request; many routes have the same."""
    return tuple(_path_faults(path))


def _path_faults(path: str) -> Iterator[str]:
    if not path.startswith("/"):
        yield "must start with '/'"
    for part in ("//", "/./", "/../", "%2f", "%2F"):
        if part in path:
            yield f"must not contain {part!r}"
    for part in ("/..", "/."):
        if path.endswith(part):
            yield f"must not end with {part!r}"
    wrong = sorted(set(path) - _PATH_CHARACTERS)
    if wrong:
        yield f"must not contain {wrong[0]!r} unless percent-encoded"
    elif not all(len(one) > 1 and set(one[:2]) <= _HEX for one in path.split("%")[1:]):
        yield "must have two hexadecimal digits after '%'"


class StringMatchType(enum.Enum):
    """How a header or query parameter is compared."""

    __hash__ = object.__hash__  # of the matches of all routes: the one of Enum runs Python

    EXACT = "Exact"
    REGULAR_EXPRESSION = "RegularExpression"


class HTTPHeaderMatch(ApiStruct, frozen=True, kw_only=True):
    """Comparison of a header."""

    type: StringMatchType = StringMatchType.EXACT
    name: HeaderName
    value: HeaderValue


class HTTPQueryParamMatch(ApiStruct, frozen=True, kw_only=True):
    """Comparison of a query parameter."""

    type: StringMatchType = StringMatchType.EXACT
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=1024)]


class HTTPRouteMatch(ApiStruct, frozen=True, kw_only=True):
    """Conditions that must all hold."""

    alike: ClassVar[bool] = True

    path: HTTPPathMatch = HTTPPathMatch()
    headers: tuple[HTTPHeaderMatch, ...] = ()
    query_params: tuple[HTTPQueryParamMatch, ...] = ()
    method: (
        Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
        | None
    ) = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD's limits do not allow."""
        yield from at_most("headers", self.headers, MAX_CONDITIONS)
        yield from at_most("queryParams", self.query_params, MAX_CONDITIONS)
        yield from unique("headers", (one.name for one in self.headers), "name")
        yield from unique("queryParams", (one.name for one in self.query_params), "name")


class HTTPBackendRef(WeightedBackendReference, frozen=True, kw_only=True):
    """One of the backends that share the requests of a rule."""

    filters: tuple[HTTPRouteFilter, ...] = ()

    @override
    def checks(self) -> Iterable[Problem]:
        """Return what the CRD's limits do not allow."""
        return at_most("filters", self.filters, MAX_FILTERS)


class HTTPRouteTimeouts(ApiStruct, frozen=True, kw_only=True):
    """Limits of time; "0s" is none."""

    request: Duration | None = None
    backend_request: Duration | None = None


class HTTPRouteRetry(ApiStruct, frozen=True, kw_only=True):
    """When a request is sent again."""

    codes: tuple[Annotated[int, Meta(ge=400, le=599)], ...] = ()
    attempts: Annotated[int, Meta(ge=0)] = 1
    backoff: Duration | None = None


class HTTPRouteRule(ApiStruct, frozen=True, kw_only=True):
    """What is done with the requests that any of the matches selects."""

    name: SectionName | None = None
    matches: tuple[HTTPRouteMatch, ...] = (HTTPRouteMatch(),)
    filters: tuple[HTTPRouteFilter, ...] = ()
    backend_refs: tuple[HTTPBackendRef, ...] = ()
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: SessionPersistence | None = None

    @override
    def checks(self) -> Iterable[Problem]:
        """Return what the CRD's limits do not allow."""
        return (
            *at_most("matches", self.matches, MAX_MATCHES),
            *at_most("filters", self.filters, MAX_FILTERS),
            *at_most("backendRefs", self.backend_refs, MAX_BACKENDS),
        )
