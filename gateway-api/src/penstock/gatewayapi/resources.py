"""The kinds: GatewayClass, Gateway, ReferenceGrant and HTTPRoute, strictly decoded.

Source: Gateway API v1.7 CRDs, experimental channel; every field of their schemas is declared and
defaults are applied as the API server applies them. What the CRDs forbid by pattern, enum or limit
makes the object Broken; what only spoils one rule or one listener is left to translation, which
takes that rule or listener out and lets the others serve.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol

import msgspec
from msgspec import Meta
from typing_extensions import override

from penstock.core.labels import LabelSelector
from penstock.core.objects import ApiStruct, Object
from penstock.gatewayapi.fields import (
    GATEWAY_GROUP,
    DomainPrefixedPath,
    Group,
    Hostname,
    Kind,
    LocalObjectReference,
    LongText,
    Namespace,
    ObjectName,
    ObjectReference,
    ParametersReference,
    ParentReference,
    PortNumber,
    SecretObjectReference,
    SectionName,
    at_most,
    unique,
)
from penstock.gatewayapi.filters import ListenerFilters
from penstock.gatewayapi.rules import HTTPRouteRule
from penstock.meta.problems import Problem

API_VERSIONS = (f"{GATEWAY_GROUP}/v1", f"{GATEWAY_GROUP}/v1beta1")
MAX_LISTENERS, MAX_ADDRESSES, MAX_KINDS, MAX_CERTIFICATES, MAX_CA_REFS = 64, 16, 8, 64, 16
MAX_PARENTS, MAX_HOSTNAMES, MAX_RULES, MAX_MATCHES_OF_ROUTE, MAX_GRANT_ITEMS = 32, 16, 16, 128, 16


# --- GatewayClass -------------------------------------------------------------------------------

CONTROLLER_NAME = "penstock.dev/gateway-controller"
"""GatewayClasses with this controllerName are ours, and no others."""


class GatewayClassSpec(ApiStruct, frozen=True, kw_only=True):
    """Who implements Gateways of a class."""

    controller_name: DomainPrefixedPath
    description: Annotated[str, Meta(max_length=64)] | None = None
    parameters_ref: ParametersReference | None = None


class GatewayClass(Object, frozen=True, kw_only=True):
    """A class of Gateways."""

    api_versions: ClassVar[tuple[str, ...]] = API_VERSIONS
    kind: ClassVar[str] = "GatewayClass"
    namespaced: ClassVar[bool] = False

    spec: GatewayClassSpec


# --- Gateway ------------------------------------------------------------------------------------


class FromNamespaces(enum.Enum):
    """Which namespaces' objects are welcome."""

    ALL = "All"
    SELECTOR = "Selector"
    SAME = "Same"
    NONE = "None"


class RouteNamespaces(ApiStruct, frozen=True, kw_only=True):
    """Namespaces whose routes may attach."""

    from_: FromNamespaces = msgspec.field(name="from", default=FromNamespaces.SAME)
    selector: LabelSelector | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield a value that only listeners of a ListenerSet know."""
        if self.from_ is FromNamespaces.NONE:
            yield Problem("from", "None is not All, Selector or Same")


class RouteGroupKind(ApiStruct, frozen=True, kw_only=True):
    """A kind of routes."""

    group: Group = GATEWAY_GROUP
    kind: Kind


class AllowedRoutes(ApiStruct, frozen=True, kw_only=True):
    """Which routes may attach to a listener."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: tuple[RouteGroupKind, ...] = ()

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD's limits do not allow."""
        yield from at_most("kinds", self.kinds, MAX_KINDS)


class ListenerTLSConfig(ApiStruct, frozen=True, kw_only=True):
    """TLS of a listener."""

    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: tuple[SecretObjectReference, ...] = ()
    options: dict[str, LongText] = msgspec.field(default_factory=dict)

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        yield from at_most("certificateRefs", self.certificate_refs, MAX_CERTIFICATES)
        if self.mode == "Terminate" and not self.certificate_refs and not self.options:
            yield Problem("certificateRefs", "required field is missing: mode is Terminate")


