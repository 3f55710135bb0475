"""What spans say of a request, as custom tags of Envoy.

Names are those of OpenTelemetry's semantic conventions for HTTP servers; Envoy's own, older names
are there beside them. Path and host are those that the client sent: they are noted before a route
rewrites them. What a request does not have is left out of its span.

Source: envoy.type.tracing.v3.CustomTag; OpenTelemetry semantic conventions; GEP-5253.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from penstock.envoy.wire import pack
from penstock.ir.route import PathKind, PathMatch
from penstock.ir.tracing import (
    REQUEST_HEADER,
    RESPONSE_HEADER,
    HeaderValue,
    KnownValue,
    LiteralValue,
    SpanAttribute,
)
from penstock.pb.envoy.config.core.v3 import base_pb2
from penstock.pb.envoy.extensions.filters.http.header_to_metadata.v3 import (
    header_to_metadata_pb2,
)
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from penstock.pb.envoy.type.tracing.v3 import custom_tag_pb2

REQUEST = "penstock.request"
"""Filter that notes what the client sent, and namespace of the metadata in which it does."""
ROUTE = "penstock.route"
"""Namespace of the metadata of routes: what spans say of them."""
TEMPLATE, BEHIND_METHOD = "template", "behind"
"""Keys there: what the path is like; the same, to stand behind the method."""
USUAL = (
    "client.address", "error.type", "http.request.method", "http.response.status_code",
    "http.route", "network.protocol.version", "server.address", "server.port", "url.path",
    "url.query", "url.scheme", "user_agent.original",
)  # fmt: skip
"""What every span says."""
OWN_ROUTE = "penstock.route"
"""Attribute with the name of the route: "namespace/name/rule/match"."""

_INT = custom_tag_pb2.CustomTag.INT
_NUMBERS = frozenset({"client.port", "http.response.status_code", "network.peer.port"})
_ERRORS = (500, 501, 502, 503, 504, 505, 507, 508, 511)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests come in."""

    gateway: str
    """Namespace and name."""
    namespace: str
    port: int
    service_name: str


def custom_tags(
    attributes: tuple[SpanAttribute, ...], place: Place
) -> Iterator[custom_tag_pb2.CustomTag]:
    """Yield the tags of every span at *place*, sorted; *attributes* go before the usual ones."""
    usual = (SpanAttribute(name=key, value=KnownValue(key=key)) for key in USUAL)
    named = {one.name: one for one in (*usual, *attributes)}
    tags = {name: _tag(one, place) for name, one in named.items()}
    tags.setdefault(OWN_ROUTE, custom_tag_pb2.CustomTag(tag=OWN_ROUTE, value="%ROUTE_NAME%"))
    yield from (tags[name] for name in sorted(tags))


def _tag(one: SpanAttribute, place: Place) -> custom_tag_pb2.CustomTag:
    match one.value:
        case LiteralValue(text=text):
            return _literal(one.name, text)
        case HeaderValue(header=header):
            return _header(one.name, header)
        case KnownValue(key=key):
            return _known(one.name, key, place)


def _literal(name: str, text: str) -> custom_tag_pb2.CustomTag:
    return custom_tag_pb2.CustomTag(tag=name, literal=custom_tag_pb2.CustomTag.Literal(value=text))


def _header(name: str, header: str) -> custom_tag_pb2.CustomTag:
    if "%" in header:  # legal, but no format string can name it
        of_request = custom_tag_pb2.CustomTag.Header(name=header)
        return custom_tag_pb2.CustomTag(tag=name, request_header=of_request)
    operators = [{"command": command, "param": header} for command in ("REQ", "RESP")]
    config = msgspec.json.encode({"operators": operators}).decode()
    return custom_tag_pb2.CustomTag(tag=name, value=f"%COALESCE({config})%")


def _known(name: str, key: str, place: Place) -> custom_tag_pb2.CustomTag:
    if key.startswith(REQUEST_HEADER):
        value = f"%REQ({key.removeprefix(REQUEST_HEADER)})%"
    elif key.startswith(RESPONSE_HEADER):
        value = f"%RESP({key.removeprefix(RESPONSE_HEADER)})%"
    elif key in CONSTANTS:
        return _constant(name, CONSTANTS[key](place))
    else:
        value = FORMATS[key]
    kind = _INT if key in _NUMBERS else custom_tag_pb2.CustomTag.UNSPECIFIED
    return custom_tag_pb2.CustomTag(tag=name, value=value, value_type=kind)


