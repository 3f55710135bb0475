"""HTTP connection managers: hardened alike for mesh and gateway, told apart by their scope.

Policy and router see the same path: normalised, slashes merged, escaped slashes refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from penstock.envoy.rbac import IDENTITY_KEY
from penstock.envoy.scope import SCOPE_HEADER
from penstock.envoy.wire import ads, extension, pack
from penstock.pb.envoy.config.accesslog.v3 import accesslog_pb2
from penstock.pb.envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from penstock.pb.envoy.config.core.v3 import (
    base_pb2,
    config_source_pb2,
    extension_pb2,
    protocol_pb2,
)
from penstock.pb.envoy.extensions.access_loggers.grpc.v3 import als_pb2
from penstock.pb.envoy.extensions.filters.http.router.v3 import router_pb2
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from penstock.pb.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    header_mutation_pb2,
)

NODE_CLUSTER = "node-ads"
"""Static cluster of the bootstrap: the agent on its unix socket."""
LISTENER_NAME = "%LISTENER_NAME%"
"""Format string of the listener's name."""
DENIED_BODY = "Access denied\r\n"
"""Body of every 403 that policy gives. Source: CiliumNetworkPolicy, HTTP denial."""

_HCM = hcm_pb2.HttpConnectionManager


class Manager(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between connection managers."""

    stat_prefix: str
    scope: str
    """Format string of the scope key, such as "eg|%DOWNSTREAM_LOCAL_ADDRESS%"."""
    filters: tuple[hcm_pb2.HttpFilter, ...] = ()
    """Before the router."""
    gateway: bool = False
    """Faces clients outside of the mesh."""
    strip_port: bool = False
    """The scope key ends before the first ":", so that a port in the host does not matter."""


def http_filter(name: str, config: Message) -> hcm_pb2.HttpFilter:
    """Return an HTTP filter."""
    return hcm_pb2.HttpFilter(name=name, typed_config=pack(config))


def router() -> hcm_pb2.HttpFilter:
    """Return the router. Nobody is told of the proxy: no x-envoy-original-path, no timings."""
    return http_filter("envoy.filters.http.router", router_pb2.Router(suppress_envoy_headers=True))


def connection_manager(manager: Manager) -> hcm_pb2.HttpConnectionManager:
    """Build the connection manager."""
    result = _HCM(
        stat_prefix=manager.stat_prefix,
        codec_type=_HCM.AUTO,
        normalize_path=BoolValue(value=True),
        merge_slashes=True,
        path_with_escaped_slashes_action=_HCM.REJECT_REQUEST,
        use_remote_address=BoolValue(value=True),
        forward_client_cert_details=_HCM.SANITIZE,
        strip_trailing_host_dot=True,
        request_headers_timeout=Duration(seconds=10),
        max_request_headers_kb=UInt32Value(value=60),
        stream_error_on_invalid_http_message=BoolValue(value=False),
        access_log=[access_log()],
        early_header_mutation_extensions=[_scope_mutation(manager.scope)],
    )
    if manager.gateway:
        result.stream_idle_timeout.CopyFrom(Duration(seconds=300))
    else:
        # A pod does not know that there is a proxy: nothing is cut, added or renamed.
        result.stream_idle_timeout.CopyFrom(Duration())
        result.skip_xff_append = True
        result.generate_request_id.value = False
        result.server_header_transformation = _HCM.PASS_THROUGH
        result.http_protocol_options.accept_http_10 = True
    result.upgrade_configs.add(upgrade_type="websocket")
    result.common_http_protocol_options.headers_with_underscores_action = (
        protocol_pb2.HttpProtocolOptions.REJECT_REQUEST
        if manager.gateway
        else protocol_pb2.HttpProtocolOptions.ALLOW
    )
    _limit_http2(result.http2_protocol_options)
    scoped_routes(result.scoped_routes, strip_port=manager.strip_port)
    _local_reply(result)
    result.http_filters.extend([*manager.filters, router()])
    return result


def _limit_http2(options: protocol_pb2.Http2ProtocolOptions) -> None:
    options.max_concurrent_streams.value = 100
    options.initial_stream_window_size.value = 64 * 1024
    options.initial_connection_window_size.value = 1024 * 1024


def _scope_mutation(scope: str) -> extension_pb2.TypedExtensionConfig:
    # Remove first: a format string without a value would leave what the client sent.
    mutations: Sequence[mutation_rules_pb2.HeaderMutation] = [
        mutation_rules_pb2.HeaderMutation(remove=SCOPE_HEADER),
        mutation_rules_pb2.HeaderMutation(
            append=base_pb2.HeaderValueOption(
                append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
                header=base_pb2.HeaderValue(key=SCOPE_HEADER, value=scope),
            )
        ),
    ]
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        header_mutation_pb2.HeaderMutation(mutations=mutations),
    )


def scoped_routes(routes: hcm_pb2.ScopedRoutes, *, strip_port: bool) -> None:
    """Let requests find their scope by our header; *strip_port* as of `Manager`."""
    routes.name = "penstock"
    extractor = routes.scope_key_builder.fragments.add().header_value_extractor
    extractor.name = SCOPE_HEADER
    extractor.index = 0
    if strip_port:
        extractor.element_separator = ":"
    routes.rds_config_source.CopyFrom(ads())
    routes.scoped_rds.scoped_rds_config_source.CopyFrom(ads())


def _local_reply(manager: hcm_pb2.HttpConnectionManager) -> None:
    mapper = manager.local_reply_config.mappers.add()
    comparison = mapper.filter.status_code_filter.comparison
    comparison.op = accesslog_pb2.ComparisonFilter.EQ
    comparison.value.default_value = 403
    comparison.value.runtime_key = "penstock.denied_status"
    mapper.body.inline_string = DENIED_BODY


def access_log(
    listener: str = LISTENER_NAME, headers: Sequence[str] = ()
) -> accesslog_pb2.AccessLog:
    """Log to the agent; the same bytes on every listener make one stream for each worker.

    Args:
        listener: format string of the name of the listener that took the request.
        headers: those of the request that are logged, too.
    """
    config = als_pb2.HttpGrpcAccessLogConfig(
        common_config=to_agent(listener), additional_request_headers_to_log=headers
    )
    return accesslog_pb2.AccessLog(name="envoy.access_loggers.http_grpc", typed_config=pack(config))


def to_agent(listener: str = LISTENER_NAME) -> als_pb2.CommonGrpcAccessLogConfig:
    """Return how logs come to the agent; *listener* as for `access_log`."""
    common = als_pb2.CommonGrpcAccessLogConfig(log_name="penstock")
    common.transport_api_version = config_source_pb2.ApiVersion.V3
    common.grpc_service.envoy_grpc.cluster_name = NODE_CLUSTER
    common.buffer_flush_interval.CopyFrom(Duration(nanos=100_000_000))
    common.filter_state_objects_to_log.append(IDENTITY_KEY)
    common.custom_tags.add(tag="listener", value=listener)
    return common
