"""The bootstrap of the node's Envoy.

Everything else comes by delta ADS from the agent over a unix socket. Paths are relative to the
folder that Envoy runs in. Source: Envoy 1.40 `envoy.config.bootstrap.v3.Bootstrap`; the limits
are the hardened baseline (overload manager before the kernel's OOM killer).
"""

from __future__ import annotations

import msgspec
from google.protobuf import duration_pb2, json_format, struct_pb2, wrappers_pb2

from penstock.envoy.runtime import LAYER
from penstock.envoy.wire import ads, pack
from penstock.meta.limits import RE2_MAX_PROGRAM_SIZE
from penstock.pb.envoy.config.bootstrap.v3 import bootstrap_pb2
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.core.v3 import (
    address_pb2,
    backoff_pb2,
    base_pb2,
    config_source_pb2,
    grpc_service_pb2,
    protocol_pb2,
)
from penstock.pb.envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from penstock.pb.envoy.config.metrics.v3 import stats_pb2
from penstock.pb.envoy.config.overload.v3 import overload_pb2
from penstock.pb.envoy.extensions.resource_monitors.downstream_connections.v3 import (
    downstream_connections_pb2,
)
from penstock.pb.envoy.extensions.resource_monitors.fixed_heap.v3 import fixed_heap_pb2
from penstock.pb.envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from penstock.pb.envoy.type.matcher.v3 import string_pb2

NODE_ADS = "node-ads"
"""Cluster of the agent: ADS and the access log service."""
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

KEPT_STATS = (
    "access_logs.",
    f"cluster.{NODE_ADS}.",
    "cluster_manager.",
    "control_plane.",
    "dns_cache.",
    "filesystem.",
    "http.",
    "http1.",
    "http2.",
    "listener_manager.",
    "main_thread.",
    "overload.",
    "runtime.",
    "server.",
    "tracing.",
    "workers.",
)
"""Prefixes of the statistics that exist; those of each cluster, host and listener do not:
with 1,000 services they are most of Envoy's memory, and `/clusters` shows the hosts anyway."""


class BootstrapOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from node to node."""

    node: str
    admin_socket: str = "envoy-admin.sock"
    ads_socket: str = "node-ads.sock"
    max_heap_bytes: int = 2 << 30
    max_connections: int = 50_000
    """Downstream connections of all listeners together."""
    fetch_timeout: float = 15.0
    """Seconds after which Envoy goes on without the first answer to a subscription."""


def bootstrap(options: BootstrapOptions) -> bootstrap_pb2.Bootstrap:
    """Return the bootstrap; equal options give equal messages."""
    return bootstrap_pb2.Bootstrap(
        node=base_pb2.Node(id=options.node, cluster="penstock"),
        admin=bootstrap_pb2.Admin(
            address=_pipe(options.admin_socket, mode=0o600), ignore_global_conn_limit=True
        ),
        dynamic_resources=_dynamic_resources(options),
        static_resources=bootstrap_pb2.Bootstrap.StaticResources(
            clusters=[_agent_cluster(options.ads_socket)]
        ),
        layered_runtime=_runtime(options),
        overload_manager=_overload(options),
        stats_config=_stats(),
        stats_flush_on_admin=True,
        # A thread that hangs for a minute ends the process, and the agent starts it anew.
        watchdogs=bootstrap_pb2.Watchdogs(
            worker_watchdog=bootstrap_pb2.Watchdog(
                miss_timeout=_seconds(1), megamiss_timeout=_seconds(5), kill_timeout=_seconds(60)
            )
        ),
    )


def to_json(config: bootstrap_pb2.Bootstrap) -> str:
    """Return the text of the configuration file: the same message gives the same bytes."""
    text = json_format.MessageToJson(
        config, preserving_proto_field_name=True, sort_keys=True, indent=2
    )
    return text + "\n"


def _dynamic_resources(options: BootstrapOptions) -> bootstrap_pb2.Bootstrap.DynamicResources:
    return bootstrap_pb2.Bootstrap.DynamicResources(
        ads_config=config_source_pb2.ApiConfigSource(
            api_type=config_source_pb2.ApiConfigSource.DELTA_GRPC,
            transport_api_version=config_source_pb2.V3,
            set_node_on_first_message_only=True,
            grpc_services=[
                grpc_service_pb2.GrpcService(
                    envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(
                        cluster_name=NODE_ADS, retry_policy=_reconnect()
                    )
                )
            ],
        ),
        lds_config=_ads(options.fetch_timeout),
        cds_config=_ads(options.fetch_timeout),
    )


def _reconnect() -> base_pb2.RetryPolicy:
    """Come back soon after the agent: by default Envoy waits up to 30 s."""
    return base_pb2.RetryPolicy(
        retry_back_off=backoff_pb2.BackoffStrategy(
            base_interval=_seconds(0.1), max_interval=_seconds(1)
        )
    )


def _agent_cluster(socket: str) -> cluster_pb2.Cluster:
    http2 = protocol_pb2.Http2ProtocolOptions(
        connection_keepalive=protocol_pb2.KeepaliveSettings(
            interval=_seconds(30), timeout=_seconds(10)
        )
    )
    protocol = http_protocol_options_pb2.HttpProtocolOptions(
        explicit_http_config=http_protocol_options_pb2.HttpProtocolOptions.ExplicitHttpConfig(
            http2_protocol_options=http2
        )
    )
    endpoint = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=_pipe(socket))
    )
    return cluster_pb2.Cluster(
        name=NODE_ADS,
        type=cluster_pb2.Cluster.STATIC,
        connect_timeout=_seconds(1),
        typed_extension_protocol_options={HTTP_OPTIONS: pack(protocol)},
        load_assignment=endpoint_pb2.ClusterLoadAssignment(
            cluster_name=NODE_ADS,
            endpoints=[endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=[endpoint])],
        ),
    )


def _runtime(options: BootstrapOptions) -> bootstrap_pb2.LayeredRuntime:
    static = struct_pb2.Struct()
    static.update({"re2.max_program_size.error_level": RE2_MAX_PROGRAM_SIZE})
    rtds = bootstrap_pb2.RuntimeLayer.RtdsLayer(name=LAYER, rtds_config=_ads(options.fetch_timeout))
    return bootstrap_pb2.LayeredRuntime(
        layers=[
            bootstrap_pb2.RuntimeLayer(name="static", static_layer=static),
            bootstrap_pb2.RuntimeLayer(name=LAYER, rtds_layer=rtds),
            bootstrap_pb2.RuntimeLayer(
                name="admin", admin_layer=bootstrap_pb2.RuntimeLayer.AdminLayer()
            ),
        ]
    )


_HEAP = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections"


def _overload(options: BootstrapOptions) -> overload_pb2.OverloadManager:
    heap = fixed_heap_pb2.FixedHeapConfig(max_heap_size_bytes=options.max_heap_bytes)
    connections = downstream_connections_pb2.DownstreamConnectionsConfig(
        max_active_downstream_connections=options.max_connections
    )
    return overload_pb2.OverloadManager(
        refresh_interval=duration_pb2.Duration(nanos=250_000_000),
        resource_monitors=[
            overload_pb2.ResourceMonitor(name=_HEAP, typed_config=pack(heap)),
            overload_pb2.ResourceMonitor(name=_CONNECTIONS, typed_config=pack(connections)),
        ],
        # Streams below 1 MiB of buffers are not worth a reset.
        buffer_factory_config=overload_pb2.BufferFactoryConfig(
            minimum_account_to_track_power_of_two=20
        ),
        actions=[
            _action("shrink_heap", _at(0.85)),
            _action("disable_http_keepalive", _at(0.90)),
            _action("reset_high_memory_stream", _between(0.92, 0.98)),
            _action("stop_accepting_requests", _at(0.95)),
            _action("stop_accepting_connections", _at(0.98)),
        ],
    )


def _action(name: str, trigger: overload_pb2.Trigger) -> overload_pb2.OverloadAction:
    return overload_pb2.OverloadAction(name=f"envoy.overload_actions.{name}", triggers=[trigger])


def _at(share: float) -> overload_pb2.Trigger:
    return overload_pb2.Trigger(name=_HEAP, threshold=overload_pb2.ThresholdTrigger(value=share))


def _between(low: float, high: float) -> overload_pb2.Trigger:
    return overload_pb2.Trigger(
        name=_HEAP,
        scaled=overload_pb2.ScaledTrigger(scaling_threshold=low, saturation_threshold=high),
    )


def _stats() -> stats_pb2.StatsConfig:
    kept = [string_pb2.StringMatcher(prefix=prefix) for prefix in KEPT_STATS]
    return stats_pb2.StatsConfig(
        use_all_default_tags=wrappers_pb2.BoolValue(value=True),
        stats_matcher=stats_pb2.StatsMatcher(
            inclusion_list=string_pb2.ListStringMatcher(patterns=kept)
        ),
    )


def _ads(timeout: float) -> config_source_pb2.ConfigSource:
    source = ads()
    source.initial_fetch_timeout.CopyFrom(_seconds(timeout))
    return source


def _pipe(path: str, mode: int = 0) -> address_pb2.Address:
    return address_pb2.Address(pipe=address_pb2.Pipe(path=path, mode=mode))


def _seconds(value: float) -> duration_pb2.Duration:
    whole = int(value)
    return duration_pb2.Duration(seconds=whole, nanos=round((value - whole) * 1e9))
