"""Which pods to start and which to stop next: pure, one step at a time.

Source: Kubernetes, Deployment strategies RollingUpdate and Recreate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from penstock.core.deployments import Deployment, RollingUpdate
from penstock.core.pods import IntOrString
from penstock.lab.cluster import Desired, PodPlan, PodState
from penstock.meta.names import NamespacedName


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now; more may follow when these are done."""

    start: tuple[PodPlan, ...] = ()
    stop: tuple[str, ...] = ()
    """Uids."""


def next_steps(want: Desired, states: Iterable[PodState]) -> Steps:
    """Return what brings the running pods nearer to *want* without losing availability.

    A pod starts only when none with its name runs any more.

    Args:
        want: what the folder asks for.
        states: every pod that runs, starts or ends.
    """
    running = {state.plan.uid: state for state in states}
    busy = {state.plan.key for state in running.values()}
    steps = [_bare_steps(want, running)]
    for key, deployment in want.deployments.items():
        mine = [p for p in want.plans if p.owner and _owner(p) == key]
        theirs = [state for state in running.values() if _owner(state.plan) == key]
        steps.append(_deployment_steps(deployment, mine, theirs))
    starts = [p for step in steps for p in step.start if p.key not in busy]
    return Steps(
        start=tuple(sorted(starts, key=lambda p: (p.key.namespace, p.owner, p.ordinal, p.key))),
        stop=tuple(sorted(uid for step in steps for uid in step.stop)),
    )


def _owner(plan: PodPlan) -> NamespacedName | None:
    if not plan.owner:
        return None
    return NamespacedName(plan.pod.metadata.namespace, plan.owner)


def _bare_steps(want: Desired, running: Mapping[str, PodState]) -> Steps:
    """Start bare pods that are missing; stop those that nobody asks for any more."""
    wanted = {p.uid: p for p in want.plans if not p.owner}
    return Steps(
        start=tuple(p for uid, p in wanted.items() if uid not in running),
        stop=tuple(
            uid
            for uid, state in running.items()
            if not state.terminating and uid not in wanted and _is_orphan(want, state.plan)
        ),
    )


def _is_orphan(want: Desired, plan: PodPlan) -> bool:
    """Return whether no Deployment, and no broken object, answers for *plan*."""
    owner = _owner(plan)
    return owner not in want.deployments and (owner or plan.key) not in want.unreadable


def _deployment_steps(
    deployment: Deployment, plans: list[PodPlan], states: list[PodState]
) -> Steps:
    wanted = {p.uid for p in plans}
    present = {state.plan.uid for state in states}
    alive = [state for state in states if not state.terminating]
    surplus = [state for state in alive if state.plan.uid not in wanted]
    missing = [p for p in plans if p.uid not in present]
    surge, unavailable = _bounds(deployment)
    if deployment.spec.strategy.type == "Recreate":
        blocked = any(state.plan.uid not in wanted for state in states)
        starts = [] if blocked else missing
        return Steps(start=tuple(starts), stop=tuple(state.plan.uid for state in surplus))
    room = deployment.spec.replicas + surge - len(alive)
    starts = missing[: max(room, 0)]
    spare = sum(state.ready for state in alive) - (deployment.spec.replicas - unavailable)
    idle = [state for state in surplus if not state.ready]
    serving = sorted((state for state in surplus if state.ready), key=lambda s: -s.plan.ordinal)
    ending = [*idle, *serving[: max(spare, 0)]]
    return Steps(start=tuple(starts), stop=tuple(state.plan.uid for state in ending))


def _bounds(deployment: Deployment) -> tuple[int, int]:
    """Return maxSurge rounded up and maxUnavailable rounded down, at least one of them not 0."""
    update = deployment.spec.strategy.rolling_update or RollingUpdate()
    replicas = deployment.spec.replicas
    surge = math.ceil(_of_replicas(update.max_surge, replicas))
    unavailable = math.floor(_of_replicas(update.max_unavailable, replicas))
    return (surge, unavailable) if surge or unavailable else (0, 1)


def _of_replicas(bound: IntOrString, replicas: int) -> float:
    if isinstance(bound, int):
        return bound
    return int(bound.removesuffix("%")) * replicas / 100
