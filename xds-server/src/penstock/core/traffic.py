"""Which endpoints a Service leads to, and for how long.

Source: Kubernetes API reference, core/v1 ServiceSpec, SessionAffinityConfig.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from typing_extensions import override

from penstock.core.objects import ApiStruct
from penstock.meta.limits import LONGEST_STAY
from penstock.meta.problems import Problem

TrafficPolicy = Literal["Cluster", "Local", ""]
"""All endpoints, or those of the node where the traffic is; "" is as Cluster."""
DEFAULT_STAY = 10_800


class ClientIPConfig(ApiStruct, frozen=True, kw_only=True):
    """How long a client stays at an endpoint."""

    timeout_seconds: int | None = None
    """After its last connection; None is DEFAULT_STAY."""

    @override
    def checks(self) -> Iterable[Problem]:
        """Return a problem for a time that no server takes."""
        if self.timeout_seconds is not None and not 0 < self.timeout_seconds <= LONGEST_STAY:
            yield Problem("timeoutSeconds", f"must be 1 to {LONGEST_STAY}")


class SessionAffinityConfig(ApiStruct, frozen=True, kw_only=True):
    """How sessions are kept."""

    client_ip: ClientIPConfig | None = msgspec.field(name="clientIP", default=None)

    @property
    def stay_seconds(self) -> int:
        """Return how long a client stays at an endpoint after its last connection."""
        given = self.client_ip.timeout_seconds if self.client_ip is not None else None
        return DEFAULT_STAY if given is None else given