def _constant(name: str, value: str | int) -> custom_tag_pb2.CustomTag:
    if isinstance(value, str):
        return _literal(name, value)
    return custom_tag_pb2.CustomTag(tag=name, value=str(value), value_type=_INT)


def _noted(key: str) -> str:
    return f"%DYNAMIC_METADATA({REQUEST}:{key})%"


def _error() -> str:
    """Return which error it was, if it was one of the server; CEL makes no text of a number."""
    cases = "".join(f'response.code == {one} ? "{one}" : ' for one in _ERRORS)
    return f'%CEL(response.code < 500 ? "" : {cases}"_OTHER")%'


CONSTANTS: Mapping[str, Callable[[Place], str | int]] = {
    "network.protocol.name": lambda _: "http",
    "network.transport": lambda _: "tcp",
    "server.port": lambda place: place.port,
    "service.name": lambda place: place.service_name,
    "service.namespace": lambda place: place.namespace,
}
"""Attributes that are the same for every request at a place."""
FORMATS: Mapping[str, str] = {
    "client.address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "client.port": "%DOWNSTREAM_REMOTE_PORT%",
    "error.type": _error(),
    "http.request.method": "%REQ(:METHOD)%",
    "http.request.method_original": "%REQ(:METHOD)%",
    "http.response.status_code": "%RESPONSE_CODE%",
    "http.route": f"%METADATA(ROUTE:{ROUTE}:{TEMPLATE})%",
    "network.peer.address": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "network.peer.port": "%DOWNSTREAM_DIRECT_REMOTE_PORT%",
    "network.protocol.version": '%CEL(request.protocol == "HTTP/2" ? "2" : '
    'request.protocol == "HTTP/1.0" ? "1.0" : "1.1")%',
    "network.type": '%CEL(source.address.startsWith("[") ? "ipv6" : "ipv4")%',
    "server.address": _noted("host"),
    "service.instance.id": "%CEL(xds.node.id)%",
    "url.full": f"%REQ(:SCHEME)%://{_noted('authority')}{_noted('target')}",
    "url.path": _noted("path"),
    "url.query": _noted("query"),
    "url.scheme": "%REQ(:SCHEME)%",
    "user_agent.original": "%REQ(USER-AGENT)%",
}
"""Attributes that requests have, as format strings."""

_NOTED = (
    (":path", "path", r"^([^?]*).*$"),
    (":path", "query", r"^[^?]*\??(.*)$"),
    (":path", "target", r"^(.*)$"),
    (":authority", "host", r"^(\[[^\]]*\]|[^:]*).*$"),
    (":authority", "authority", r"^(.*)$"),
)
"""(header, key, what of the header is noted under the key)."""


def noting() -> hcm_pb2.HttpFilter:
    """Return the filter that notes what the client sent, to stand before all others."""
    made = header_to_metadata_pb2.Config()
    for header, key, pattern in _NOTED:
        rule = made.request_rules.add(header=header)
        rule.on_header_present.metadata_namespace = REQUEST
        rule.on_header_present.key = key
        rewrite = rule.on_header_present.regex_value_rewrite
        rewrite.pattern.regex = pattern
        rewrite.substitution = r"\1"
    return hcm_pb2.HttpFilter(name=REQUEST, typed_config=pack(made))


def of_route(path: PathMatch) -> base_pb2.Metadata:
    """Return what spans say of a route with this path, as metadata of the route."""
    template = template_of(path)
    made = base_pb2.Metadata()
    made.filter_metadata[ROUTE].update({TEMPLATE: template, BEHIND_METHOD: f" {template}"})
    return made


def template_of(path: PathMatch) -> str:
    """Return what the paths of a route are like, as "/cart/*" for those that begin with "/cart".

    >>> template_of(PathMatch(value="/"))
    '/*'
    """
    if path.kind is not PathKind.PREFIX:
        return path.value
    return f"{path.value.rstrip('/')}/*"
