"""What a status becomes when ours is written into it.

What others wrote stays where it is: entries of other controllers in HTTPRoute.status.parents,
conditions of other types, fields that we do not know.
Source: Kubernetes API conventions, typical status properties; Gateway API, RouteParentStatus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from penstock.status.data_plane import DATA_PLANE_ACKED, NOT_SERVED

Json = dict[str, Any]

LONGEST_MESSAGE = 32768
"""Characters; metav1.Condition.message."""
OURS = frozenset(
    {
        "Accepted", "AddressesAssigned", "CertificateNotValid", "Conflicted", DATA_PLANE_ACKED,
        "InsecureFrontendValidationMode", "Overlapped", "OverlappingTLSConfig", "PartiallyInvalid",
        "Programmed", "ResolvedRefs", "SupportedVersion", "Valid", "penstock.dev/AddressAssigned",
        "penstock.dev/KindsServed", "penstock.dev/ServiceGenerated",
    }
)  # fmt: skip
"""Types of conditions that are ours to write and to remove."""
_SHARED = {"parents": "parentRef", "ancestors": "ancestorRef"}
"""Lists in which every controller has entries of its own, and what they are about."""
_MOST = 32
"""Entries of such a list; RouteStatus.parents, BackendStatus.ancestors."""
_MOST_OF = {"BackendTLSPolicy": 16, "XBackendTrafficPolicy": 16, "XTelemetryPolicy": 16}
"""The same by kind, where it is less; PolicyStatus.ancestors."""


def merged(observed: Json, desired: Json | None, controller: str, now: str, kind: str = "") -> Json:
    """Return the status that an object should have.

    A server refuses a whole status of which a list is too long. Where others leave no room for all
    of our entries, the last ones are left out.

    Args:
        observed: its status at present; it is not changed.
        desired: what we have to say; None for nothing.
        controller: our controllerName, which marks our entries in `parents` and `ancestors`.
        now: for conditions whose status changes, as RFC 3339.
        kind: of the object.

    The result equals *observed* if there is nothing to write.
    """
    for name, ref in _SHARED.items():
        if name in observed or name in (desired or {}):
            wanted = (desired or {}).get(name, [])
            who = Who(controller, ref, _MOST_OF.get(kind, _MOST))
            ours = _shared(observed.get(name), wanted, who, now)
            return observed | {name: ours}
    if desired is None:
        return observed
    result = dict(observed)
    for name, value in desired.items():
        match name:
            case "conditions":
                result[name] = _conditions(observed.get(name), value, now)
            case "listeners":
                result[name] = _listeners(observed.get(name), value, now)
            case _ if value or observed.get(name):
                result[name] = value
            case _:
                pass
    return result


def tells_of_us(observed: Json) -> bool:
    """Return whether a status that no controller shares is one that we wrote for what we serve."""
    return any(one.get("type") == DATA_PLANE_ACKED for one in observed.get("conditions") or ())


def is_in_force(observed: Json, controller: str, generation: int) -> bool:
    """Return whether a status says that nodes have a generation of an object.

    Args:
        observed: the status; that of a ListenerSet says only `Programmed`.
        controller: as for `merged`.
        generation: of the object.
    """
    shared = [one for name in _SHARED for one in observed.get(name) or ()]
    holders = [one for one in shared if one.get("controllerName") == controller] or [observed]
    said = [one for holder in holders for one in holder.get("conditions") or ()]
    for kind in (DATA_PLANE_ACKED, "Programmed"):
        found = [one for one in said if one.get("type") == kind and one.get("reason") != NOT_SERVED]
        if found:
            values = {(one.get("status"), one.get("observedGeneration")) for one in found}
            return values == {("True", generation)}
    return False


def _conditions(observed: Sequence[Json] | None, desired: Iterable[Json], now: str) -> list[Json]:
    """Return *observed* with ours in the place of what we wrote before, new ones at the end."""
    left = {one["type"]: one for one in desired}
    result: list[Json] = []
    for old in observed or ():
        kind = old.get("type", "")
        if kind in left:
            result.append(_condition(old, left.pop(kind), now))
        elif kind not in OURS:
            result.append(old)
    return [*result, *(_condition({}, one, now) for one in left.values())]


def _condition(old: Json, new: Json, now: str) -> Json:
    since = old.get("lastTransitionTime") if old.get("status") == new["status"] else None
    message = new["message"][:LONGEST_MESSAGE]
    return old | new | {"message": message, "lastTransitionTime": since or now}


def _listeners(observed: Sequence[Json] | None, desired: Iterable[Json], now: str) -> list[Json]:
    """Return *desired*, in its order, with what others said about the same listeners."""
    known = {one.get("name"): one for one in observed or ()}
    return [_entry(known.get(one["name"], {}), one, now) for one in desired]


class Who(NamedTuple):
    """Whose entries are ours in a list that controllers share."""

    controller: str
    ref: str
    """Name of the field by which entries are told apart."""
    most: int
    """Entries that the list may have."""


def _shared(
    observed: Sequence[Json] | None, desired: Sequence[Json], who: Who, now: str
) -> list[Json]:
    """Return *observed* with our entries as in *desired*: in their place, new ones at the end."""
    others = sum(old.get("controllerName") != who.controller for old in observed or ())
    left = list(desired)[: max(0, who.most - others)]
    result: list[Json] = []
    for old in observed or ():
        if old.get("controllerName") != who.controller:
            result.append(old)
            continue
        new = _take(left, lambda one, old=old: one[who.ref] == old.get(who.ref))  # type: ignore[misc]
        if new is not None:
            result.append(_entry(old, new, now))
    return [*result, *(_entry({}, one, now) for one in left)]


def _entry(old: Json, new: Json, now: str) -> Json:
    conditions = _conditions(old.get("conditions"), new["conditions"], now)
    return old | new | {"conditions": conditions}


def _take(some: list[Json], wanted: Callable[[Json], bool]) -> Json | None:
    """Remove and return the first of *some* that is wanted, None if none is."""
    for index, one in enumerate(some):
        if wanted(one):
            return some.pop(index)
    return None
