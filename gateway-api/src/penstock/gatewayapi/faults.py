"""What makes one rule of a route invalid."""

from __future__ import annotations

import msgspec

INCOMPATIBLE_FILTERS = "IncompatibleFilters"
UNSUPPORTED_VALUE = "UnsupportedValue"


class Refusal(msgspec.Struct, frozen=True):
    """How a kind of route answers what it cannot serve as it is written."""

    status: int
    """Of HTTP; Envoy tells clients of gRPC what it means to them."""
    words: str
    """For messages, behind "answers"."""


HTTP_REFUSAL = Refusal(500, "500")
GRPC_REFUSAL = Refusal(503, "UNAVAILABLE")
STREAM_REFUSAL = Refusal(0, "nobody")
"""Of what is no HTTP: it is refused."""


class Fault(msgspec.Struct, frozen=True):
    """A reason not to serve a rule as it is written."""

    path: str
    """Where in the route, as "spec.rules[0].filters[1]"."""
    message: str
    reason: str = UNSUPPORTED_VALUE
    """Reason of the condition Accepted or PartiallyInvalid."""

    def __str__(self) -> str:
        """Return "path: message"."""
        return f"{self.path}: {self.message}"
