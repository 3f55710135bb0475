"""What became of an object, told from its status before and after: at most one Event each time.

Only conditions that are settled count: a status that is Unknown, or False because something is
still on its way (reason Pending), says nothing new. So an Event is written when an object becomes
good or bad, and never because it was looked at again.
Source: Kubernetes, events.k8s.io/v1 Event; Gateway API conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.meta.names import ObjectRef
from penstock.status.data_plane import DATA_PLANE_ACKED, NOT_SERVED

API_VERSION = "events.k8s.io/v1"
LONGEST_NOTE = 1024
"""Bytes; Event.note."""
CONTROLLER = "penstock.io/controller"
Place = tuple[str, str]
"""Where in the status (a parent, a listener, or "" for the object itself), and the type."""
_GOOD_BAD = {
    DATA_PLANE_ACKED: ("AcceptedByDataPlane", "RejectedByDataPlane"),
    "Valid": ("Valid", "Invalid"),
    "Accepted": ("Accepted", "NotAccepted"),
    "Programmed": ("Programmed", "NotProgrammed"),
    "PartiallyInvalid": ("PartiallyInvalid", "PartiallyInvalid"),
    "ResolvedRefs": ("ResolvedRefs", "UnresolvedRefs"),
    "Overlapped": ("Overlapped", "Overlapped"),
    "penstock.dev/ServiceGenerated": ("ServiceGenerated", "ServiceNotGenerated"),
    "penstock.dev/AddressAssigned": ("AddressAssigned", "AddressNotAssigned"),
    "Address": ("AddressAssigned", "AddressLost"),
}
"""Type of a condition → reasons of Events, the most telling first."""
_RANK = {name: rank for rank, name in enumerate(_GOOD_BAD)}
_BAD_IF_TRUE = frozenset({"Overlapped", "PartiallyInvalid"})
_ADDRESS: Place = ("", "Address")
"""No condition: that the status of an Ingress has addresses."""
_SILENT = frozenset({"Pending", "NotReconciled"})
"""Reasons that mean: later."""


class Said(msgspec.Struct, frozen=True):
    """A settled condition."""

    good: bool
    reason: str = ""
    message: str = ""


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """What an Event tells."""

    type: str
    """Normal or Warning."""
    reason: str
    note: str


def settled(
    status: Mapping[str, Any], controller: str, before: Mapping[Place, Said] | None = None
) -> dict[Place, Said]:
    """Return the settled conditions of a status.

    Args:
        status: of one object.
        controller: our controllerName; what others say at `parents` does not count.
        before: what was settled before; it stays so where a condition is unsettled now.
    """
    found: dict[Place, Said] = {}
    for where, conditions in _places(status, controller):
        for one in conditions:
            kind, value, reason = (one.get(key, "") for key in ("type", "status", "reason"))
            place = (where, kind)
            if kind not in _GOOD_BAD:
                continue
            if value in ("True", "False") and reason not in _SILENT:
                good = (value == "True") is not (kind in _BAD_IF_TRUE)
                found[place] = Said(good, reason, one.get("message", ""))
            elif before is not None and place in before:
                found[place] = before[place]
    if "loadBalancer" in status and "conditions" not in status:
        addresses = _addresses(status["loadBalancer"] or {})
        if addresses:
            found[_ADDRESS] = Said(good=True, message=addresses)
        elif before is not None and _ADDRESS in before:
            found[_ADDRESS] = Said(good=False, reason="AddressLost", message="there is none")
    return found


def transition(before: Mapping[Place, Said], after: Mapping[Place, Said]) -> Transition | None:
    """Return what changed for people, None if nothing.

    A condition that is good is news if it was bad or is new, except that an object's resources
    arrive everywhere, which is news after a refusal only.
    """
    bad: list[tuple[Place, Said]] = []
    good: list[tuple[Place, Said]] = []
    for place, said in sorted(after.items(), key=lambda item: (_RANK[item[0][1]], item[0])):
        old = before.get(place)
        if not said.good and (old is None or old.good or old.reason != said.reason):
            bad.append((place, said))
        elif said.good and (not old.good if old is not None else place[1] != DATA_PLANE_ACKED):
            good.append((place, said))
    if bad:
        lines = (f"{kind}{_at(where)}: {one.reason}: {one.message}" for (where, kind), one in bad)
        (_, kind), worst = bad[0]
        reason = NOT_SERVED if worst.reason == NOT_SERVED else _GOOD_BAD[kind][1]
        return Transition(type="Warning", reason=reason, note=_cut("; ".join(lines)))
    if good:
        lines = (_line(place, said) for place, said in good)
        reason = _GOOD_BAD[good[0][0][1]][0]
        return Transition(type="Normal", reason=reason, note=_cut(", ".join(lines)))
    return None


def of_problems(before: str, after: str) -> Transition | None:
    """Return what changed in what is wrong with an object that has no conditions.

    Args:
        before: in words; "" if nothing was wrong, or nobody has looked.
        after: the same, now.
    """
    if after and after != before:
        return Transition(type="Warning", reason="NotServedAsWritten", note=_cut(after))
    if before and not after:
        note = "everything is served as it is written"
        return Transition(type="Normal", reason="ServedAsWritten", note=note)
    return None


def event(
    told: Transition, ref: ObjectRef, *, api_version: str, uid: str, name: str, instance: str,
    wall: float,
) -> dict[str, Any]:  # fmt: skip
    """Return an Event.

    Args:
        told: what it tells.
        ref: the object.
        api_version: of the object.
        uid: of the object.
        name: of the Event, unlike any other one's.
        instance: of the controller that writes it.
        wall: now, in seconds since 1970.
    """
    regarding = {"apiVersion": api_version, "kind": ref.kind, "name": ref.name, "uid": uid}
    if ref.namespace:
        regarding["namespace"] = ref.namespace
    return {
        "apiVersion": API_VERSION,
        "kind": "Event",
        "metadata": {"name": name, "namespace": ref.namespace or "default"},
        "eventTime": micro_time(wall),
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
        "action": "Reconcile",
        "type": told.type,
        "reason": told.reason,
        "note": told.note,
        "regarding": regarding,
    }


def again(written: Mapping[str, Any], wall: float) -> dict[str, Any]:
    """Return what to merge into an Event that was written before, and has happened once more."""
    count = (written.get("series") or {}).get("count", 1) + 1
    return {"series": {"count": count, "lastObservedTime": micro_time(wall)}}


def micro_time(wall: float) -> str:
    """Return seconds since 1970 as a MicroTime."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Allowance:
    """A budget of Events that fills up with time."""

    def __init__(self, burst: float, seconds: float, now: float) -> None:
        """Allow *burst* at once, and one in *seconds* on average."""
        self._burst = burst
        self._seconds = seconds
        self._left = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Return whether one more is allowed."""
        self._left = min(self._burst, self._left + (now - self._at) / self._seconds)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def is_full(self, now: float) -> bool:
        """Return whether nothing was taken for so long that it can be forgotten."""
        return self._left + (now - self._at) / self._seconds >= self._burst


def _places(
    status: Mapping[str, Any], controller: str
) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    yield "", status.get("conditions") or ()
    for one in status.get("parents") or ():
        if one.get("controllerName") == controller:
            yield _parent(one.get("parentRef") or {}), one.get("conditions") or ()
    for one in status.get("listeners") or ():
        yield f"listener {one.get('name', '')}", one.get("conditions") or ()


def _parent(ref: Mapping[str, Any]) -> str:
    namespace = f"{ref['namespace']}/" if ref.get("namespace") else ""
    section = f" {ref['sectionName']}" if ref.get("sectionName") else ""
    port = f":{ref['port']}" if ref.get("port") else ""
    return f"{ref.get('kind') or 'Gateway'} {namespace}{ref.get('name', '')}{section}{port}"


def _addresses(balanced: Mapping[str, Any]) -> str:
    """Return the addresses of a LoadBalancerStatus, separated by commas."""
    entries = balanced.get("ingress") or ()
    return ", ".join(str(one.get("ip") or one.get("hostname") or "") for one in entries)


def _line(place: Place, said: Said) -> str:
    where, kind = place
    return f"{kind} {said.message}" if place == _ADDRESS else f"{kind}{_at(where)}"


def _at(where: str) -> str:
    return f" at {where}" if where else ""


def _cut(note: str) -> str:
    content = note.encode()
    if len(content) <= LONGEST_NOTE:
        return note
    return content[: LONGEST_NOTE - 3].decode(errors="ignore") + "…"
