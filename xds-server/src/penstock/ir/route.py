"""Routes: what HTTPRoute and GRPCRoute become.

Source: Gateway API, HTTPRouteRule, GRPCRouteRule.
"""

from __future__ import annotations

import enum

import msgspec

from penstock.ir.session import Session
from penstock.ir.upstream import Upstream
from penstock.meta.names import NamespacedName, Origin


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the nodes of this package."""


class StringMatch(Node, frozen=True, kw_only=True):
    """An exact or regular-expression (RE2, full match) comparison."""

    value: str
    regex: bool = False


class PathKind(enum.StrEnum):
    """How a path is compared."""

    EXACT = "Exact"
    PREFIX = "PathPrefix"
    """By path element: "/a" matches "/a", "/a/" and "/a/b", not "/ab"."""
    REGEX = "RegularExpression"


class PathMatch(Node, frozen=True, kw_only=True):
    """Comparison of the path without the query."""

    kind: PathKind = PathKind.PREFIX
    value: str = "/"


class NamedMatch(Node, frozen=True, kw_only=True):
    """Comparison of one header (name lower case) or one query parameter."""

    name: str
    match: StringMatch


class RouteMatch(Node, frozen=True, kw_only=True):
    """All parts must hold."""

    path: PathMatch = PathMatch()
    method: str = ""
    """"" is any method."""
    headers: tuple[NamedMatch, ...] = ()
    queries: tuple[NamedMatch, ...] = ()
    namespace: str = ""
    """Namespace of the client's pod; "" is any, and what is no pod."""


class HeaderChange(Node, frozen=True, kw_only=True):
    """Changes of request or response headers; names are lower case, values literal."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


NO_CHANGE = HeaderChange()


class PathRewrite(Node, frozen=True, kw_only=True):
    """A new path: the whole of it, or the matched prefix replaced."""

    value: str
    prefix: bool
    """True replaces the prefix of the PathPrefix match, False the whole path."""


class Rewrite(Node, frozen=True, kw_only=True):
    """What becomes of host and path; "" and None leave them as they are."""

    host: str = ""
    path: PathRewrite | None = None


NO_REWRITE = Rewrite()


class ServicePort(msgspec.Struct, frozen=True, order=True):
    """A port of a Service: the unit that is balanced and has one Cluster."""

    service: NamespacedName
    port: int
    """0 where the pods of an XBackend stand for a Service: it has the port."""

    def __str__(self) -> str:
        """Return "namespace/name/port"."""
        namespace, name = self.service.namespace, self.service.name
        return f"{namespace}/{name}/{self.port}" if self.port else f"{namespace}/{name}"


class ServiceBackend(Node, frozen=True, kw_only=True):
    """A backendRef that resolved to a Service port."""

    target: ServicePort
    weight: int = 1
    """Share of requests, 0 to 1_000_000; 0 gets none."""
    request_headers: HeaderChange = NO_CHANGE
    response_headers: HeaderChange = NO_CHANGE
    rewrite: Rewrite = NO_REWRITE
    """Of requests to this backend alone, where those of the rule leave as it is what it changes."""
    session: Session | None = None
    """A session of this backend alone: it begins anew where the weights lead to another one."""
    upstream: Upstream | None = None
    """How its endpoints are met; None is as the Service and policies say."""
    few_retries: bool = False
    """Whether a policy limits how many of the requests to it are repeated: beyond it, 503."""
    origin: Origin


class HostBackend(Node, frozen=True, kw_only=True):
    """A backendRef that resolved to a place outside of the cluster."""

    target: NamespacedName
    """The XBackend."""
    mesh: bool = False
    """Whether requests come from pods, whose policy is asked."""
    weight: int = 1
    request_headers: HeaderChange = NO_CHANGE
    response_headers: HeaderChange = NO_CHANGE
    rewrite: Rewrite = NO_REWRITE
    origin: Origin


class InvalidBackend(Node, frozen=True, kw_only=True):
    """A backendRef that did not resolve; its share is answered with an error."""

    reason: str
    """Reason of the ResolvedRefs condition: BackendNotFound, RefNotPermitted, InvalidKind, ..."""
    message: str
    weight: int = 1
    origin: Origin


Backend = ServiceBackend | HostBackend | InvalidBackend


class Mirror(Node, frozen=True, kw_only=True):
    """Send copies of a share of the requests elsewhere; their answers are thrown away."""

    target: ServicePort
    numerator: int = 1
    denominator: int = 1
    """numerator / denominator is the share, at most 1."""
    http2: bool = False
    """Copies are HTTP/2, as calls of gRPC are; others are HTTP/1.1."""


class Retry(Node, frozen=True, kw_only=True):
    """When a request is sent again."""

    attempts: int
    """After the first; 0 is never, not even what certainly did not reach the application."""
    codes: tuple[int, ...] = ()
    """Status codes of answers that are not good enough, sorted."""
    backoff_ms: int | None = None
    """Base of the pause before the next attempt; None is a short one."""


class Cors(Node, frozen=True, kw_only=True):
    """Which pages of other origins may use the answers. "*" in a list is everything."""

    origins: tuple[str, ...]
    """"scheme://host[:port]"; a host may be "*" or start with "*."."""
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    credentials: bool = False
    max_age_seconds: int = 5


class ExternalAuth(Node, frozen=True, kw_only=True):
    """Who is asked whether a request may pass; without an answer it may not."""

    target: ServicePort
    grpc: bool
    """By Envoy's gRPC protocol; otherwise the request is asked for again there, by HTTP."""
    path: str = ""
    """Before the path of the request, by HTTP."""
    headers: tuple[str, ...] = ()
    """Names of request headers that are shown, in lower case.

    None is all of them by gRPC, and by HTTP those only that are always shown.
    """
    response_headers: tuple[str, ...] = ()
    """Names of headers of the answer that the request gets, by HTTP; none is all of them."""
    max_body: int = 0
    """Bytes of the body that are shown; a longer one is refused with 413. 0 shows none."""


