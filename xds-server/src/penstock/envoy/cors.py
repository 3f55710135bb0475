"""Cross-origin resource sharing, as a policy of a route.

Source: Gateway API, HTTPCORSFilter; envoy.extensions.filters.http.cors.v3; Fetch standard, CORS
protocol.
"""

from __future__ import annotations

import re

from penstock.envoy.wire import exact, full_match
from penstock.ir.route import Cors
from penstock.pb.envoy.extensions.filters.http.cors.v3 import cors_pb2
from penstock.pb.envoy.type.matcher.v3 import string_pb2

FILTER = "envoy.filters.http.cors"
ANY = "*"
_HOST = r"[a-zA-Z0-9.-]+"


def policy(cors: Cors) -> cors_pb2.CorsPolicy:
    """Build the policy of a route."""
    result = cors_pb2.CorsPolicy(
        allow_origin_string_match=[_origin(one) for one in cors.origins],
        allow_methods=", ".join(cors.methods),
        allow_headers=", ".join(cors.headers),
        expose_headers=", ".join(cors.exposed),
        max_age=str(cors.max_age_seconds),
    )
    if cors.credentials:
        result.allow_credentials.value = True
    # A preflight of a stranger ends here, without any permission.
    result.forward_not_matching_preflights.value = False
    return result


def _origin(written: str) -> string_pb2.StringMatcher:
    """Match an origin; browsers write it in lower case. "*" stands for any number of labels."""
    lower = written.lower()
    if ANY not in lower or lower == ANY:
        return exact(lower)
    before, after = lower.split(ANY, 1)
    return full_match(re.escape(before) + _HOST + re.escape(after))
