"""Traces of Gateways: Envoy's OpenTelemetry tracer, and what it tells.

A request has two spans: what the client waits for, and below it each attempt at a backend. Spans
leave in batches; a collector that is away, slow or refuses costs spans and never a request.

Source: envoy.config.trace.v3.OpenTelemetryConfig; W3C Trace Context.
"""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from penstock.envoy.cluster import Role, cluster_name
from penstock.envoy.span_attributes import BEHIND_METHOD, ROUTE, Place, custom_tags, noting
from penstock.envoy.wire import extension, pack
from penstock.ir.tracing import ALL, Sampling, Tracing
from penstock.pb.envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from penstock.pb.envoy.config.core.v3 import base_pb2, extension_pb2
from penstock.pb.envoy.config.trace.v3 import opentelemetry_pb2
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from penstock.pb.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    header_mutation_pb2,
)
from penstock.pb.envoy.extensions.tracers.opentelemetry.resource_detectors.v3 import (
    static_config_resource_detector_pb2 as static_pb2,
)
from penstock.pb.envoy.extensions.tracers.opentelemetry.samplers.v3 import (
    parent_based_sampler_pb2,
    trace_id_ratio_based_sampler_pb2,
)
from penstock.pb.envoy.type.v3 import percent_pb2

RUNTIME = {
    "tracing.opentelemetry.flush_interval_ms": 1000,
    "tracing.opentelemetry.min_flush_spans": 256,
}
"""Runtime keys: spans leave after so long, or when there are so many. By itself Envoy would make a
call for every five."""
TRACEPARENT = "traceparent"
_TIMEOUT = Duration(seconds=5)
_DETECTOR = "envoy.tracers.opentelemetry.resource_detectors.static_config"
_RATIO = "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based"
_PARENT = "envoy.tracers.opentelemetry.samplers.parent_based"
_PARTS = 1 << 16
"""So many values the last four digits of a trace's id have."""


def trace(
    manager: hcm_pb2.HttpConnectionManager, tracing: Tracing, *, gateway: str, port: int
) -> None:
    """Let a connection manager tell of its requests.

    Args:
        manager: the connection manager, otherwise complete.
        tracing: what is told to whom.
        gateway: "namespace/name".
        port: of the Gateway.
    """
    namespace, _, name = gateway.partition("/")
    place = Place(
        gateway=gateway, port=port, service_name=tracing.service_name or name, namespace=namespace
    )
    made = manager.tracing
    made.spawn_upstream_span.value = True
    behind = f"%METADATA(ROUTE:{ROUTE}:{BEHIND_METHOD})%"
    made.operation = tracing.span_name or f"%REQ(:METHOD)%{behind}"
    made.upstream_operation = "%REQ(:METHOD)% %UPSTREAM_CLUSTER%"
    made.custom_tags.extend(custom_tags(tracing.attributes, place))
    made.provider.name = "envoy.tracers.opentelemetry"
    made.provider.typed_config.CopyFrom(pack(_tracer(tracing, place)))
    manager.http_filters.insert(0, noting())
    parents = tracing.sampling.parents
    if parents is not None and parents < ALL:
        manager.early_header_mutation_extensions.append(_fewer(parents))


def _tracer(tracing: Tracing, place: Place) -> opentelemetry_pb2.OpenTelemetryConfig:
    made = opentelemetry_pb2.OpenTelemetryConfig(service_name=place.service_name)
    collector, headers = tracing.collector, tracing.headers
    cluster = cluster_name(Role.TRACES, collector.target)
    if collector.grpc:
        service = made.grpc_service
        service.timeout.CopyFrom(_TIMEOUT)
        service.envoy_grpc.cluster_name = cluster
        service.envoy_grpc.authority = collector.host
        for name, value in headers:
            service.initial_metadata.add(key=name, value=value)
    else:
        uri = made.http_service.http_uri
        uri.uri, uri.cluster = f"http://{collector.host}/v1/traces", cluster
        uri.timeout.CopyFrom(_TIMEOUT)
        for name, value in headers:
            option = made.http_service.request_headers_to_add.add()
            option.append_action = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
            option.header.key, option.header.value = name, value.replace("%", "%%")
    resource = {"service.namespace": place.namespace, "penstock.gateway": place.gateway}
    made.resource_detectors.append(
        extension(_DETECTOR, static_pb2.StaticConfigResourceDetectorConfig(attributes=resource))
    )
    made.sampler.CopyFrom(_sampler(tracing.sampling))
    return made


def _sampler(sampling: Sampling) -> extension_pb2.TypedExtensionConfig:
    """Return who decides. With a sampler no header of Envoy's own makes it tell a request."""
    percentage = percent_pb2.FractionalPercent(
        numerator=sampling.new, denominator=percent_pb2.FractionalPercent.MILLION
    )
    ratio = extension(
        _RATIO,
        trace_id_ratio_based_sampler_pb2.TraceIdRatioBasedSamplerConfig(
            sampling_percentage=percentage
        ),
    )
    if sampling.parents is None:
        return ratio
    return extension(
        _PARENT, parent_based_sampler_pb2.ParentBasedSamplerConfig(wrapped_sampler=ratio)
    )


def _fewer(parents: int) -> extension_pb2.TypedExtensionConfig:
    """Return what makes the rest of the client's traces ones that the client does not tell.

    The last four digits of the trace's id decide, so that all who decide like that keep the same
    ones. What is no traceparent, or says already that it is not told, stays as it is: without a
    value nothing is written. Envoy's CEL takes small regular expressions only.
    """
    given = f'request.headers["{TRACEPARENT}"]'
    digits = "[0-9a-f]" * 4
    picked = f're.extract({given}, "({digits})-[0-9a-f]+-.[13579bdf]$", "\\\\1")'
    without = f're.extract({given}, "^(.+)..$", "\\\\100")'
    below = min(max(round(parents * _PARTS / ALL), 1 if parents else 0), _PARTS - 1)
    told = f'{picked} < "{below:04x}"'
    value = base_pb2.HeaderValue(key=TRACEPARENT, value=f"%CEL({told} ? {given} : {without})%")
    option = base_pb2.HeaderValueOption(
        header=value, append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS
    )
    mutation = mutation_rules_pb2.HeaderMutation(append=option)
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        header_mutation_pb2.HeaderMutation(mutations=[mutation]),
    )
