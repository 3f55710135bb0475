"""Filters of routes and listeners, as objects.

Source: Gateway API v1.7, HTTPRouteFilter and its members. Filters that are not served yet are
decoded in full all the same: a rule that has one must be known to have it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta
from typing_extensions import override

from penstock.core.objects import ApiStruct
from penstock.gatewayapi.fields import (
    AbsolutePath,
    BackendObjectReference,
    HeaderName,
    HeaderValue,
    LocalObjectReference,
    PortNumber,
    PreciseHostname,
    ShortText,
    at_most,
    one_of,
    unique,
)
from penstock.meta.problems import Problem

MAX_HEADERS = 16
MAX_CORS_ITEMS = 64
MAX_CORS_METHODS = 9

CorsOrigin = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^(\*|https?://((\*\.)?([a-zA-Z0-9\-]+\.)*[a-zA-Z0-9-]+|\*)(:[0-9]{1,5})?)\Z",
    ),
]
CorsMethod = Literal[
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"
]


class HTTPHeader(ApiStruct, frozen=True, kw_only=True):
    """A header to set or add."""

    name: HeaderName
    value: HeaderValue


class HTTPHeaderFilter(ApiStruct, frozen=True, kw_only=True):
    """Changes of headers; one action for each name."""

    set: tuple[HTTPHeader, ...] = ()
    add: tuple[HTTPHeader, ...] = ()
    remove: tuple[str, ...] = ()

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD's limits do not allow."""
        yield from at_most("set", self.set, MAX_HEADERS)
        yield from at_most("add", self.add, MAX_HEADERS)
        yield from at_most("remove", self.remove, MAX_HEADERS)
        yield from unique("set", (header.name for header in self.set), "name")
        yield from unique("add", (header.name for header in self.add), "name")
        yield from unique("remove", self.remove, "name")


class PathModifierType(enum.Enum):
    """How a path is changed."""

    REPLACE_FULL_PATH = "ReplaceFullPath"
    REPLACE_PREFIX_MATCH = "ReplacePrefixMatch"


class HTTPPathModifier(ApiStruct, frozen=True, kw_only=True):
    """A change of the path."""

    type: PathModifierType
    replace_full_path: ShortText | None = None
    replace_prefix_match: ShortText | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield a member that does not belong to the type."""
        members: dict[str, object | None] = {
            "replaceFullPath": self.replace_full_path,
            "replacePrefixMatch": self.replace_prefix_match,
        }
        wanted = self.type.value[:1].lower() + self.type.value[1:]
        yield from one_of(members, self.type.value, wanted)


class HTTPRequestRedirectFilter(ApiStruct, frozen=True, kw_only=True):
    """Answer with a redirect."""

    scheme: Literal["http", "https"] | None = None
    hostname: PreciseHostname | None = None
    path: HTTPPathModifier | None = None
    port: PortNumber | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class HTTPURLRewriteFilter(ApiStruct, frozen=True, kw_only=True):
    """Change host or path before forwarding."""

    hostname: PreciseHostname | None = None
    path: HTTPPathModifier | None = None


class Fraction(ApiStruct, frozen=True, kw_only=True):
    """A share of requests."""

    numerator: Annotated[int, Meta(ge=0)]
    denominator: Annotated[int, Meta(ge=1)] = 100

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield a problem if the share is more than all."""
        if self.numerator > self.denominator:
            yield Problem("numerator", "must not be greater than denominator")


class HTTPRequestMirrorFilter(ApiStruct, frozen=True, kw_only=True):
    """Copy requests to another backend."""

    backend_ref: BackendObjectReference
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    fraction: Fraction | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield a problem if two shares are given."""
        if self.percent is not None and self.fraction is not None:
            yield Problem("fraction", "must not be given together with percent")


class HTTPCORSFilter(ApiStruct, frozen=True, kw_only=True):
    """Cross-origin resource sharing."""

    allow_origins: tuple[CorsOrigin, ...] = ()
    allow_credentials: bool | None = None
    allow_methods: tuple[CorsMethod, ...] = ()
    allow_headers: tuple[HeaderName, ...] = ()
    expose_headers: tuple[HeaderName, ...] = ()
    max_age: Annotated[int, Meta(ge=1)] = 5
    """Seconds."""

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield lists that are too long, repeat themselves, or mix "*" with others."""
        lists: tuple[tuple[str, tuple[str, ...], int], ...] = (
            ("allowOrigins", self.allow_origins, MAX_CORS_ITEMS),
            ("allowMethods", self.allow_methods, MAX_CORS_METHODS),
            ("allowHeaders", self.allow_headers, MAX_CORS_ITEMS),
        )
        for name, items, limit in (
            *lists,
            ("exposeHeaders", self.expose_headers, MAX_CORS_ITEMS),
        ):
            yield from at_most(name, items, limit)
            yield from unique(name, items, "value")
        for name, items, _ in lists:
            if "*" in items and len(items) > 1:
                yield Problem(name, '"*" must stand alone')


