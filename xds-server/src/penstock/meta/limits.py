"""Limits that more than one part must agree on."""

from __future__ import annotations

RE2_MAX_PROGRAM_SIZE = 1000
"""Largest RE2 program: checked before a regex is sent, and set as Envoy's own limit."""

INLINE_WEIGHTS_ABOVE = 512
"""Up to so many HTTPRoutes that share requests, weights are runtime keys; with more, all stand in
their routes, because Envoy's cost of a runtime update grows with all keys."""

LISTENERS_OF_A_GATEWAY = 10_000
"""A Gateway takes so many, its own and those of ListenerSets; later ones are TooManyListeners."""

LONGEST_STAY = 86_400
"""Seconds for which a client may stay at an endpoint of a Service after its last connection."""

BACKENDS_JUDGED_AT_CONNECT = 16
"""A proxied Service with more endpoints is never refused at connect; the same stands in abi.h."""
