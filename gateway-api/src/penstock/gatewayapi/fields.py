r"""Constrained types and checks that several kinds share.

Source: Gateway API v1.7 CRDs; the patterns are theirs, closed with `\Z` instead of `$`, and free
of the nested repetition that makes the header value's pattern exponential.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sized
from typing import Annotated

from msgspec import Meta

from penstock.core import jsonpath
from penstock.core.objects import ApiStruct
from penstock.ir.http import TOKEN
from penstock.meta.problems import Problem

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"

GATEWAY_GROUP = "gateway.networking.k8s.io"
CORE_GROUP = ""


def carrier_of(route_kind: str) -> str:
    """Return the protocol of the ports of Services that a kind of routes is about."""
    return "UDP" if route_kind == "UDPRoute" else "TCP"


Group = Annotated[str, Meta(max_length=253, pattern=rf"^({_SUBDOMAIN})?\Z")]
Kind = Annotated[
    str, Meta(min_length=1, max_length=63, pattern=r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?\Z")
]
ObjectName = Annotated[str, Meta(min_length=1, max_length=253)]
Namespace = Annotated[str, Meta(min_length=1, max_length=63, pattern=rf"^{_LABEL}\Z")]
SectionName = Annotated[str, Meta(min_length=1, max_length=253, pattern=rf"^{_SUBDOMAIN}\Z")]
Hostname = Annotated[str, Meta(min_length=1, max_length=253, pattern=rf"^(\*\.)?{_SUBDOMAIN}\Z")]
PreciseHostname = Annotated[str, Meta(min_length=1, max_length=253, pattern=rf"^{_SUBDOMAIN}\Z")]
PortNumber = Annotated[int, Meta(ge=1, le=65535)]
Weight = Annotated[int, Meta(ge=0, le=1_000_000)]
HeaderName = Annotated[str, Meta(min_length=1, max_length=256, pattern=rf"^{TOKEN}\Z")]
HeaderValue = Annotated[
    str, Meta(min_length=1, max_length=4096, pattern=r"^[!-~]+([\t ][!-~]+)*\Z")
]
Duration = Annotated[str, Meta(pattern=r"^([0-9]{1,5}(h|ms|m|s)){1,4}\Z")]
"""GEP-2257."""
ShortText = Annotated[str, Meta(max_length=1024)]
LongText = Annotated[str, Meta(max_length=4096)]
DomainPrefixedPath = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=rf"^{_SUBDOMAIN}/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+\Z",
    ),
]
AbsolutePath = Annotated[
    str, Meta(max_length=1024, pattern=r"^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+\Z")
]


class LocalObjectReference(ApiStruct, frozen=True, kw_only=True):
    """A reference to an object in the same namespace."""

    group: Group
    kind: Kind
    name: ObjectName


class ParametersReference(ApiStruct, frozen=True, kw_only=True):
    """A reference to parameters of an implementation; Penstock has none."""

    group: Group
    kind: Kind
    name: ObjectName
    namespace: Namespace | None = None


class ObjectReference(ApiStruct, frozen=True, kw_only=True):
    """A reference to an object of any kind, perhaps in another namespace."""

    group: Group
    kind: Kind
    name: ObjectName
    namespace: Namespace | None = None


class SecretObjectReference(ApiStruct, frozen=True, kw_only=True):
    """A reference to a Secret or something that stands for one."""

    group: Group = CORE_GROUP
    kind: Kind = "Secret"
    name: ObjectName
    namespace: Namespace | None = None


class BackendObjectReference(ApiStruct, frozen=True, kw_only=True):
    """A reference to a Service port or something that stands for one."""

    group: Group = CORE_GROUP
    kind: Kind = "Service"
    name: ObjectName
    namespace: Namespace | None = None
    port: PortNumber | None = None


class WeightedBackendReference(BackendObjectReference, frozen=True, kw_only=True):
    """One of several backends, with its share."""

    weight: Weight = 1


class ParentReference(ApiStruct, frozen=True, kw_only=True):
    """What a route wants to be attached to: a Gateway, or a Service of the mesh."""

    group: Group = GATEWAY_GROUP
    kind: Kind = "Gateway"
    namespace: Namespace | None = None
    name: ObjectName
    section_name: SectionName | None = None
    port: PortNumber | None = None


def at_most(name: str, items: Sized, limit: int) -> Iterable[Problem]:
    """Return a problem if *items* of field *name* are more than *limit*."""
    if len(items) <= limit:
        return ()
    return (Problem(name, f"has {len(items)} elements; at most {limit} are allowed"),)


def unique(name: str, keys: Iterable[Hashable], what: str) -> Iterable[Problem]:
    """Return a problem for every element of field *name* whose key was there before."""
    listed = tuple(keys)
    if len(listed) < 2 or len(frozenset(listed)) == len(listed):  # noqa: PLR2004
        return ()
    seen: set[Hashable] = set()
    found: list[Problem] = []
    for index, key in enumerate(listed):
        if key in seen:
            found.append(Problem(jsonpath.item(name, index), f"{what} must be unique"))
        seen.add(key)
    return found


def one_of(given: dict[str, object | None], chosen: str, wanted: str) -> Iterator[Problem]:
    """Yield problems of a union: member *wanted* must be there, no other may.

    Args:
        given: members by their name on the wire; None is absent.
        chosen: the value of the field `type`.
        wanted: the name of the member that belongs to it.
    """
    for name, value in given.items():
        if name == wanted and value is None:
            yield Problem(name, f"required field is missing: type is {chosen}")
        elif name != wanted and value is not None:
            yield Problem(name, f"must not be given: type is {chosen}")
