"""The kind GRPCRoute and its rules, as objects.

Source: Gateway API v1.7, GRPCRoute and its members, experimental channel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta
from typing_extensions import override

from penstock.core.objects import ApiStruct, Object
from penstock.gatewayapi.fields import (
    GATEWAY_GROUP,
    HeaderName,
    Hostname,
    LocalObjectReference,
    ParentReference,
    SectionName,
    ShortText,
    WeightedBackendReference,
    at_most,
    one_of,
    unique,
)
from penstock.gatewayapi.filters import (
    FilterType,
    HTTPHeaderFilter,
    HTTPRequestMirrorFilter,
    HTTPRouteFilter,
)
from penstock.gatewayapi.resources import route_checks
from penstock.gatewayapi.rules import (
    MAX_BACKENDS,
    MAX_CONDITIONS,
    MAX_FILTERS,
    MAX_MATCHES,
    StringMatchType,
)
from penstock.gatewayapi.session_persistence import SessionPersistence
from penstock.meta.problems import Problem

_SERVICE = re.compile(r"\.?[A-Za-z_][A-Za-z_0-9]*(\.[A-Za-z_][A-Za-z_0-9]*)*\Z")
_METHOD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*\Z")


class GRPCMethodMatch(ApiStruct, frozen=True, kw_only=True):
    """Comparison of the service and the method; what is not given is any."""

    type: StringMatchType = StringMatchType.EXACT
    service: ShortText | None = None
    method: ShortText | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        if self.service is None and self.method is None:
            yield Problem("", "service or method must be given")
        if self.type is not StringMatchType.EXACT:
            return
        if self.service is not None and not _SERVICE.match(self.service):
            yield Problem("service", "is not the name of a service, as a.b.Service")
        if self.method is not None and not _METHOD.match(self.method):
            yield Problem("method", "is not the name of a method")


class GRPCHeaderMatch(ApiStruct, frozen=True, kw_only=True):
    """Comparison of an item of the metadata."""

    type: StringMatchType = StringMatchType.EXACT
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]


class GRPCRouteMatch(ApiStruct, frozen=True, kw_only=True):
    """Conditions that must all hold."""

    method: GRPCMethodMatch | None = None
    headers: tuple[GRPCHeaderMatch, ...] = ()

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD's limits do not allow."""
        yield from at_most("headers", self.headers, MAX_CONDITIONS)
        yield from unique("headers", (one.name for one in self.headers), "name")


class GRPCRouteFilter(ApiStruct, frozen=True, kw_only=True):
    """One filter of a rule or of a backendRef."""

    type: Literal[
        "RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"
    ]
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    extension_ref: LocalObjectReference | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield a member that does not belong to the type."""
        members: dict[str, object | None] = {
            "requestHeaderModifier": self.request_header_modifier,
            "responseHeaderModifier": self.response_header_modifier,
            "requestMirror": self.request_mirror,
            "extensionRef": self.extension_ref,
        }
        yield from one_of(members, self.type, FilterType(self.type).member)

    @property
    def as_http(self) -> HTTPRouteFilter:
        """Return the filter of an HTTPRoute that does the same."""
        return HTTPRouteFilter(
            type=FilterType(self.type),
            request_header_modifier=self.request_header_modifier,
            response_header_modifier=self.response_header_modifier,
            request_mirror=self.request_mirror,
            extension_ref=self.extension_ref,
        )


class GRPCBackendRef(WeightedBackendReference, frozen=True, kw_only=True):
    """One of the backends that share the requests of a rule."""

    filters: tuple[GRPCRouteFilter, ...] = ()

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD's limits do not allow."""
        yield from at_most("filters", self.filters, MAX_FILTERS)


class GRPCRouteRule(ApiStruct, frozen=True, kw_only=True):
    """What is done with the requests that any of the matches selects; without matches, with all."""

    name: SectionName | None = None
    matches: tuple[GRPCRouteMatch, ...] = ()
    filters: tuple[GRPCRouteFilter, ...] = ()
    backend_refs: tuple[GRPCBackendRef, ...] = ()
    session_persistence: SessionPersistence | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD's limits do not allow."""
        yield from at_most("matches", self.matches, MAX_MATCHES)
        yield from at_most("filters", self.filters, MAX_FILTERS)
        yield from at_most("backendRefs", self.backend_refs, MAX_BACKENDS)


class GRPCRouteSpec(ApiStruct, frozen=True, kw_only=True):
    """Where a route is attached, for which hosts, and its rules; without rules, it has no calls."""

    parent_refs: tuple[ParentReference, ...] = ()
    hostnames: tuple[Hostname, ...] = ()
    rules: tuple[GRPCRouteRule, ...] = ()
    use_default_gateways: Literal["All", "None"] | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        yield from route_checks(self.parent_refs, self.hostnames, self.rules)


class GRPCRoute(Object, frozen=True, kw_only=True):
    """Rules for gRPC calls to a Gateway or to a Service of the mesh."""

    api_versions: ClassVar[tuple[str, ...]] = (f"{GATEWAY_GROUP}/v1",)
    kind: ClassVar[str] = "GRPCRoute"

    spec: GRPCRouteSpec
