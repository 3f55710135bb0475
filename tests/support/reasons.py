"""Reasons of conditions: worlds that provoke them, and what a status says there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from penstock.compiler.acked import Acked
from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Settings
from penstock.compiler.statuses import status_of
from penstock.core.objects import Broken, Object
from penstock.meta.conditions import Condition
from penstock.meta.names import ObjectRef
from support import objects

Json = dict[str, Any]
Thing = Object | Broken

Reason = tuple[str, str, str, str]
"""Whose, type, status, reason."""


class Case(msgspec.Struct, frozen=True):
    """A world, and what is said in it about its first object."""

    fact: str
    reason: Reason
    world: tuple[Thing, ...]
    """The object in question first."""
    at: str = ""
    """Name of the listener; "" is the object itself, or its first parent or ancestor."""
    settings: Settings | None = None
    acked: Condition | None = None
    """What the data plane says of the objects."""


def case(
    fact: str,
    reason: str,
    *world: Thing,
    at: str = "",
    settings: Settings | None = None,
    acked: Condition | None = None,
) -> Case:
    """Return a case; *reason* is written "Gateway Accepted False Invalid"."""
    whose, kind, status, said = reason.split()
    return Case(fact, (whose, kind, status, said), world, at, settings, acked)


def conditions(one: Case) -> list[Json]:
    """Return the conditions that the case is about."""
    compiler = Compiler(one.settings)
    compiler.apply(objects.added([objects.gateway_class(), *one.world]))
    assert compiler.failures == {}

    def acknowledged(_: ObjectRef) -> Acked | None:
        return None if one.acked is None else Acked(one.acked)

    status = status_of(compiler.db, one.world[0], acknowledged)
    assert status is not None, "there is no status"
    if one.at:
        return _named(status["listeners"], one.at)
    for shared in ("parents", "ancestors"):
        if shared in status:
            return list(status[shared][0]["conditions"])
    return list(status["conditions"])


def check(one: Case) -> None:
    """Fail if the reason is not given, or the condition says nothing of the generation."""
    found = conditions(one)
    _, kind, status, reason = one.reason
    said = [(each["status"], each["reason"]) for each in found if each["type"] == kind]
    assert said == [(status, reason)], found
    generation = one.world[0].metadata.generation
    assert {each["observedGeneration"] for each in found} == {generation}


def check_list(
    whose: str, listed: str, cases: Iterable[Case], never: Iterable[Reason] = ()
) -> None:
    """Fail if a reason that is listed for a kind of object is neither provoked nor ruled out.

    Args:
        whose: the kind.
        listed: lines of a type, a status, and reasons.
        cases: what provokes them, those of other kinds among them.
        never: those that cannot be, likewise.
    """
    wanted = {
        (whose, kind, status, reason)
        for kind, status, *reasons in map(str.split, listed.strip().splitlines())
        for reason in reasons
    }
    provoked = {one.reason for one in cases if one.reason[0] == whose}
    ruled_out = {one for one in never if one[0] == whose}
    assert provoked | ruled_out == wanted
    assert not provoked & ruled_out


def _named(listeners: Iterable[Json], name: str) -> list[Json]:
    (found,) = [one for one in listeners if one["name"] == name]
    return list(found["conditions"])
