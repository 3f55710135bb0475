"""Conditions of ListenerSets. Source: Gateway API v1.7, ListenerSetStatus."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.gatewayapi.conditions import fails, holds, listed
from penstock.gatewayapi.listener_filters import unresolved
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.listeners import (
    PORT_UNAVAILABLE,
    TOO_MANY,
    ListenerStatus,
    Reason,
    Surroundings,
    Tls,
    gateway_fault,
    listener_status,
)
from penstock.gatewayapi.merged import PlacedListener
from penstock.gatewayapi.resources import GatewaySpec
from penstock.meta.conditions import Condition

LISTENERS_NOT_VALID = "ListenersNotValid"


class ListenerSetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """ListenerSet.status."""

    conditions: tuple[Condition, ...]
    listeners: tuple[ListenerStatus, ...]


def refused_status(added: ListenerSet) -> ListenerSetStatus:
    """Return the status of a ListenerSet that its Gateway does not let in."""
    generation = added.metadata.generation
    text = f"allowedListeners of Gateway {added.gateway} do not admit this namespace"
    conditions = tuple(
        fails(name, "NotAllowed", generation, text) for name in ("Accepted", "Programmed")
    )
    return ListenerSetStatus(conditions=conditions, listeners=())


def listener_set_status(
    added: ListenerSet, spec: GatewaySpec, own: Sequence[PlacedListener], around: Surroundings
) -> ListenerSetStatus:
    """Return the status of a ListenerSet that its Gateway lets in.

    Args:
        added: the ListenerSet.
        spec: of its Gateway, which is ours.
        own: the listeners of the ListenerSet, placed in the Gateway.
        around: what they come to.
    """
    listeners = tuple(_entry(added, spec, one, around) for one in own)
    return ListenerSetStatus(
        conditions=_conditions(added, spec, own, listeners, around), listeners=listeners
    )


def is_valid(one: PlacedListener, around: Surroundings) -> bool:
    """Return whether a listener is accepted and has what it serves with."""
    found = around.tls.get(one.place, Tls()).certificates
    good = one.fault is None and one.place not in around.taken
    known = not unresolved(around.asked.get(one.place, ()))
    return good and known and (found is None or bool(found.usable))


def _entry(
    added: ListenerSet, spec: GatewaySpec, one: PlacedListener, around: Surroundings
) -> ListenerStatus:
    fault = around.outer or gateway_fault(spec)
    found = listener_status(
        spec,
        one.own,
        generation=added.metadata.generation,
        conflict=one.conflict,
        attached_routes=around.attached_routes.get(one.place, 0),
        tls=around.tls.get(one.place, Tls()),
        asked=around.asked.get(one.place, ()),
        pending=around.pending.get(one.place) if fault is None else fault.message,
        refused=around.refused.get(one.place),
        outer=_outer(one, around),
    )
    if one.conflict is None:
        return found
    text = f"port {one.own.port} has a listener that goes before and cannot be told from this one"
    conditions = tuple(
        msgspec.structs.replace(each, reason=one.conflict, message=text)
        if each.type in ("Accepted", "Conflicted", "Programmed")
        else each
        for each in found.conditions
    )
    return msgspec.structs.replace(found, conditions=conditions)


def _outer(one: PlacedListener, around: Surroundings) -> Reason | None:
    """Return what keeps a listener from being accepted that it does not say itself."""
    if one.fault is not None and one.fault.reason == TOO_MANY:
        return one.fault
    return around.taken.get(one.place)


def _conditions(
    added: ListenerSet,
    spec: GatewaySpec,
    own: Sequence[PlacedListener],
    listeners: Sequence[ListenerStatus],
    around: Surroundings,
) -> tuple[Condition, Condition]:
    generation = added.metadata.generation
    fault = around.outer or gateway_fault(spec)
    if fault is not None:
        text = f"Gateway {added.gateway}: {fault.message}"
        return (
            fails("Accepted", "ParentNotAccepted", generation, text),
            fails("Programmed", "ParentNotProgrammed", generation, text),
        )
    invalid = [one.own.name for one in own if not is_valid(one, around)]
    text = f"not valid: listener {listed(invalid)}"
    if len(invalid) == len(own):
        taken = all(one.place in around.taken for one in own)
        return (
            fails("Accepted", LISTENERS_NOT_VALID, generation, text),
            fails(
                "Programmed", PORT_UNAVAILABLE if taken else LISTENERS_NOT_VALID, generation, text
            ),
        )
    accepted = (
        holds("Accepted", LISTENERS_NOT_VALID, generation, text)
        if invalid
        else holds("Accepted", "Accepted", generation)
    )
    programmed = [each for one in listeners for each in one.conditions if each.type == "Programmed"]
    if any(one.status for one in programmed):
        return accepted, holds("Programmed", "Programmed", generation)
    if all(one.reason != "Pending" for one in programmed):
        text = "no listener can be served"
        return accepted, fails("Programmed", LISTENERS_NOT_VALID, generation, text)
    return accepted, fails("Programmed", "Pending", generation, "no listener is served yet")
