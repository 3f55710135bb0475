"""Filters of rules, as changes of requests and responses.

Source: Gateway API v1.7, HTTPHeaderFilter, HTTPURLRewriteFilter, HTTPRequestRedirectFilter,
HTTPCORSFilter.
Values are literal: what a proxy takes for a command inside them (`%` in Envoy) is escaped by who
writes its configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from penstock.gatewayapi.faults import Fault
from penstock.gatewayapi.filters import (
    HTTPCORSFilter,
    HTTPHeaderFilter,
    HTTPPathModifier,
    HTTPRequestRedirectFilter,
    PathModifierType,
)
from penstock.gatewayapi.rules import path_faults
from penstock.ir.http import TOKEN
from penstock.ir.route import NO_CHANGE, Cors, HeaderChange, PathRewrite, Redirect

HOST = "host"
HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""RFC 9110 §7.6.1 and framing: the proxy's own business on every connection."""
RESERVED_PREFIX = "x-penstock-"
"""Headers by which Penstock itself finds routes."""

_NAME = re.compile(TOKEN + r"\Z")
_HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
)


class HeaderEdit(msgspec.Struct, frozen=True, kw_only=True):
    """A header filter: the change, the new Host if one is set, and what is wrong with it."""

    change: HeaderChange = NO_CHANGE
    host: str = ""
    faults: tuple[Fault, ...] = ()


def header_edit(given: HTTPHeaderFilter, path: str, *, host_may_change: bool) -> HeaderEdit:
    """Return what *given* asks for.

    Args:
        given: the filter.
        path: where it is, as "spec.rules[0].filters[1].requestHeaderModifier".
        host_may_change: True where `set` of the header Host is a change of the host.
    """
    host, headers = "", []
    faults = [*_name_faults(given, path), *_repeated(given, path)]
    for index, header in enumerate(given.set):
        name = header.name.lower()
        if name != HOST:
            headers.append((name, header.value))
        elif host_may_change and _HOST.match(header.value):
            host = header.value
        elif host_may_change:
            faults.append(Fault(f"{path}.set[{index}].value", "is not a hostname"))
        else:
            faults.append(Fault(f"{path}.set[{index}].name", "Host cannot be changed here"))
    change = HeaderChange(
        set=tuple(headers),
        add=tuple((header.name.lower(), header.value) for header in given.add),
        remove=tuple(name.lower() for name in given.remove),
    )
    return HeaderEdit(change=change, host=host, faults=tuple(faults))


def path_rewrite(given: HTTPPathModifier, path: str) -> PathRewrite | tuple[Fault, ...]:
    """Return the new path, or what is wrong with *given*, which is at *path*."""
    prefix = given.type is PathModifierType.REPLACE_PREFIX_MATCH
    value = (given.replace_prefix_match if prefix else given.replace_full_path) or "/"
    field = "replacePrefixMatch" if prefix else "replaceFullPath"
    faults = tuple(Fault(f"{path}.{field}", text) for text in path_faults(value))
    return faults or PathRewrite(value=value, prefix=prefix)


def redirect(given: HTTPRequestRedirectFilter, path: str) -> Redirect | tuple[Fault, ...]:
    """Return the redirect, or what is wrong with *given*, which is at *path*."""
    new_path = None if given.path is None else path_rewrite(given.path, f"{path}.path")
    if isinstance(new_path, tuple):
        return new_path
    return Redirect(
        scheme=given.scheme or "",
        host=given.hostname or "",
        port=given.port or 0,
        path=new_path,
        status=given.status_code,
    )


def cors(given: HTTPCORSFilter) -> Cors:
    """Return the policy that *given* asks for."""
    return Cors(
        origins=given.allow_origins,
        methods=given.allow_methods,
        headers=tuple(name.lower() for name in given.allow_headers),
        exposed=tuple(name.lower() for name in given.expose_headers),
        credentials=bool(given.allow_credentials),
        max_age_seconds=given.max_age,
    )


def _names(given: HTTPHeaderFilter) -> Iterator[tuple[str, str]]:
    """Yield (path below the filter, lower-case name) of every action."""
    for index, header in enumerate(given.set):
        yield f"set[{index}].name", header.name.lower()
    for index, header in enumerate(given.add):
        yield f"add[{index}].name", header.name.lower()
    for index, name in enumerate(given.remove):
        yield f"remove[{index}]", name.lower()


def _name_faults(given: HTTPHeaderFilter, path: str) -> Iterator[Fault]:
    for below, name in _names(given):
        if not _NAME.match(name):
            yield Fault(f"{path}.{below}", f"{name!r} is not the name of a header")
        elif name in HOP_BY_HOP:
            yield Fault(f"{path}.{below}", f"{name} belongs to the connection, not to the request")
        elif name.startswith(RESERVED_PREFIX):
            yield Fault(f"{path}.{below}", f"names with {RESERVED_PREFIX} are reserved")
        elif name == HOST and not below.startswith("set"):
            yield Fault(f"{path}.{below}", "Host can only be set")


def _repeated(given: HTTPHeaderFilter, path: str) -> Iterator[Fault]:
    seen: set[str] = set()
    for below, name in _names(given):
        if name in seen:
            yield Fault(f"{path}.{below}", f"only one action for header {name} is allowed")
        seen.add(name)
