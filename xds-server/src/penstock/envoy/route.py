"""Virtual hosts and routes.

Source: Gateway API, HTTPRouteRule and its filters; envoy.config.route.v3.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import assert_never

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from penstock.envoy import copies, cors, guards, session
from penstock.envoy.cluster import auth_cluster_name, met_name
from penstock.envoy.external import external_name
from penstock.envoy.rbac import NAMESPACE_KEY
from penstock.envoy.retry_budget import answer_beyond
from penstock.envoy.span_attributes import of_route
from penstock.envoy.wire import exact, pack, regex
from penstock.ir.route import (
    NO_CHANGE,
    NO_GUARDS,
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
from penstock.pb.envoy.type.v3 import percent_pb2

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
_RETRY = route_pb2.RetryPolicy(
    retry_on=_UNSEEN, num_retries=UInt32Value(value=2)
).SerializeToString(deterministic=True)
_MILLION = 1_000_000
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
    into: route_pb2.VirtualHost | None = None,
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
        into: where to build it, empty: to copy a message takes as long as to build it.
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
    result = route_pb2.VirtualHost() if into is None else into
    result.name = host.hostname
    result.domains.append(host.hostname)
    result.retry_policy.MergeFromString(_RETRY)
    for route in host.routes:
        _add_routes(result, route, way)
    if catch_all:
        rest = result.routes.add(name="not-found")
        rest.match.prefix = "/"
        rest.direct_response.status = 404
    for name, filters in guards.per_host(asked, auth_cluster_name):
        result.typed_per_filter_config[name].CopyFrom(pack(filters))
    return result


def runtime_keys(route: Route, cluster: ClusterName) -> dict[str, int]:
    """Return the runtime keys with the weights of *route*; empty if it has no use for them."""
    action = route.action
    if not isinstance(action, Forward) or not weighted(action) or _apart(action):
        return {}
    shares = _shares(action.backends, cluster)
    if shares is None:
        return {}
    return {f"route.{route.name}.{name}": weight for name, weight in shares.items()}


def weighted(action: Forward) -> bool:
    """Tell whether a request has more than one place to go to."""
    return len(action.backends) > 1 and sum(b.weight for b in action.backends) > 0


def _apart(action: Forward) -> bool:
    """Tell whether backends get different paths, which takes a route for each."""
    if not weighted(action):
        return False
    valid = [one for one in action.backends if not isinstance(one, InvalidBackend)]
    return any(one.rewrite.path != valid[0].rewrite.path for one in valid)


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


def _add_routes(into: route_pb2.VirtualHost, route: Route, way: _Way) -> None:
    """Add the routes that stand for *route*: those of its sessions, then that of new clients."""
    action = route.action
    if isinstance(action, Forward) and action.session is not None and weighted(action):
        backends = {session.tag(one): one for one in reversed(action.backends)}
        for backend in reversed(backends.values()):
            if not isinstance(backend, InvalidBackend):
                made = _add_route(into, _to_one(route, action, backend), way)
                session.sticky(made.match, backend)
    if isinstance(action, Forward) and _apart(action):
        _add_shares(into, route, action, way)
    else:
        _add_route(into, route, way)


def _to_one(route: Route, action: Forward, backend: Backend) -> Route:
    """Return the route with all requests for one of its backends."""
    alone = msgspec.structs.replace(action, backends=(msgspec.structs.replace(backend, weight=1),))
    return msgspec.structs.replace(route, action=alone)


def _add_shares(into: route_pb2.VirtualHost, route: Route, action: Forward, way: _Way) -> None:
    """Add a route for each backend; Envoy draws once for a request, so limits are cumulative."""
    backends = [one for one in action.backends if one.weight]
    total, so_far = sum(one.weight for one in backends), 0
    for backend in backends:
        made = _add_route(into, _to_one(route, action, backend), way)
        so_far += backend.weight
        if so_far < total:
            limit = made.match.runtime_fraction.default_value
            limit.numerator = so_far * _MILLION // total
            limit.denominator = percent_pb2.FractionalPercent.MILLION


def _add_route(into: route_pb2.VirtualHost, route: Route, way: _Way) -> route_pb2.Route:
    result = into.routes.add(name=route.name)
    _match(result.match, route.match)
    _change_headers(result, route.request_headers, route.response_headers)
    if way.traced:
        result.metadata.CopyFrom(of_route(route.match.path))
    if route.cors is not None:
        result.typed_per_filter_config[cors.FILTER].CopyFrom(pack(cors.policy(route.cors)))
    if route.guards is not NO_GUARDS and route.guards != NO_GUARDS:
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
    if not [backend for backend in action.backends if backend.weight]:
        result.direct_response.status = _nobody(action)
        return
    to = result.route
    to.cluster_not_found_response_code = _NOT_FOUND[action.invalid_status]
    _limit(to, action)
    answer_beyond(result, action)
    for mirror in action.mirrors:
        to.request_mirror_policies.append(copies.policy(mirror, way.cluster(mirror.target)))
    if action.rewrite_host:
        to.host_rewrite_literal = action.rewrite_host
    if (rewrite_path := _path_of(action)) is not None:
        _rewrite(to, rewrite_path, route.match.path)
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


def _path_of(action: Forward) -> PathRewrite | None:
    """Return what becomes of the path at all backends, by the rule or by each of them."""
    if action.rewrite_path is not None:
        return action.rewrite_path
    each = [one.rewrite.path for one in action.backends if not isinstance(one, InvalidBackend)]
    return each[0] if each else None


def _nobody(action: Forward) -> int:
    """Return the answer of what has no backend with a share: 503 where one might have it again."""
    invalid = all(isinstance(backend, InvalidBackend) for backend in action.backends)
    return action.invalid_status if invalid else HTTPStatus.SERVICE_UNAVAILABLE


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
        _change_headers(result, backend.request_headers, backend.response_headers)
        if backend.rewrite.host:
            result.route.host_rewrite_literal = backend.rewrite.host


def _weighted(
    backend: Backend, cluster: ClusterName, weight: int
) -> route_pb2.WeightedCluster.ClusterWeight:
    entry = route_pb2.WeightedCluster.ClusterWeight(
        name=_cluster_of(backend, cluster), weight=UInt32Value(value=weight)
    )
    if not isinstance(backend, InvalidBackend):
        _change_headers(entry, backend.request_headers, backend.response_headers)
        if backend.rewrite.host:
            entry.host_rewrite_literal = backend.rewrite.host
    return entry


def _limit(to: route_pb2.RouteAction, action: Forward) -> None:
    """Say how long a request may take, and how often it is tried."""
    to.timeout.SetInParent()
    if timeout := _timeout_ms(action):
        to.timeout.FromMilliseconds(timeout)
    if action.idle_timeout_ms:
        to.idle_timeout.FromMilliseconds(action.idle_timeout_ms)
    if action.retry is not None:
        to.retry_policy.CopyFrom(_retry_policy(action.retry, action.backend_timeout_ms))


def _timeout_ms(action: Forward) -> int:
    """Return how long a request may take, 0 for ever."""
    whole, one_try = action.request_timeout_ms, action.backend_timeout_ms
    if one_try and action.retry is None:
        # There is one try that can time out (what is retried was never sent): the shorter holds.
        return min(whole or one_try, one_try)
    return whole or 0


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


def _match(result: route_pb2.RouteMatch, match: RouteMatch) -> None:
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


def _string(named: NamedMatch) -> string_pb2.StringMatcher:
    return regex(named.match.value) if named.match.regex else exact(named.match.value)


def _change_headers(
    into: route_pb2.Route | route_pb2.WeightedCluster.ClusterWeight,
    request: HeaderChange,
    response: HeaderChange,
) -> None:
    if request is not NO_CHANGE and request != NO_CHANGE:
        into.request_headers_to_add.extend(_added(request))
        into.request_headers_to_remove.extend(request.remove)
    if response is not NO_CHANGE and response != NO_CHANGE:
        into.response_headers_to_add.extend(_added(response))
        into.response_headers_to_remove.extend(response.remove)


@functools.lru_cache(maxsize=256)
def _added(change: HeaderChange) -> tuple[base_pb2.HeaderValueOption, ...]:
    """Return what is written into headers; nobody may change it."""
    how = (*((pair, _SET) for pair in change.set), *((pair, _ADD) for pair in change.add))
    return tuple(
        base_pb2.HeaderValueOption(
            # "%" starts a command operator in Envoy; what the user wrote is literal.
            header=base_pb2.HeaderValue(key=name, value=value.replace("%", "%%")),
            append_action=action,
            keep_empty_value=True,
        )
        for (name, value), action in how
    )


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
