"""External authorization: a filter that every listener has, and that routes fill.

What a listener has is a place for a filter; the route says which filter stands there, so that
listeners do not change with routes, and every route has a filter with settings of its own.

Source: Gateway API, GEP-1494; envoy.extensions.filters.http.ext_authz.v3, composite.v3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from google.protobuf.duration_pb2 import Duration

from penstock.envoy.scope import SCOPE_HEADER
from penstock.envoy.wire import exact, extension, pack, regex
from penstock.ir.route import ExternalAuth, ServicePort
from penstock.pb.envoy.config.core.v3 import config_source_pb2
from penstock.pb.envoy.extensions.common.matching.v3 import extension_matcher_pb2
from penstock.pb.envoy.extensions.filters.common.matcher.action.v3 import skip_action_pb2
from penstock.pb.envoy.extensions.filters.http.composite.v3 import composite_pb2
from penstock.pb.envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from penstock.pb.envoy.type.matcher.v3 import string_pb2
from penstock.pb.envoy.type.v3 import http_status_pb2

FILTER = "penstock.auth"
UNREACHABLE = http_status_pb2.ServiceUnavailable
"""Answer while nobody can be asked."""
_SECONDS = 5
_FRAMING = frozenset(
    {
        "connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers of the answer that belong to the answer, and never to the request (RFC 9110, 7.6.1)."""


def place() -> hcm_pb2.HttpFilter:
    """Return the place for the filter, as every listener has it: nobody is asked."""
    nothing = extension_matcher_pb2.ExtensionWithMatcher()
    skip = nothing.xds_matcher.on_no_match.action
    skip.name = "skip"
    skip.typed_config.CopyFrom(pack(skip_action_pb2.SkipFilter()))
    nothing.extension_config.CopyFrom(
        extension("envoy.filters.http.composite", composite_pb2.Composite())
    )
    return hcm_pb2.HttpFilter(name=FILTER, typed_config=pack(nothing))


def per_route(
    auth: ExternalAuth, cluster: Callable[[ServicePort, bool], str]
) -> extension_matcher_pb2.ExtensionWithMatcherPerRoute:
    """Build what stands at the place for the requests of a route.

    Args:
        auth: who is asked.
        cluster: name of a Service port's cluster; the flag says by gRPC.
    """
    made = _filter(auth, cluster(auth.target, auth.grpc))
    action = composite_pb2.ExecuteFilterAction(
        typed_config=extension("envoy.filters.http.ext_authz", made)
    )
    result = extension_matcher_pb2.ExtensionWithMatcherPerRoute()
    result.xds_matcher.on_no_match.action.name = "auth"
    result.xds_matcher.on_no_match.action.typed_config.CopyFrom(pack(action))
    return result


def _filter(auth: ExternalAuth, cluster: str) -> ext_authz_pb2.ExtAuthz:
    result = ext_authz_pb2.ExtAuthz(
        transport_api_version=config_source_pb2.ApiVersion.V3,
        status_on_error=http_status_pb2.HttpStatus(code=UNREACHABLE),
        stat_prefix="auth",
    )
    # Neither where a request goes nor its route is the server's to choose.
    result.decoder_header_mutation_rules.disallow_expression.regex = f"(?i){SCOPE_HEADER}"
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
