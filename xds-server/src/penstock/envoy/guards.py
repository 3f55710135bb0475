"""What a request passes before anything is done with it: who asks, how often, its size, a question.

What a listener has is a place for filters; the route says which filters stand there, so that
listeners do not change with routes, and every route has filters with settings of its own. What is
asked before there is a route stands in the virtual host: no request gets to a route around it.

Source: Gateway API, GEP-1494, GEP-5224; envoy.extensions.filters.http.ext_authz.v3, composite.v3.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt64Value

from penstock.envoy import subrequest
from penstock.envoy.rate_limit import rate_limit
from penstock.envoy.scope import SCOPE_HEADER
from penstock.envoy.tls import CLOSED_CLUSTER
from penstock.envoy.wire import exact, extension, pack, regex
from penstock.ir.route import ExternalAuth, Guards, InvalidBackend, ServicePort, Subrequest
from penstock.pb.envoy.config.core.v3 import config_source_pb2, extension_pb2
from penstock.pb.envoy.config.rbac.v3 import rbac_pb2
from penstock.pb.envoy.extensions.common.matching.v3 import extension_matcher_pb2
from penstock.pb.envoy.extensions.filters.common.matcher.action.v3 import skip_action_pb2
from penstock.pb.envoy.extensions.filters.http.body_size_limit.v3 import body_size_limit_pb2
from penstock.pb.envoy.extensions.filters.http.composite.v3 import composite_pb2
from penstock.pb.envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from penstock.pb.envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from penstock.pb.envoy.type.matcher.v3 import string_pb2
from penstock.pb.envoy.type.v3 import http_status_pb2

PLACES = ("penstock.clients", "penstock.auth", "penstock.passed")
"""Names of the places, in order. A filter that waits is the last one at its place: after it Envoy
goes on behind the place, whatever else stands there."""
UNREACHABLE = http_status_pb2.ServiceUnavailable
"""Answer while nobody can be asked."""
_NOBODY = http_status_pb2.InternalServerError
"""Answer where it is not known who is to be asked."""
_SECONDS = 5
_FRAMING = frozenset(
    {
        "connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers of the answer that belong to the answer, and never to the request (RFC 9110, 7.6.1)."""


Filters = list[extension_pb2.TypedExtensionConfig]


def places() -> tuple[hcm_pb2.HttpFilter, ...]:
    """Return the places for filters, as every listener has them: nothing stands there."""
    return _empty(PLACES)


def places_before_routing(count: int) -> tuple[hcm_pb2.HttpFilter, ...]:
    """Return *count* more places, for what is asked before there is a route."""
    return _empty(map(_before_routing, range(count)))


def _before_routing(index: int) -> str:
    return f"penstock.listener.{index}"


def _empty(names: Iterable[str]) -> tuple[hcm_pb2.HttpFilter, ...]:
    nothing = extension_matcher_pb2.ExtensionWithMatcher()
    _skip(nothing)
    nothing.extension_config.CopyFrom(
        extension("envoy.filters.http.composite", composite_pb2.Composite())
    )
    packed = pack(nothing)
    return tuple(hcm_pb2.HttpFilter(name=name, typed_config=packed) for name in names)


def _skip(
    place: extension_matcher_pb2.ExtensionWithMatcher
    | extension_matcher_pb2.ExtensionWithMatcherPerRoute,
) -> None:
    skip = place.xds_matcher.on_no_match.action
    skip.name = "skip"
    skip.typed_config.CopyFrom(pack(skip_action_pb2.SkipFilter()))


_PerRoute = extension_matcher_pb2.ExtensionWithMatcherPerRoute


def per_host(
    asked: Sequence[ExternalAuth | InvalidBackend], cluster: Callable[[ServicePort, bool], str]
) -> Iterator[tuple[str, _PerRoute]]:
    """Yield what stands at the places before routing for the requests to a host.

    Args:
        asked: who is asked, in order, each at a place of its own.
        cluster: as for `per_route`.
    """
    for index, auth in enumerate(asked):
        made = _asked_before_routing(auth, cluster)
        filters = [extension("envoy.filters.http.ext_authz", made)]
        yield _before_routing(index), standing(_before_routing(index), filters)


def passing_by(count: int) -> Iterator[tuple[str, _PerRoute]]:
    """Yield that nothing stands at *count* places before routing for the requests of a route."""
    for index in range(count):
        nothing = _PerRoute()
        _skip(nothing)
        yield _before_routing(index), nothing


def _asked_before_routing(
    auth: ExternalAuth | InvalidBackend, cluster: Callable[[ServicePort, bool], str]
) -> ext_authz_pb2.ExtAuthz:
    """Return the filter that asks; the headers that it adds have their part in the choice."""
    if isinstance(auth, InvalidBackend):
        return _asks_nobody()
    made = _filter(auth, cluster(auth.target, auth.grpc))
    made.clear_route_cache = True
    return made


def _asks_nobody() -> ext_authz_pb2.ExtAuthz:
    """Return a filter that lets nothing pass: it asks where nobody ever is."""
    result = _common(http_status_pb2.HttpStatus(code=_NOBODY))
    result.http_service.server_uri.uri = "http://nobody"
    result.http_service.server_uri.cluster = CLOSED_CLUSTER
    result.http_service.server_uri.timeout.CopyFrom(Duration(seconds=_SECONDS))
    return result


