"""What the data plane says of the resources of an object, as statuses take it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from penstock.meta.conditions import Condition
from penstock.status.data_plane import DATA_PLANE_ACKED, NOT_SERVED

_NONE: Mapping[str, str] = {}


class Acked(msgspec.Struct, frozen=True):
    """What nodes say of an object: of the ports of a Gateway one by one, and of all the rest."""

    others: Condition
    """DataPlaneAcked, as it were without the refusals in `ports`."""
    ports: Mapping[str, str] = _NONE
    """Envoy listeners of single ports that some Envoy refuses, by their names, and its words.

    Such a refusal closes that port and nothing else.
    """

    @property
    def condition(self) -> Condition:
        """Return DataPlaneAcked of the whole object."""
        if self.others.status is False or not self.ports:
            return self.others
        return rejected(next(iter(self.ports.values())))


def not_served(text: str) -> Condition:
    """Return that a route is in force nowhere, whatever nodes have of it, and why."""
    return Condition(type=DATA_PLANE_ACKED, status=False, reason=NOT_SERVED, message=text)


def rejected(text: str) -> Condition:
    """Return that some Envoy refuses a part of an object, in its words."""
    return Condition(type=DATA_PLANE_ACKED, status=False, reason="Rejected", message=text)
