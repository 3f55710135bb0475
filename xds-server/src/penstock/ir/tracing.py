"""Traces: which requests of a Gateway are told to a collector, and what is told of them.

Source: Gateway API, XTelemetryPolicy; names of attributes: OpenTelemetry semantic conventions.
"""

from __future__ import annotations

from penstock.ir.route import Node, ServicePort
from penstock.meta.names import Origin

ALL = 1_000_000
"""Every request; shares are counted in millionths."""
KEYS = frozenset(
    {
        "client.address", "client.port", "error.type", "http.request.method",
        "http.request.method_original", "http.response.status_code", "http.route",
        "network.peer.address", "network.peer.port", "network.protocol.name",
        "network.protocol.version", "network.transport", "network.type", "server.address",
        "server.port", "service.instance.id", "service.name", "service.namespace", "url.full",
        "url.path", "url.query", "url.scheme", "user_agent.original",
    }
)  # fmt: skip
"""Attributes of OpenTelemetry that a Gateway knows."""
REQUEST_HEADER, RESPONSE_HEADER = "http.request.header.", "http.response.header."
"""Beginnings of attributes that are named after a header."""


class LiteralValue(Node, frozen=True, kw_only=True):
    """Always the same text."""

    text: str


class HeaderValue(Node, frozen=True, kw_only=True):
    """A header of the request, or of the answer if the request has none."""

    header: str


class KnownValue(Node, frozen=True, kw_only=True):
    """An attribute of OpenTelemetry, one of those that `is_known`."""

    key: str


class SpanAttribute(Node, frozen=True, kw_only=True):
    """What a span says under a name."""

    name: str
    value: LiteralValue | HeaderValue | KnownValue


class Sampling(Node, frozen=True, kw_only=True):
    """Which requests are told, in millionths."""

    new: int = ALL
    """Of those that begin a trace; of all if parents do not count."""
    parents: int | None = ALL
    """Of those that the client has told, too; None is as if the client had said nothing."""


class Collector(Node, frozen=True, kw_only=True):
    """Who is told, in the OpenTelemetry protocol."""

    target: ServicePort
    """A port of a Service, or what stands for an XBackend."""
    host: str
    """As which it is asked."""
    grpc: bool
    """Whether by gRPC, or else by HTTP."""


class Tracing(Node, frozen=True, kw_only=True):
    """The traces of a Gateway."""

    collector: Collector
    headers: tuple[tuple[str, str], ...] = ()
    """What is sent with the traces: (name in lower case, value), sorted."""
    service_name: str = ""
    """"" is the name of the Gateway."""
    span_name: str = ""
    """"" is method and route."""
    sampling: Sampling = Sampling()
    attributes: tuple[SpanAttribute, ...] = ()
    origin: Origin


def is_known(key: str) -> bool:
    """Tell whether a Gateway can say what an attribute of OpenTelemetry is."""
    begun = key.startswith((REQUEST_HEADER, RESPONSE_HEADER)) and not key.endswith(".")
    return key in KEYS or begun
