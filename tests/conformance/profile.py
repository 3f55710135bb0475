"""Which tests belong to a profile of the suite, and which of them are core.

Source: the suite's package `utils/suite`, profiles.go, and the report that the suite writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from conformance.results import Outcome, Result
from penstock.gatewayapi.features import MESH_FEATURES, SUPPORTED_FEATURES

_GATEWAY = ("Gateway", "ReferenceGrant")
_MESH = ("Mesh",)
CORE = {
    "GATEWAY-HTTP": frozenset((*_GATEWAY, "HTTPRoute")),
    "GATEWAY-GRPC": frozenset((*_GATEWAY, "GRPCRoute")),
    "GATEWAY-TLS": frozenset((*_GATEWAY, "TLSRoute")),
    "GATEWAY-TCP": frozenset((*_GATEWAY, "TCPRoute")),
    "GATEWAY-UDP": frozenset((*_GATEWAY, "UDPRoute")),
    "MESH-HTTP": frozenset((*_MESH, "HTTPRoute")),
    "MESH-GRPC": frozenset((*_MESH, "GRPCRoute")),
}
"""Features that every implementation of a profile has."""
SERVED = tuple(
    name
    for name, needed in CORE.items()
    if needed <= set(MESH_FEATURES if "Mesh" in needed else SUPPORTED_FEATURES)
)
"""Those whose core features Penstock says it has."""
BASES = frozenset({"Gateway", "Mesh"})
"""What routes are attached to."""
ROUTES = frozenset({"HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"})


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A profile, with the extended features that its report speaks of."""

    name: str
    supported: frozenset[str] = frozenset()
    unsupported: frozenset[str] = frozenset()

    def holds(self, result: Result) -> bool:
        """Return whether a test belongs to the profile.

        What was skipped for want of a feature of another profile does not.
        """
        core = CORE[self.name]
        if result.outcome is Outcome.SKIPPED:
            return result.lacking in core | self.supported | self.unsupported
        kinds = ROUTES.intersection(result.features)
        return kinds <= core and bool(BASES & core & set(result.features))

    def is_core(self, result: Result) -> bool:
        """Return whether a test needs features only that everybody has."""
        return result.outcome is not Outcome.SKIPPED and set(result.features) <= CORE[self.name]


def profiles_of(report: dict[str, Any], names: Iterable[str]) -> tuple[Profile, ...]:
    """Return the profiles *names* as the suite's *report* describes them."""
    described = {one["name"]: one.get("extended", {}) for one in report.get("profiles") or ()}
    return tuple(
        Profile(
            name=name,
            supported=frozenset(described.get(name, {}).get("supportedFeatures", ())),
            unsupported=frozenset(described.get(name, {}).get("unsupportedFeatures", ())),
        )
        for name in names
    )