class GRPCAuthConfig(ApiStruct, frozen=True, kw_only=True):
    """Settings of an external authorization server that speaks gRPC."""

    allowed_headers: tuple[str, ...] = ()

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD's limits do not allow."""
        yield from at_most("allowedHeaders", self.allowed_headers, MAX_CORS_ITEMS)


class HTTPAuthConfig(ApiStruct, frozen=True, kw_only=True):
    """Settings of an external authorization server that speaks HTTP."""

    path: AbsolutePath | None = None
    allowed_headers: tuple[str, ...] = ()
    allowed_response_headers: tuple[str, ...] = ()

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD's limits do not allow."""
        yield from at_most("allowedHeaders", self.allowed_headers, MAX_CORS_ITEMS)
        yield from at_most("allowedResponseHeaders", self.allowed_response_headers, MAX_CORS_ITEMS)


class ForwardBodyConfig(ApiStruct, frozen=True, kw_only=True):
    """How much of the body the authorization server sees."""

    max_size: Annotated[int, Meta(ge=0)] | None = None
    """Bytes."""


class HTTPExternalAuthFilter(ApiStruct, frozen=True, kw_only=True):
    """Ask an external server whether the request may pass."""

    protocol: Literal["HTTP", "GRPC"]
    backend_ref: BackendObjectReference
    grpc: GRPCAuthConfig | None = None
    http: HTTPAuthConfig | None = None
    forward_body: ForwardBodyConfig | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield a member that does not belong to the protocol."""
        members: dict[str, object | None] = {"grpc": self.grpc, "http": self.http}
        yield from one_of(members, self.protocol, self.protocol.lower())


class FilterType(enum.Enum):
    """The kinds of filters."""

    __hash__ = object.__hash__  # of the filters of all routes: the one of Enum runs Python

    REQUEST_HEADER_MODIFIER = "RequestHeaderModifier"
    RESPONSE_HEADER_MODIFIER = "ResponseHeaderModifier"
    REQUEST_MIRROR = "RequestMirror"
    REQUEST_REDIRECT = "RequestRedirect"
    URL_REWRITE = "URLRewrite"
    EXTENSION_REF = "ExtensionRef"
    CORS = "CORS"
    EXTERNAL_AUTH = "ExternalAuth"

    @property
    def member(self) -> str:
        """Return the name of the member that belongs to the type."""
        return _MEMBERS[self]


_MEMBERS = {one: one.value[:1].lower() + one.value[1:] for one in FilterType} | {
    FilterType.URL_REWRITE: "urlRewrite",
    FilterType.CORS: "cors",
}


class HTTPRouteFilter(ApiStruct, frozen=True, kw_only=True):
    """One filter of a rule or of a backendRef."""

    alike: ClassVar[bool] = True

    type: FilterType
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    request_redirect: HTTPRequestRedirectFilter | None = None
    url_rewrite: HTTPURLRewriteFilter | None = None
    extension_ref: LocalObjectReference | None = None
    cors: HTTPCORSFilter | None = None
    external_auth: HTTPExternalAuthFilter | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield a member that does not belong to the type."""
        members: dict[str, object | None] = {
            "requestHeaderModifier": self.request_header_modifier,
            "responseHeaderModifier": self.response_header_modifier,
            "requestMirror": self.request_mirror,
            "requestRedirect": self.request_redirect,
            "urlRewrite": self.url_rewrite,
            "extensionRef": self.extension_ref,
            "cors": self.cors,
            "externalAuth": self.external_auth,
        }
        yield from one_of(members, self.type.value, self.type.member)


class ListenerFilter(ApiStruct, frozen=True, kw_only=True):
    """One filter that runs before routing."""

    type: Literal["ExternalAuth", "ExtensionRef"]
    external_auth: HTTPExternalAuthFilter | None = None
    extension_ref: LocalObjectReference | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield a member that does not belong to the type."""
        members: dict[str, object | None] = {
            "externalAuth": self.external_auth,
            "extensionRef": self.extension_ref,
        }
        yield from one_of(members, self.type, self.type[:1].lower() + self.type[1:])


class ListenerFilters(ApiStruct, frozen=True, kw_only=True):
    """Filters that run before routing (GEP-5224)."""

    requests: tuple[ListenerFilter, ...] = ()

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD's limits do not allow."""
        yield from at_most("requests", self.requests, MAX_HEADERS)
