"""What the rules of a route, taken together, mean for its conditions.

Source: Gateway API v1.7, RouteConditionType: Accepted, PartiallyInvalid, ResolvedRefs.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.core.objects import Broken
from penstock.gatewayapi.conditions import fails, holds, unknown
from penstock.gatewayapi.faults import HTTP_REFUSAL, Fault, Refusal
from penstock.ir.route import Backend, InvalidBackend
from penstock.meta.conditions import Condition

SHOWN = 5
"""So many faults are named in one message."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions of a route that do not depend on the parent."""

    accepted: Condition
    """False if no rule can be served as written."""
    partially_invalid: Condition | None
    """True if some rules cannot be served as written; absent otherwise."""
    resolved_refs: Condition


def verdict_of(
    faults: Sequence[Sequence[Fault]],
    backends: Sequence[Backend],
    generation: int,
    refusal: Refusal = HTTP_REFUSAL,
) -> Verdict:
    """Return the conditions of a route.

    Args:
        faults: those of each rule.
        backends: those of all rules.
        generation: of the route.
        refusal: how it answers what is wrong.
    """
    wrong = [index for index, of_rule in enumerate(faults) if of_rule]
    found = [fault for of_rule in faults for fault in of_rule]
    all_wrong = bool(wrong) and len(wrong) == len(faults)
    return Verdict(
        accepted=_accepted(found if all_wrong else (), generation, refusal),
        partially_invalid=(
            _partially_invalid(wrong, found, generation, refusal)
            if wrong and not all_wrong
            else None
        ),
        resolved_refs=_resolved_refs(backends, generation),
    )


def verdict_of_broken(route: Broken, refusal: Refusal = HTTP_REFUSAL) -> Verdict:
    """Return the conditions of a route that did not decode."""
    generation = route.metadata.generation
    faults = [Fault(problem.path, problem.message) for problem in route.problems]
    return Verdict(
        accepted=_accepted(faults or (Fault("", "the route cannot be read"),), generation, refusal),
        partially_invalid=None,
        resolved_refs=unknown("ResolvedRefs", generation, "the route cannot be read"),
    )


def _accepted(faults: Sequence[Fault], generation: int, refusal: Refusal) -> Condition:
    if not faults:
        return holds("Accepted", "Accepted", generation)
    text = f"every rule answers {refusal.words}: {_listed(faults)}"
    return fails("Accepted", faults[0].reason, generation, text)


def _partially_invalid(
    rules: Sequence[int], faults: Sequence[Fault], generation: int, refusal: Refusal
) -> Condition:
    which = ", ".join(str(index) for index in rules)
    text = f"Dropped Rule {which}, answered with {refusal.words}: {_listed(faults)}"
    return holds("PartiallyInvalid", faults[0].reason, generation, text)


def _resolved_refs(backends: Sequence[Backend], generation: int) -> Condition:
    invalid = [one for one in backends if isinstance(one, InvalidBackend)]
    if not invalid:
        return holds("ResolvedRefs", "ResolvedRefs", generation)
    text = _shortened([f"{one.origin.path}: {one.message}" for one in invalid])
    return fails("ResolvedRefs", invalid[0].reason, generation, text)


def _listed(faults: Sequence[Fault]) -> str:
    return _shortened([str(fault) for fault in faults])


def _shortened(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more
