"""Which XBackendTrafficPolicy holds for a Service, and what it comes to.

Source: Gateway API v1.7, BackendTrafficPolicySpec; GEP-713 (of policies for one target the oldest
counts, then the first by name).
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.gatewayapi.backend_traffic_policy import LocalPolicyTarget, XBackendTrafficPolicy
from penstock.gatewayapi.conditions import fails, holds
from penstock.gatewayapi.durations import milliseconds
from penstock.gatewayapi.faults import Fault
from penstock.gatewayapi.sessions import session
from penstock.ir.retry_budget import RetryBudget
from penstock.ir.session import Session
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName, Origin

_SECOND = 1_000
_SESSION = "spec.sessionPersistence"


def winner(policies: Iterable[XBackendTrafficPolicy]) -> XBackendTrafficPolicy | None:
    """Return the policy that holds of those for one Service; one with a fault holds, too."""
    return min(policies, key=_rank, default=None)


def retry_budget(policy: XBackendTrafficPolicy) -> RetryBudget | None:
    """Return how far requests may be repeated under *policy*.

    The least rate becomes a number of retries at once, as if each took a second.
    """
    given = policy.spec.retry_constraint
    if given is None:
        return None
    rate = given.min_retry_rate
    least = -(-rate.count * _SECOND // milliseconds(rate.interval))
    return RetryBudget(
        percent=given.budget.percent,
        interval_ms=milliseconds(given.budget.interval),
        least=least,
        origin=Origin(policy.ref),
    )


def session_of(policy: XBackendTrafficPolicy, service: NamespacedName) -> Session | None:
    """Return the session of a Service under *policy*; a faulty one is none."""
    found = _session(policy, f"Service {service}")
    return found if isinstance(found, Session) else None


def _session(policy: XBackendTrafficPolicy, owner: str) -> Session | tuple[Fault, ...] | None:
    given = policy.spec.session_persistence
    return None if given is None else session(given, _SESSION, owner)


def target_condition(
    policy: XBackendTrafficPolicy, target: LocalPolicyTarget, rivals: Iterable[str], *, there: bool
) -> Condition:
    """Return whether *policy* holds for *target*.

    Args:
        policy: the policy.
        target: one of its targets.
        rivals: names of policies that go before it there.
        there: whether there is such a Service.
    """
    generation = policy.metadata.generation
    found = _session(policy, "")
    if not target.is_service:
        text = f"{target.group or 'core'}/{target.kind} is no target of this kind; use a Service"
        return fails("Accepted", "Invalid", generation, text)
    if not there:
        text = f"there is no Service {policy.metadata.namespace}/{target.name}"
        return fails("Accepted", "TargetNotFound", generation, text)
    before = next(iter(rivals), None)
    if before is not None:
        text = f"{policy.kind} {before} is older and for the same Service"
        return fails("Accepted", "Conflicted", generation, text)
    if isinstance(found, tuple):
        text = "; ".join(map(str, found))
        return fails("Accepted", "Invalid", generation, text)
    return holds("Accepted", "Accepted", generation)


def goes_before(one: XBackendTrafficPolicy, other: XBackendTrafficPolicy) -> bool:
    """Tell whether *one* holds where both are."""
    return _rank(one) < _rank(other)


def _rank(policy: XBackendTrafficPolicy) -> tuple[str, str]:
    return policy.metadata.creation_timestamp, str(policy.key)