class Subrequest(Node, frozen=True, kw_only=True):
    """Who is asked as ingress-nginx asks: one address for all requests, 2xx lets pass."""

    target: ServicePort
    host: str
    path: str
    """With the query."""
    method: str = "GET"
    signin: str = ""
    """Where those are redirected to who are not known (401); "" answers 401."""
    response_headers: tuple[str, ...] = ()
    """Names of headers of the answer that the request gets, in lower case."""


class RateLimit(Node, frozen=True, kw_only=True):
    """How often one client may ask, by its address."""

    requests: int
    """In so many seconds, 1 or more."""
    seconds: int
    burst: int
    """Requests beyond the first that may come at once."""


class Guards(Node, frozen=True, kw_only=True):
    """What a request has to pass before anything is done with it."""

    sources: tuple[str, ...] = ()
    """Networks that clients may come from; none is all."""
    denied_sources: tuple[str, ...] = ()
    limits: tuple[RateLimit, ...] = ()
    unlimited: tuple[str, ...] = ()
    """Networks of clients that `limits` do not hold for."""
    max_body: int = 0
    """Bytes; a longer one is answered with 413. 0 is no limit."""
    auth: ExternalAuth | Subrequest | None = None


NO_GUARDS = Guards()


class Forward(Node, frozen=True, kw_only=True):
    """Send to one of the backends by weight.

    No backend, or invalid ones alone, is answered with `invalid_status`; weights that add up to 0,
    with 503.
    """

    backends: tuple[Backend, ...]
    rewrite_host: str = ""
    rewrite_path: PathRewrite | None = None
    request_timeout_ms: int | None = None
    """Whole exchange; 0 is no limit, None is the default (no limit)."""
    backend_timeout_ms: int | None = None
    """One attempt; 0 and None are no limit."""
    idle_timeout_ms: int = 0
    """Longest silence; 0 is what the listener has."""
    mirrors: tuple[Mirror, ...] = ()
    retry: Retry | None = None
    """None repeats only what certainly did not reach the application."""
    invalid_status: int = 500
    """Answer to the share of invalid backends: 500 or 503."""
    session: Session | None = None
    """A session of the whole rule: it stays at its backend, whatever the weights are."""

    @property
    def targets(self) -> tuple[ServicePort, ...]:
        """Return the Service ports that requests, and copies of them, go to."""
        asked = [one.target for one in self.backends if isinstance(one, ServiceBackend)]
        return (*asked, *[one.target for one in self.mirrors])

    @property
    def hosts(self) -> tuple[HostBackend, ...]:
        """Return the places outside of the cluster that requests go to."""
        return tuple([one for one in self.backends if isinstance(one, HostBackend)])


class Redirect(Node, frozen=True, kw_only=True):
    """Answer with a redirect; "" and 0 keep that part of the request's URL."""

    scheme: str = ""
    host: str = ""
    port: int = 0
    """0 keeps the port of the listener, or the scheme's own when the scheme changes."""
    path: PathRewrite | None = None
    status: int = 302


class Respond(Node, frozen=True, kw_only=True):
    """Answer directly: what stands in for a rule that is not valid (500)."""

    status: int
    body: str = ""


Action = Forward | Redirect | Respond


class Route(Node, frozen=True, kw_only=True):
    """One match of one rule, with what is to be done."""

    name: str
    """Stable and unique among all routes: "namespace/name/rule index/match index".

    Of other kinds than HTTPRoute the kind stands before it.
    """
    match: RouteMatch
    action: Action
    request_headers: HeaderChange = NO_CHANGE
    response_headers: HeaderChange = NO_CHANGE
    cors: Cors | None = None
    guards: Guards = NO_GUARDS
    origin: Origin
    """The rule: "spec.rules[0]"."""


class VirtualHost(Node, frozen=True, kw_only=True):
    """Routes of one hostname, the first match first."""

    hostname: str
    """"a.test", "*.a.test" or "*"."""
    routes: tuple[Route, ...]
