from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.decode import Decoded, decode
from penstock.core.deployments import Deployment
from penstock.core.pods import Pod
from penstock.lab.cluster import Desired, PodState, desired
from penstock.lab.rollout import Steps, next_steps
from support.lab import container, deployment, pod

OLD = container(command=["sleep", "1"])
NEW = container(command=["sleep", "2"])
ONE_BY_ONE = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def running(want: Desired, *, ready: bool = True) -> dict[str, PodState]:
    return {plan.uid: PodState(plan=plan, phase="Running", ready=ready) for plan in want.plans}


def apply(steps: Steps, states: dict[str, PodState]) -> None:
    for plan in steps.start:
        states[plan.uid] = PodState(plan=plan)
    for uid in steps.stop:
        states[uid] = msgspec.structs.replace(states[uid], terminating=True)


def roll(
    before: list[Decoded], after: list[Decoded], floor: int, ceiling: int
) -> dict[str, PodState]:
    """Go from one Deployment to another; pods become ready, or end, between steps."""
    states = running(desired(before))
    want = desired(after)
    for _ in range(100):
        steps = next_steps(want, states.values())
        apply(steps, states)
        alive = [state for state in states.values() if not state.terminating]
        assert sum(state.ready for state in alive) >= floor
        assert len(alive) <= ceiling
        settled = steps == Steps() and len(alive) == len(states)
        if settled and all(state.ready for state in alive):
            return states
        for uid, state in list(states.items()):
            if state.terminating:
                del states[uid]
            else:
                states[uid] = msgspec.structs.replace(state, ready=True, phase="Running")
    raise AssertionError(f"no end: {states}")


@settings(deadline=None)
@given(replicas=st.integers(1, 6), after=st.integers(0, 6))
def test_rolling_update_keeps_availability_and_the_surge(replicas: int, after: int) -> None:
    old = deployment("a", OLD, replicas=replicas, strategy=ONE_BY_ONE)
    new = deployment("a", NEW, replicas=after, strategy=ONE_BY_ONE)
    end = roll([old], [new], min(replicas, after), max(replicas, after + 1))
    assert set(end) == {plan.uid for plan in desired([new]).plans}


@settings(deadline=None)
@given(replicas=st.integers(0, 6), after=st.integers(0, 6))
def test_scaling_touches_only_the_difference(replicas: int, after: int) -> None:
    old, new = deployment("a", replicas=replicas), deployment("a", replicas=after)
    steps = next_steps(desired([new]), running(desired([old])).values())
    assert len(steps.start) == max(after - replicas, 0)
    assert len(steps.stop) == max(replicas - after, 0)


def test_old_pod_stays_until_the_new_one_is_ready() -> None:
    states = running(desired([deployment("a", OLD)]))
    want = desired([deployment("a", NEW)])
    first = next_steps(want, states.values())
    assert (len(first.start), first.stop) == (1, ())
    apply(first, states)
    assert next_steps(want, states.values()) == Steps()


def test_old_pod_that_is_not_ready_goes_at_once() -> None:
    states = running(desired([deployment("a", OLD)]), ready=False)
    steps = next_steps(desired([deployment("a", NEW)]), states.values())
    assert list(steps.stop) == list(states)


def test_recreate_starts_nothing_before_the_old_pods_are_gone() -> None:
    recreate = {"type": "Recreate"}
    states = running(desired([deployment("a", OLD, strategy=recreate)]))
    want = desired([deployment("a", NEW, strategy=recreate)])
    steps = next_steps(want, states.values())
    assert (steps.start, len(steps.stop)) == ((), 1)
    apply(steps, states)
    assert next_steps(want, states.values()).start == ()
    assert len(next_steps(want, ()).start) == 1


def test_percentages_of_a_rolling_update_follow_kubernetes_rounding() -> None:
    quarter = {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    old = deployment("a", OLD, replicas=5, strategy=quarter)
    new = deployment("a", NEW, replicas=5, strategy=quarter)
    steps = next_steps(desired([new]), running(desired([old])).values())
    assert (len(steps.start), len(steps.stop)) == (2, 1)


def test_changed_bare_pod_is_replaced_after_its_end() -> None:
    states = running(desired([pod("a", OLD)]))
    want = desired([pod("a", NEW)])
    steps = next_steps(want, states.values())
    assert (steps.start, len(steps.stop)) == ((), 1)
    apply(steps, states)
    assert next_steps(want, states.values()) == Steps()
    assert len(next_steps(want, ()).start) == 1


def test_scaled_down_and_up_again_waits_for_the_ending_pod() -> None:
    want = desired([deployment("a")])
    states = {
        uid: msgspec.structs.replace(state, terminating=True)
        for uid, state in running(want).items()
    }
    assert next_steps(want, states.values()) == Steps()


def test_deleted_deployment_stops_its_pods() -> None:
    states = running(desired([deployment("a", replicas=2)]))
    assert len(next_steps(desired([]), states.values()).stop) == 2


def test_pods_of_a_broken_deployment_go_on() -> None:
    states = running(desired([deployment("a", replicas=2), pod("b")]))
    broken = [broken_object("Deployment", "a"), broken_object("Pod", "b")]
    assert next_steps(desired(broken), states.values()) == Steps()


def broken_object(kind: str, name: str) -> Decoded:
    raw: dict[str, Any] = {"kind": kind, "metadata": {"name": name, "namespace": "shop"}}
    return decode(Deployment if kind == "Deployment" else Pod, raw)