class Listener(ApiStruct, frozen=True, kw_only=True):
    """A port that a Gateway opens, for one hostname or for all."""

    name: SectionName
    hostname: Hostname | None = None
    port: PortNumber
    protocol: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=255,
            pattern=r"^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?"
            r"|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9]+)\Z",
        ),
    ]
    tls: ListenerTLSConfig | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()
    filters: ListenerFilters | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield combinations that the CRD does not allow."""
        plain = self.protocol in ("HTTP", "TCP", "UDP")
        if plain and self.tls is not None:
            yield Problem("tls", f"must not be given: protocol is {self.protocol}")
        if self.protocol == "HTTPS" and self.tls is not None and self.tls.mode != "Terminate":
            yield Problem("tls.mode", "must be Terminate: protocol is HTTPS")
        if self.protocol == "TLS" and self.tls is None:
            yield Problem("tls", "required field is missing: protocol is TLS")
        if self.protocol in ("TCP", "UDP") and self.hostname is not None:
            yield Problem("hostname", f"must not be given: protocol is {self.protocol}")
        if self.filters is not None and self.protocol not in ("HTTP", "HTTPS"):
            yield Problem("filters", "may only be given when protocol is HTTP or HTTPS")


class GatewaySpecAddress(ApiStruct, frozen=True, kw_only=True):
    """An address that the user wants."""

    type: Annotated[str, Meta(min_length=1, max_length=253)] = "IPAddress"
    value: Annotated[str, Meta(max_length=253)] | None = None
    routability: Annotated[str, Meta(max_length=253)] | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield a reach that is neither "Cluster" nor named by a domain (v1.7)."""
        reach = self.routability or "Cluster"
        domain, slash, path = reach.partition("/")
        if reach != "Cluster" and not (slash and domain and path):
            yield Problem("routability", "must be Cluster or a path with a domain in front")
        if domain == "k8s.io" or domain.endswith(".k8s.io"):
            yield Problem("routability", "k8s.io and what is below it is reserved")


class GatewayInfrastructure(ApiStruct, frozen=True, kw_only=True):
    """Wishes for objects that are generated for a Gateway."""

    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, LongText] = msgspec.field(default_factory=dict)
    parameters_ref: LocalObjectReference | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD's limits do not allow."""
        yield from at_most("labels", self.labels, 8)
        yield from at_most("annotations", self.annotations, 16)


class ListenerNamespaces(ApiStruct, frozen=True, kw_only=True):
    """Namespaces whose ListenerSets may attach."""

    from_: FromNamespaces = msgspec.field(name="from", default=FromNamespaces.NONE)
    selector: LabelSelector | None = None


class AllowedListeners(ApiStruct, frozen=True, kw_only=True):
    """Which ListenerSets may attach to a Gateway."""

    namespaces: ListenerNamespaces = ListenerNamespaces()


class FrontendTLSValidation(ApiStruct, frozen=True, kw_only=True):
    """How certificates of clients are checked."""

    ca_certificate_refs: tuple[ObjectReference, ...]
    mode: Literal["AllowValidOnly", "AllowInsecureFallback"] = "AllowValidOnly"

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        yield from at_most("caCertificateRefs", self.ca_certificate_refs, MAX_CA_REFS)
        if not self.ca_certificate_refs:
            yield Problem("caCertificateRefs", "must have at least one element")


class TLSConfig(ApiStruct, frozen=True, kw_only=True):
    """Validation of clients on some ports."""

    validation: FrontendTLSValidation | None = None


class TLSPortConfig(ApiStruct, frozen=True, kw_only=True):
    """Validation of clients on one port."""

    port: PortNumber
    tls: TLSConfig


class FrontendTLSConfig(ApiStruct, frozen=True, kw_only=True):
    """TLS towards clients."""

    default: TLSConfig
    per_port: tuple[TLSPortConfig, ...] = ()

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        yield from at_most("perPort", self.per_port, MAX_LISTENERS)
        yield from unique("perPort", (one.port for one in self.per_port), "port")


class GatewayBackendTLS(ApiStruct, frozen=True, kw_only=True):
    """TLS towards backends."""

    client_certificate_ref: SecretObjectReference | None = None


class GatewayTLSConfig(ApiStruct, frozen=True, kw_only=True):
    """TLS of a whole Gateway."""

    backend: GatewayBackendTLS | None = None
    frontend: FrontendTLSConfig | None = None