def per_route(
    guards: Guards, cluster: Callable[[ServicePort, bool], str]
) -> Iterator[tuple[str, _PerRoute]]:
    """Yield the places at which something stands for the requests of a route, and what.

    Args:
        guards: what they have to pass.
        cluster: name of the cluster in which a Service port is asked; the flag says by gRPC.
    """
    asking, passed = _asking(guards.auth, cluster)
    for name, filters in zip(PLACES, (_clients(guards), asking, passed), strict=True):
        if filters:
            yield name, standing(name, filters)


def standing(name: str, filters: Filters) -> _PerRoute:
    """Return that *filters* stand at the place *name*."""
    action = composite_pb2.ExecuteFilterAction()
    action.filter_chain.typed_config.extend(filters)
    made = _PerRoute()
    made.xds_matcher.on_no_match.action.name = name
    made.xds_matcher.on_no_match.action.typed_config.CopyFrom(pack(action))
    return made


def _clients(guards: Guards) -> Filters:
    found: Filters = []
    if guards.denied_sources:
        found.append(_sources(guards.denied_sources, rbac_pb2.RBAC.DENY))
    if guards.sources:
        found.append(_sources(guards.sources, rbac_pb2.RBAC.ALLOW))
    found.extend(rate_limit(one, guards.unlimited) for one in guards.limits)
    if guards.max_body:
        # Before the question: what has come during a wait is not counted.
        limit = body_size_limit_pb2.BodySizeLimit(
            max_request_bytes=UInt64Value(value=guards.max_body)
        )
        found.append(extension("envoy.filters.http.body_size_limit", limit))
    return found


def _asking(
    auth: ExternalAuth | Subrequest | None, cluster: Callable[[ServicePort, bool], str]
) -> tuple[Filters, Filters]:
    """Return the filter that asks, and the one that lets pass what it has marked."""
    match auth:
        case ExternalAuth():
            made = _filter(auth, cluster(auth.target, auth.grpc))
            return [extension("envoy.filters.http.ext_authz", made)], []
        case Subrequest():
            script = subrequest.script(auth, cluster(auth.target, False))  # noqa: FBT003 - by HTTP
            return [script], [subrequest.passed()]
        case None:
            return [], []


def _sources(
    networks: Iterable[str], action: rbac_pb2.RBAC.Action
) -> extension_pb2.TypedExtensionConfig:
    """Return a filter for requests from *networks*: the client's own address, not what it says."""
    made = http_rbac_pb2.RBAC()
    made.rules.action = action
    policy = made.rules.policies["sources"]
    policy.permissions.add(any=True)
    for one in map(ipaddress.ip_network, networks):
        source = policy.principals.add().direct_remote_ip
        source.address_prefix = str(one.network_address)
        source.prefix_len.value = one.prefixlen
    return extension("envoy.filters.http.rbac", made)


def _filter(auth: ExternalAuth, cluster: str) -> ext_authz_pb2.ExtAuthz:
    result = _common(http_status_pb2.HttpStatus(code=UNREACHABLE))
    if auth.headers:
        result.allowed_headers.patterns.extend(map(_named, auth.headers))
    if auth.max_body:
        result.with_request_body.max_request_bytes = auth.max_body
    timeout = Duration(seconds=_SECONDS)
    if auth.grpc:
        service = result.grpc_service
        service.envoy_grpc.cluster_name = cluster
        service.envoy_grpc.authority = f"{auth.target.service.name}.{auth.target.service.namespace}"
        service.timeout.CopyFrom(timeout)
        return result
    http = result.http_service
    http.server_uri.uri = f"http://{auth.target.service.name}.{auth.target.service.namespace}"
    http.server_uri.cluster = cluster
    http.server_uri.timeout.CopyFrom(timeout)
    http.path_prefix = auth.path
    copied = http.authorization_response.allowed_upstream_headers.patterns
    if auth.response_headers:
        copied.extend(_named(one) for one in auth.response_headers if one not in _FRAMING)
    else:
        copied.append(regex(all_but(_FRAMING)))
    return result


def _common(on_error: http_status_pb2.HttpStatus) -> ext_authz_pb2.ExtAuthz:
    result = ext_authz_pb2.ExtAuthz(
        transport_api_version=config_source_pb2.ApiVersion.V3,
        status_on_error=on_error,
        stat_prefix="auth",
    )
    # Whose request it is, by its host, is not the server's to choose.
    result.decoder_header_mutation_rules.disallow_expression.regex = f"(?i){SCOPE_HEADER}"
    return result


def _named(header: str) -> string_pb2.StringMatcher:
    result = exact(header)
    result.ignore_case = True
    return result


def all_but(words: Iterable[str]) -> str:
    """Return a pattern that matches all names as a whole but *words*, and but pseudo-headers.

    RE2 cannot say "not", so at each letter the pattern says what may follow instead.
    """
    return _all_but(sorted(words), first=True)


def _all_but(words: list[str], *, first: bool = False) -> str:
    here = "" in words
    following: dict[str, list[str]] = {}
    for word in words:
        if word:
            following.setdefault(word[0], []).append(word[1:])
    letters = "".join(sorted(following)) + (":" if first else "")
    escaped = letters.replace("-", r"\-")
    ways = [f"[^{escaped}].*"] if letters else [".+"]
    ways += [f"{_quoted(letter)}{_all_but(rest)}" for letter, rest in sorted(following.items())]
    if not here and not first:
        ways.append("")
    return f"(?:{'|'.join(ways)})"


def _quoted(letter: str) -> str:
    return r"\-" if letter == "-" else letter
