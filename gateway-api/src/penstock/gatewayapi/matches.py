"""Translate the matches of a rule.

Source: Gateway API v1.7, HTTPRouteMatch. A regular expression that Envoy would refuse is a fault;
the match that stands in for it is as wide as its certain part, so that neither a broader rule gets
the traffic that was meant nor a narrower one loses its own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import msgspec

from penstock.gatewayapi.faults import Fault
from penstock.gatewayapi.precedence import PathRank, prefix_rank
from penstock.gatewayapi.regexes import certain_start
from penstock.gatewayapi.rules import (
    HTTPPathMatch,
    HTTPRouteMatch,
    PathMatchType,
    StringMatchType,
)
from penstock.ir.regex import regex_fault
from penstock.ir.route import NamedMatch, PathKind, PathMatch, RouteMatch, StringMatch

_REMEMBERED = 1024
"""Matches of which what they select is known: many routes have the same."""


class TranslatedMatch(msgspec.Struct, frozen=True):
    """A match and what is wrong with it."""

    match: RouteMatch
    faults: tuple[Fault, ...] = ()
    path: PathRank | None = None
    """Place of its path where HTTPRoute's order does not hold."""


@functools.lru_cache(maxsize=_REMEMBERED)
def translate_match(given: HTTPRouteMatch, path: str) -> TranslatedMatch:
    """Return what *given*, which is at *path* of its route, selects."""
    faults = list(_path_faults(given.path, path))
    selected, place = _anything_alike(given.path.value) if faults else (_path(given.path), None)
    headers = first_of_each([(one.name.lower(), one) for one in given.headers])
    queries = first_of_each([(one.name, one) for one in given.query_params])
    match = RouteMatch(
        path=selected,
        method=given.method or "",
        headers=named(headers, f"{path}.headers", faults),
        queries=named(queries, f"{path}.queryParams", faults),
    )
    return TranslatedMatch(match, tuple(faults), place)


class Comparison(Protocol):
    """The match of a header or of a query parameter."""

    @property
    def type(self) -> StringMatchType:
        """Return how it compares."""
        ...

    @property
    def value(self) -> str:
        """Return with what it compares."""
        ...


N = TypeVar("N", bound=Comparison)


def _path_faults(given: HTTPPathMatch, path: str) -> Sequence[Fault]:
    if given.type is not PathMatchType.REGULAR_EXPRESSION:
        return ()
    fault = regex_fault(given.value)
    return () if not fault else (Fault(f"{path}.path.value", fault),)


def _anything_alike(pattern: str) -> tuple[PathMatch, PathRank]:
    """Return what may have been meant by an expression that cannot be read, and its place.

    No broader rule gets what was meant for it, and what certainly was not goes on as before. It
    comes where a prefix would: what others say in more detail is theirs.
    """
    start = certain_start(pattern)
    if len(start) <= 1:
        return PathMatch(), prefix_rank("/")
    return PathMatch(kind=PathKind.REGEX, value=f"{start}.*"), prefix_rank(start)


def _path(given: HTTPPathMatch) -> PathMatch:
    match given.type:
        case PathMatchType.EXACT:
            return PathMatch(kind=PathKind.EXACT, value=given.value)
        case PathMatchType.PATH_PREFIX:
            return PathMatch(kind=PathKind.PREFIX, value=given.value.rstrip("/") or "/")
        case PathMatchType.REGULAR_EXPRESSION:
            return PathMatch(kind=PathKind.REGEX, value=given.value)


def first_of_each(given: Iterable[tuple[str, N]]) -> list[tuple[int, str, N]]:
    """Return (index, name, match) of the first match of each name; later ones do not count."""
    seen: set[str] = set()
    found: list[tuple[int, str, N]] = []
    for index, (name, one) in enumerate(given):
        if name not in seen:
            seen.add(name)
            found.append((index, name, one))
    return found


def named(
    given: Sequence[tuple[int, str, Comparison]], path: str, faults: list[Fault]
) -> tuple[NamedMatch, ...]:
    """Return the usable ones of *given*; add what is wrong with the others to *faults*."""
    usable: list[NamedMatch] = []
    for index, name, one in given:
        regex = one.type is StringMatchType.REGULAR_EXPRESSION
        fault = regex_fault(one.value) if regex else ""
        if not fault:
            usable.append(NamedMatch(name=name, match=StringMatch(value=one.value, regex=regex)))
        else:
            faults.append(Fault(f"{path}[{index}].value", fault))
    return tuple(usable)
