"""Limits of how often a client may ask, as a filter that counts by the client's address.

Every client has a bucket of its own, made when it comes. The filter belongs to a route: what it has
counted begins anew when the routes of the hostname change, and each Envoy counts by itself.

Source: envoy.extensions.filters.http.local_ratelimit.v3; ingress-nginx, annotations limit-rps,
limit-rpm, limit-burst-multiplier, limit-whitelist.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from penstock.envoy.wire import extension
from penstock.ir.route import RateLimit
from penstock.pb.envoy.config.core.v3 import base_pb2, extension_pb2
from penstock.pb.envoy.config.route.v3 import route_components_pb2 as route_pb2
from penstock.pb.envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from penstock.pb.envoy.type.v3 import http_status_pb2, token_bucket_pb2

REFUSAL = http_status_pb2.ServiceUnavailable
"""As ingress-nginx answers who asks too often."""
MOST_CLIENTS = 10_000
"""So many are counted at once for a route; of more, who has been away longest is forgotten."""
_WHOLE = (1 << 32) - 1
_ADDRESS, _LIMITED = "remote_address", "remote_address_match"


def rate_limit(limit: RateLimit, unlimited: Iterable[str]) -> extension_pb2.TypedExtensionConfig:
    """Build the filter.

    Args:
        limit: how often a client may ask.
        unlimited: networks of clients that may ask as often as they like.
    """
    made = local_rate_limit_pb2.LocalRateLimit(
        stat_prefix="limit",
        status=http_status_pb2.HttpStatus(code=REFUSAL),
        # What is of no client does not exist; Envoy insists on a bucket for it.
        token_bucket=_bucket(_WHOLE, _WHOLE, 1),
        always_consume_default_token_bucket=BoolValue(value=False),
        filter_enabled=_always(),
        filter_enforced=_always(),
        max_dynamic_descriptors=UInt32Value(value=MOST_CLIENTS),
    )
    counted = made.rate_limits.add()
    entries = made.descriptors.add(
        token_bucket=_bucket(min(limit.burst + 1, _WHOLE), limit.requests, limit.seconds)
    )
    networks = [ipaddress.ip_network(one) for one in unlimited]
    if networks:
        others = counted.actions.add().remote_address_match
        others.descriptor_key, others.descriptor_value = _LIMITED, "yes"
        others.address_matcher.invert_match = True
        for one in networks:
            network = others.address_matcher.ranges.add(address_prefix=str(one.network_address))
            network.prefix_len.value = one.prefixlen
        entries.entries.add(key=_LIMITED, value="yes")
    counted.actions.add().remote_address.CopyFrom(route_pb2.RateLimit.Action.RemoteAddress())
    entries.entries.add(key=_ADDRESS)
    return extension("envoy.filters.http.local_ratelimit", made)


def _bucket(size: int, filled: int, seconds: int) -> token_bucket_pb2.TokenBucket:
    return token_bucket_pb2.TokenBucket(
        max_tokens=size,
        tokens_per_fill=UInt32Value(value=filled),
        fill_interval=Duration(seconds=seconds),
    )


def _always() -> base_pb2.RuntimeFractionalPercent:
    result = base_pb2.RuntimeFractionalPercent()
    result.default_value.numerator = 100
    return result
