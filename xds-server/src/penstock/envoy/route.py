"""Virtual hosts and routes.

Source: Gateway API, HTTPRouteRule and its filters; envoy.config.route.v3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import assert_never

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from penstock.envoy import copies, cors, guards, session
from penstock.envoy.cluster import auth_cluster_name, met_name
from penstock.envoy.external import external_name
from penstock.envoy.rbac import NAMESPACE_KEY
from penstock.envoy.span_attributes import of_route
from penstock.envoy.wire import exact, pack, regex
from penstock.ir.route import (
    Backend,
    ExternalAuth,
    Forward,
    HeaderChange,
    HostBackend,
    InvalidBackend,
    NamedMatch,
    PathKind,
    PathMatch,
    PathRewrite,
    Redirect,
    Respond,
    Retry,
    Route,
    RouteMatch,
    ServiceBackend,
    ServicePort,
    VirtualHost,
)
from penstock.pb.envoy.config.core.v3 import base_pb2
from penstock.pb.envoy.config.route.v3 import route_components_pb2 as route_pb2
from penstock.pb.envoy.type.matcher.v3 import regex_pb2, string_pb2

INVALID_CLUSTER = "penstock.invalid"
"""A cluster that never exists: requests for it are answered with an error."""

HTTP_PORT = 80
SCHEME_PORTS = {"http": HTTP_PORT, "https": 443}

ClusterName = Callable[[ServicePort], str]
"""Name of the cluster of a Service port, in the role (mesh, gateway) that is being built."""

_ADD = base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
_SET = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_REDIRECTS = {
    301: route_pb2.RedirectAction.MOVED_PERMANENTLY,
    302: route_pb2.RedirectAction.FOUND,
    303: route_pb2.RedirectAction.SEE_OTHER,
    307: route_pb2.RedirectAction.TEMPORARY_REDIRECT,
    308: route_pb2.RedirectAction.PERMANENT_REDIRECT,
}
_NOT_FOUND = {
    500: route_pb2.RouteAction.INTERNAL_SERVER_ERROR,
    503: route_pb2.RouteAction.SERVICE_UNAVAILABLE,
}
_UNSEEN = "connect-failure,refused-stream,reset-before-request"
"""Only what certainly did not reach the application: safe for every method."""
_RETRY = route_pb2.RetryPolicy(retry_on=_UNSEEN, num_retries=UInt32Value(value=2))
_LONGEST_BACKOFF = 10
"""In units of the shortest one."""
_TIMED_OUT = 504


def virtual_host(
    host: VirtualHost,
    cluster: ClusterName,
    *,
    runtime_weights: bool,
    catch_all: bool = False,
    asked: Sequence[ExternalAuth | InvalidBackend] = (),
    port: int = HTTP_PORT,
    scheme: str = "http",
    traced: bool = False,
) -> route_pb2.VirtualHost:
    """Build the virtual host of *host*.

    Args:
        host: its routes, first match first.
        cluster: name of a Service port's cluster.
        runtime_weights: the shares come from runtime keys; by itself the route gives all to the
            first backend.
        catch_all: answer 404 to what no route matches, instead of having no route for it.
        asked: who is asked about each request to it before there is a route, in order.
        port: where clients reach the host; redirects lead there unless they say otherwise.
        scheme: by which clients reach the host, "http" or "https".
        traced: whether routes say what spans say of them.
    """
    # With the scheme's own port a Host has no port, and a Location should have none.
    shown = 0 if port == SCHEME_PORTS[scheme] else port
    way = _Way(
        cluster=cluster,
        runtime_weights=runtime_weights,
        port=shown,
        https=scheme == "https",
        traced=traced,
    )
    routes = [built for route in host.routes for built in _routes(route, way)]
    if catch_all:
        routes.append(
            route_pb2.Route(
                name="not-found",
                match=route_pb2.RouteMatch(prefix="/"),
                direct_response=route_pb2.DirectResponseAction(status=404),
            )
        )
    domain = host.hostname
    made = route_pb2.VirtualHost(name=domain, domains=[domain], routes=routes, retry_policy=_RETRY)
    for name, filters in guards.per_host(asked, auth_cluster_name):
        made.typed_per_filter_config[name].CopyFrom(pack(filters))
    return made


def runtime_keys(route: Route, cluster: ClusterName) -> dict[str, int]:
    """Return the runtime keys with the weights of *route*; empty if it has no use for them."""
    if not isinstance(route.action, Forward) or not weighted(route.action):
        return {}
    shares = _shares(route.action.backends, cluster)
    if shares is None:
        return {}
    return {f"route.{route.name}.{name}": weight for name, weight in shares.items()}


def weighted(action: Forward) -> bool:
    """Tell whether a request has more than one place to go to."""
    return len(action.backends) > 1 and sum(b.weight for b in action.backends) > 0


def _shares(backends: Sequence[Backend], cluster: ClusterName) -> dict[str, int] | None:
    """Return cluster → weight, or None if two backends share a cluster (one key cannot do)."""
    shares: dict[str, int] = {}
    for backend in backends:
        name = _cluster_of(backend, cluster)
        if name in shares:
            return None
        shares[name] = backend.weight
    return shares


def _cluster_of(backend: Backend, cluster: ClusterName) -> str:
    match backend:
        case ServiceBackend(target=target, upstream=upstream):
            return cluster(target) if upstream is None else met_name(target, upstream)
        case HostBackend(target=target, mesh=mesh):
            return external_name(target, mesh=mesh)
        case InvalidBackend():
            return INVALID_CLUSTER
        case _:
            assert_never(backend)


class _Way(msgspec.Struct, frozen=True, kw_only=True):
    """Where routes are built for."""

    cluster: ClusterName
    runtime_weights: bool
    port: int
    """That redirects show; 0 is none."""
    https: bool
    traced: bool
    """Whether they say what spans say of them."""


def _routes(route: Route, way: _Way) -> Iterator[route_pb2.Route]:
    """Yield the routes that stand for *route*: those of its sessions, then that of new clients."""
    action = route.action
    if isinstance(action, Forward) and action.session is not None and weighted(action):
        backends = {session.tag(one): one for one in reversed(action.backends)}
        for backend in reversed(backends.values()):
            if not isinstance(backend, InvalidBackend):
                to_one = msgspec.structs.replace(
                    action, backends=(msgspec.structs.replace(backend, weight=1),)
                )
                made = _route(msgspec.structs.replace(route, action=to_one), way)
                session.sticky(made.match, backend)
                yield made
    yield _route(route, way)


def _route(route: Route, way: _Way) -> route_pb2.Route:
    result = route_pb2.Route(
        name=route.name,
        match=_match(route.match),
        request_headers_to_add=_added(route.request_headers),
        request_headers_to_remove=route.request_headers.remove,
        response_headers_to_add=_added(route.response_headers),
        response_headers_to_remove=route.response_headers.remove,
    )
    if way.traced:
        result.metadata.CopyFrom(of_route(route.match.path))
    if route.cors is not None:
        result.typed_per_filter_config[cors.FILTER].CopyFrom(pack(cors.policy(route.cors)))
    for name, filters in guards.per_route(route.guards, auth_cluster_name):
        result.typed_per_filter_config[name].CopyFrom(pack(filters))
    match route.action:
        case Forward() as action:
            _forward(result, route, action, way)
        case Redirect() as action:
            result.redirect.CopyFrom(_redirect(action, route.match.path, way.port))
        case Respond(status=status, body=body):
            result.direct_response.status = status
            if body:
                result.direct_response.body.inline_string = body
        case _:
            assert_never(route.action)
    return result


def _forward(result: route_pb2.Route, route: Route, action: Forward, way: _Way) -> None:
    if sum(backend.weight for backend in action.backends) == 0:
        result.direct_response.status = action.invalid_status
        return
    to = result.route
    to.cluster_not_found_response_code = _NOT_FOUND[action.invalid_status]
    to.timeout.CopyFrom(_timeout(action))
    if action.idle_timeout_ms:
        to.idle_timeout.CopyFrom(_duration(action.idle_timeout_ms))
    if action.retry is not None:
        to.retry_policy.CopyFrom(_retry_policy(action.retry, action.backend_timeout_ms))
    to.request_mirror_policies.extend(
        copies.policy(mirror, way.cluster(mirror.target)) for mirror in action.mirrors
    )
    if action.rewrite_host:
        to.host_rewrite_literal = action.rewrite_host
    if action.rewrite_path is not None:
        _rewrite(to, action.rewrite_path, route.match.path)
    if len(action.backends) == 1:
        _single(result, action.backends[0], way.cluster)
        _keep_session(result.typed_per_filter_config, action, action.backends[0], way)
        return
    if action.session is not None:
        session.configure(result.typed_per_filter_config, action.session, None, https=way.https)
    shares = _shares(action.backends, way.cluster)
    by_runtime = way.runtime_weights and shares is not None
    if by_runtime:
        to.weighted_clusters.runtime_key_prefix = f"route.{route.name}"
    for place, backend in enumerate(action.backends):
        # Without keys, which a rule may be for a moment as it ends, all goes to the first.
        weight = int(place == 0) if by_runtime else backend.weight
        entry = _weighted(backend, way.cluster, weight)
        _keep_session(entry.typed_per_filter_config, action, backend, way)
        to.weighted_clusters.clusters.append(entry)


def _keep_session(
    per_filter: session.PerFilter, action: Forward, backend: Backend, way: _Way
) -> None:
    if action.session is not None:
        session.configure(per_filter, action.session, backend, https=way.https)
    elif isinstance(backend, ServiceBackend) and backend.session is not None:
        session.keep(per_filter, backend.session, https=way.https)


def _single(result: route_pb2.Route, backend: Backend, cluster: ClusterName) -> None:
    result.route.cluster = _cluster_of(backend, cluster)
    if not isinstance(backend, InvalidBackend):
        result.request_headers_to_add.extend(_added(backend.request_headers))
        result.request_headers_to_remove.extend(backend.request_headers.remove)
        result.response_headers_to_add.extend(_added(backend.response_headers))
        result.response_headers_to_remove.extend(backend.response_headers.remove)


def _weighted(
    backend: Backend, cluster: ClusterName, weight: int
) -> route_pb2.WeightedCluster.ClusterWeight:
    entry = route_pb2.WeightedCluster.ClusterWeight(
        name=_cluster_of(backend, cluster), weight=UInt32Value(value=weight)
    )
    if not isinstance(backend, InvalidBackend):
        entry.request_headers_to_add.extend(_added(backend.request_headers))
        entry.request_headers_to_remove.extend(backend.request_headers.remove)
        entry.response_headers_to_add.extend(_added(backend.response_headers))
        entry.response_headers_to_remove.extend(backend.response_headers.remove)
    return entry


def _timeout(action: Forward) -> Duration:
    limits = [action.request_timeout_ms]
    if action.retry is None:
        # There is one try that can time out (what is retried was never sent): the shorter holds.
        limits.append(action.backend_timeout_ms)
    return _duration(min((one for one in limits if one), default=0))


def _duration(milliseconds: int) -> Duration:
    result = Duration()
    result.FromMilliseconds(milliseconds)
    return result


def _retry_policy(retry: Retry, backend_timeout_ms: int | None) -> route_pb2.RetryPolicy:
    when = [_UNSEEN, *(("retriable-status-codes",) if retry.codes else ())]
    if backend_timeout_ms and _TIMED_OUT in retry.codes:
        # Envoy resets an attempt that takes too long.
        when.append("reset")
    result = route_pb2.RetryPolicy(
        retry_on=",".join(when),
        num_retries=UInt32Value(value=retry.attempts),
        retriable_status_codes=retry.codes,
    )
    if backend_timeout_ms:
        result.per_try_timeout.CopyFrom(_duration(backend_timeout_ms))
    if retry.backoff_ms:
        result.retry_back_off.base_interval.CopyFrom(_duration(retry.backoff_ms))
        result.retry_back_off.max_interval.CopyFrom(_duration(retry.backoff_ms * _LONGEST_BACKOFF))
    return result


def _match(match: RouteMatch) -> route_pb2.RouteMatch:
    result = route_pb2.RouteMatch()
    path = match.path
    match path.kind:
        case PathKind.EXACT:
            result.path = path.value
        case PathKind.REGEX:
            result.safe_regex.regex = path.value
        case PathKind.PREFIX:
            prefix = path.value.rstrip("/")
            if prefix:
                result.path_separated_prefix = prefix
            else:
                result.prefix = "/"
        case _:
            assert_never(path.kind)
    if match.method:
        result.headers.add(name=":method", string_match=exact(match.method))
    for header in match.headers:
        result.headers.add(name=header.name, string_match=_string(header))
    for parameter in match.queries:
        result.query_parameters.add(name=parameter.name, string_match=_string(parameter))
    if match.namespace:
        result.filter_state.add(key=NAMESPACE_KEY, string_match=exact(match.namespace))
    return result


def _string(named: NamedMatch) -> string_pb2.StringMatcher:
    return regex(named.match.value) if named.match.regex else exact(named.match.value)


def _added(change: HeaderChange) -> list[base_pb2.HeaderValueOption]:
    if not change.set and not change.add:
        return []

    def options(
        pairs: Iterable[tuple[str, str]], how: base_pb2.HeaderValueOption.HeaderAppendAction
    ) -> Iterable[base_pb2.HeaderValueOption]:
        for name, value in pairs:
            # "%" starts a command operator in Envoy; what the user wrote is literal.
            literal = base_pb2.HeaderValue(key=name, value=value.replace("%", "%%"))
            yield base_pb2.HeaderValueOption(
                header=literal, append_action=how, keep_empty_value=True
            )

    return [*options(change.set, _SET), *options(change.add, _ADD)]


def _rewrite(action: route_pb2.RouteAction, rewrite: PathRewrite, path: PathMatch) -> None:
    substitution = _substitution(rewrite, path)
    if isinstance(substitution, str):
        action.prefix_rewrite = substitution
    else:
        action.regex_rewrite.CopyFrom(substitution)


def _substitution(rewrite: PathRewrite, path: PathMatch) -> str | regex_pb2.RegexMatchAndSubstitute:
    """Return a prefix rewrite, or a substitution where a prefix rewrite would be wrong.

    "/foo" → "/" must turn "/foo/bar" into "/bar" and "/foo" into "/"; Envoy's prefix rewrite makes
    "//bar" of the first.
    """
    value = rewrite.value.replace("\\", "\\\\")
    if not rewrite.prefix:
        return _substitute("^/.*$", value)
    prefix, value = path.value.rstrip("/"), value.rstrip("/")
    if prefix and value:
        return rewrite.value.rstrip("/")
    return _substitute(f"^{re.escape(prefix)}/*(.*)$", value + r"/\1")


def _substitute(pattern: str, substitution: str) -> regex_pb2.RegexMatchAndSubstitute:
    return regex_pb2.RegexMatchAndSubstitute(
        pattern=regex_pb2.RegexMatcher(regex=pattern), substitution=substitution
    )


def _redirect(action: Redirect, path: PathMatch, port: int) -> route_pb2.RedirectAction:
    result = route_pb2.RedirectAction(response_code=_REDIRECTS[action.status])
    if action.scheme:
        result.scheme_redirect = action.scheme
    if action.host:
        result.host_redirect = action.host
    if action.port or port:
        result.port_redirect = action.port or SCHEME_PORTS.get(action.scheme, port)
    if action.path is None:
        return result
    if not action.path.prefix:
        result.path_redirect = action.path.value
        return result
    substitution = _substitution(action.path, path)
    if isinstance(substitution, str):
        result.prefix_rewrite = substitution
    else:
        result.regex_rewrite.CopyFrom(substitution)
    return result