class GatewaySpec(ApiStruct, frozen=True, kw_only=True):
    """What a Gateway opens and for whom."""

    gateway_class_name: ObjectName
    listeners: tuple[Listener, ...]
    addresses: tuple[GatewaySpecAddress, ...] = ()
    infrastructure: GatewayInfrastructure | None = None
    allowed_listeners: AllowedListeners = AllowedListeners()
    tls: GatewayTLSConfig | None = None
    default_scope: Literal["All", "None"] | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow.

        Listeners that cannot be told apart are Conflicted and no problem of the whole object.
        """
        yield from at_most("listeners", self.listeners, MAX_LISTENERS)
        if not self.listeners:
            yield Problem("listeners", "must have at least one element")
        yield from unique("listeners", (listener.name for listener in self.listeners), "name")
        yield from at_most("addresses", self.addresses, MAX_ADDRESSES)
        given = [one for one in self.addresses if one.value]
        yield from unique("addresses", ((one.type, one.value) for one in given), "value")


class Gateway(Object, frozen=True, kw_only=True):
    """Listeners for traffic from outside."""

    api_versions: ClassVar[tuple[str, ...]] = API_VERSIONS
    kind: ClassVar[str] = "Gateway"

    spec: GatewaySpec
    status: Any = None
    """As it was read, whoever wrote it: nothing in it makes the Gateway wrong."""

    @property
    def assigned(self) -> tuple[str, ...]:
        """Return the IP addresses that the status says the Gateway has."""
        status: Any = self.status if isinstance(self.status, dict) else {}
        given: Any = status.get("addresses")
        found = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
        values = [one.get("value") for one in found if one.get("type", "IPAddress") == "IPAddress"]
        return tuple(value for value in values if isinstance(value, str))


# --- ReferenceGrant -----------------------------------------------------------------------------


class ReferenceGrantFrom(ApiStruct, frozen=True, kw_only=True):
    """Who may refer."""

    group: Group
    kind: Kind
    namespace: Namespace


class ReferenceGrantTo(ApiStruct, frozen=True, kw_only=True):
    """What may be referred to; without a name, everything of the kind."""

    group: Group
    kind: Kind
    name: ObjectName | None = None


class ReferenceGrantSpec(ApiStruct, frozen=True, kw_only=True):
    """References into the grant's namespace that its owner allows."""

    from_: tuple[ReferenceGrantFrom, ...] = msgspec.field(name="from")
    to: tuple[ReferenceGrantTo, ...]

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD's limits do not allow."""
        for name, items in (("from", self.from_), ("to", self.to)):
            yield from at_most(name, items, MAX_GRANT_ITEMS)
            if not items:
                yield Problem(name, "must have at least one element")


class ReferenceGrant(Object, frozen=True, kw_only=True):
    """Permission for references from other namespaces."""

    api_versions: ClassVar[tuple[str, ...]] = API_VERSIONS
    kind: ClassVar[str] = "ReferenceGrant"

    spec: ReferenceGrantSpec


# --- HTTPRoute ----------------------------------------------------------------------------------


class HTTPRouteSpec(ApiStruct, frozen=True, kw_only=True):
    """Where a route is attached, for which hosts, and its rules."""

    parent_refs: tuple[ParentReference, ...] = ()
    hostnames: tuple[Hostname, ...] = ()
    rules: tuple[HTTPRouteRule, ...] = (HTTPRouteRule(),)
    use_default_gateways: Literal["All", "None"] | None = None

    @override
    def checks(self) -> Iterable[Problem]:
        """Return what the CRD does not allow."""
        found = route_checks(self.parent_refs, self.hostnames, self.rules)
        if self.rules:
            return found
        return (*found, Problem("rules", "must have at least one element", "leave the field out"))


class HTTPRoute(Object, frozen=True, kw_only=True):
    """Rules for HTTP requests to a Gateway or to a Service of the mesh."""

    api_versions: ClassVar[tuple[str, ...]] = API_VERSIONS
    kind: ClassVar[str] = "HTTPRoute"

    spec: HTTPRouteSpec


class _Rule(Protocol):
    @property
    def name(self) -> str | None: ...
    @property
    def matches(self) -> Sequence[object]: ...


def route_checks(
    parents: tuple[ParentReference, ...], hostnames: Sequence[str], rules: Sequence[_Rule]
) -> Iterable[Problem]:
    """Return what the CRDs of routes with matches do not allow in a spec."""
    found = [
        *at_most("parentRefs", parents, MAX_PARENTS),
        *at_most("hostnames", hostnames, MAX_HOSTNAMES),
        *at_most("rules", rules, MAX_RULES),
    ]
    named = [rule.name for rule in rules if rule.name is not None]
    if len(set(named)) < len(named):
        found.append(Problem("rules", "names of rules must be unique"))
    matches = sum([len(rule.matches) for rule in rules])
    if matches > MAX_MATCHES_OF_ROUTE:
        text = f"have {matches} matches together; at most {MAX_MATCHES_OF_ROUTE}"
        found.append(Problem("rules", text))
    return (*found, *parents_apart(parents))


def parents_apart(parents: tuple[ParentReference, ...]) -> Iterable[Problem]:
    """Return references to one parent that neither sectionName nor port tells apart."""
    return _parents_alike(parents) if len(parents) > 1 else ()


def _parents_alike(parents: tuple[ParentReference, ...]) -> Iterator[Problem]:
    yield from unique("parentRefs", parents, "the parent, with its sectionName and port,")
    shapes: dict[tuple[str, str, str | None, str], tuple[bool, bool]] = {}
    for index, one in enumerate(parents):
        shape = (one.section_name is not None, one.port is not None)
        first = shapes.setdefault((one.group, one.kind, one.namespace, one.name), shape)
        if first != shape:
            yield Problem(
                f"parentRefs[{index}]",
                "sectionName or port must be given in all references to the same parent",
            )
