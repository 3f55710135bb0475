"""The kinds of routes for connections and datagrams: TLSRoute, TCPRoute, UDPRoute.

Source: Gateway API v1.7 CRDs, experimental channel, versions v1 and those before it that are still
served. Nothing of what is sent is looked at but the server name of a TLS handshake.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import ClassVar, Literal

from typing_extensions import override

from penstock.core.objects import ApiStruct, Object
from penstock.gatewayapi.fields import (
    GATEWAY_GROUP,
    Hostname,
    ParentReference,
    SectionName,
    WeightedBackendReference,
    at_most,
)
from penstock.gatewayapi.resources import MAX_PARENTS, parents_apart
from penstock.gatewayapi.rules import MAX_BACKENDS
from penstock.meta.problems import Problem

API_VERSIONS = (f"{GATEWAY_GROUP}/v1", f"{GATEWAY_GROUP}/v1alpha2")
MAX_HOSTNAMES = 1024


class StreamRule(ApiStruct, frozen=True, kw_only=True):
    """Where everything goes that comes."""

    name: SectionName | None = None
    backend_refs: tuple[WeightedBackendReference, ...]

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD's limits do not allow."""
        yield from at_most("backendRefs", self.backend_refs, MAX_BACKENDS)
        if not self.backend_refs:
            yield Problem("backendRefs", "must have at least one element")


class StreamRouteSpec(ApiStruct, frozen=True, kw_only=True):
    """Where a route is attached, and its rule."""

    parent_refs: tuple[ParentReference, ...] = ()
    rules: tuple[StreamRule, ...]
    use_default_gateways: Literal["All", "None"] | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        yield from _checks(self.parent_refs, self.rules)

    @property
    def hostnames(self) -> tuple[str, ...]:
        """Return no server names: nobody asks for one."""
        return ()


class TLSRouteSpec(ApiStruct, frozen=True, kw_only=True):
    """Where a route is attached, for which server names, and its rule."""

    parent_refs: tuple[ParentReference, ...] = ()
    hostnames: tuple[Hostname, ...]
    rules: tuple[StreamRule, ...]
    use_default_gateways: Literal["All", "None"] | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        yield from _checks(self.parent_refs, self.rules)
        yield from at_most("hostnames", self.hostnames, MAX_HOSTNAMES)
        if not self.hostnames:
            yield Problem("hostnames", "must have at least one element")


def _checks(parents: tuple[ParentReference, ...], rules: Sized) -> Iterator[Problem]:
    yield from at_most("parentRefs", parents, MAX_PARENTS)
    yield from parents_apart(parents)
    if len(rules) != 1:
        yield Problem("rules", f"has {len(rules)} elements; exactly one is allowed")


class TLSRoute(Object, frozen=True, kw_only=True):
    """Where TLS connections to a Gateway go, by the server name."""

    api_versions: ClassVar[tuple[str, ...]] = (*API_VERSIONS, f"{GATEWAY_GROUP}/v1alpha3")
    kind: ClassVar[str] = "TLSRoute"

    spec: TLSRouteSpec


class TCPRoute(Object, frozen=True, kw_only=True):
    """Where connections to a port of a Gateway go."""

    api_versions: ClassVar[tuple[str, ...]] = API_VERSIONS
    kind: ClassVar[str] = "TCPRoute"

    spec: StreamRouteSpec


class UDPRoute(Object, frozen=True, kw_only=True):
    """Where datagrams to a port of a Gateway go."""

    api_versions: ClassVar[tuple[str, ...]] = API_VERSIONS
    kind: ClassVar[str] = "UDPRoute"

    spec: StreamRouteSpec


StreamRoute = TLSRoute | TCPRoute | UDPRoute
"""A route that is no HTTP."""
