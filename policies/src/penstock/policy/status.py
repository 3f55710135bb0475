"""Conditions of a policy object.

Source: spec A.1: `status.conditions` with type Valid.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.core.objects import Broken
from penstock.meta.conditions import Condition
from penstock.meta.problems import Problem, Severity
from penstock.policy.resources import CiliumNetworkPolicy

VALID = "Valid"
_SHOWN = 5


def conditions(
    policy: CiliumNetworkPolicy | Broken, problems: Sequence[Problem]
) -> tuple[Condition, ...]:
    """Return the conditions of *policy*, given the problems that `parse` found.

    Valid is False where something is not enforced as it is written; warnings leave it True and
    stand in the message.
    """
    errors = [problem for problem in problems if problem.severity is Severity.ERROR]
    if errors:
        reason = "Invalid" if isinstance(policy, Broken) else "NotSupported"
        valid = Condition(
            type=VALID,
            status=False,
            reason=reason,
            message=_text(errors),
            observed_generation=policy.metadata.generation,
        )
    else:
        valid = Condition(
            type=VALID,
            status=True,
            reason="Accepted",
            message=_text(problems),
            observed_generation=policy.metadata.generation,
        )
    return (valid,)


def _text(problems: Sequence[Problem]) -> str:
    lines = [str(problem) for problem in problems[:_SHOWN]]
    hidden = len(problems) - _SHOWN
    return "\n".join([*lines, f"and {hidden} more"] if hidden > 0 else lines)
