"""Objects are looked at in turn, each at most once a second."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest

from penstock.meta.names import ObjectRef
from penstock.status.plan import Idle, Plan


def ref(number: int) -> ObjectRef:
    return ObjectRef("HTTPRoute", "shop", f"r{number:04}")


def plan() -> Plan:
    return Plan(lambda: 0.5)


def taken(queue: Plan, now: float) -> ObjectRef:
    found = queue.next(now)
    assert isinstance(found, ObjectRef)
    return found


def idle(queue: Plan, now: float) -> float:
    found = queue.next(now)
    assert isinstance(found, Idle)
    return found.seconds


def test_nothing_marked_is_idle_for_ever() -> None:
    assert idle(plan(), 0.0) == float("inf")


def test_object_marked_often_is_looked_at_once() -> None:
    queue = plan()
    for _ in range(100):
        queue.mark(ref(1), 0.0)
    queue.done(taken(queue, 0.0), 0.0)
    assert len(queue) == 0


def test_object_marked_again_waits_for_its_second() -> None:
    queue = plan()
    queue.mark(ref(1), 0.0)
    queue.done(taken(queue, 0.0), 0.0)
    queue.mark(ref(1), 0.1)
    assert idle(queue, 0.1) == pytest.approx(0.9)
    assert taken(queue, 1.0) == ref(1)


def test_marks_that_follow_soon_are_one_look() -> None:
    queue = Plan(lambda: 0.5, gather=0.1)
    queue.mark(ref(1), 0.0)
    assert idle(queue, 0.0) == pytest.approx(0.1)
    queue.mark(ref(1), 0.05)
    queue.done(taken(queue, 0.1), 0.1)
    assert len(queue) == 0


def test_object_marked_while_it_is_looked_at_is_looked_at_again() -> None:
    queue = plan()
    queue.mark(ref(1), 0.0)
    busy = taken(queue, 0.0)
    queue.mark(ref(1), 0.1)
    assert idle(queue, 0.1) == float("inf")
    queue.done(busy, 0.2)
    assert taken(queue, 1.2) == ref(1)


def test_object_that_changes_all_the_time_does_not_delay_others() -> None:
    """One flips 100 times a second; 400 others wait, and the server takes 100 a second."""
    queue = plan()
    looks: Counter[ObjectRef] = Counter()
    churning = ref(0)
    for number in range(401):
        queue.mark(ref(number), 0.0)
    for tick in range(500):
        now = tick / 100
        queue.mark(churning, now)
        found = queue.next(now)
        if isinstance(found, ObjectRef):
            looks[found] += 1
            queue.done(found, now)
    assert all(looks[ref(number)] == 1 for number in range(1, 401))
    assert 1 < looks[churning] <= 5


def test_conflict_is_tried_again_soon() -> None:
    queue = plan()
    queue.mark(ref(1), 0.0)
    queue.conflict(taken(queue, 0.0), 0.0)
    assert 0.0 < idle(queue, 0.0) < 0.1
    assert taken(queue, 0.1) == ref(1)


def test_conflicts_in_a_row_slow_down_and_leave_others_alone() -> None:
    queue, now, looks = plan(), 0.0, 0
    queue.mark(ref(1), now)
    while now < 60.0:
        match queue.next(now):
            case Idle(seconds=seconds):
                now += seconds
            case found:
                looks += 1
                queue.conflict(found, now)
    assert looks < 60
    queue.mark(ref(2), now)
    assert ref(2) in {taken(queue, now), taken(queue, now)}


def test_object_that_is_refused_leaves_others_alone() -> None:
    queue = plan()
    queue.mark(ref(1), 0.0)
    queue.mark(ref(2), 0.0)
    queue.refused(taken(queue, 0.0), 0.0)
    assert taken(queue, 0.0) == ref(2)
    assert idle(queue, 0.0) >= 0.5


def test_outage_stops_everything_and_counts_once() -> None:
    queue = plan()
    for number in range(4):
        queue.mark(ref(number), 0.0)
    for busy in [taken(queue, 0.0) for _ in range(4)]:
        queue.outage(busy, 0.0)
    first = idle(queue, 0.0)
    assert 0.2 < first < 0.6
    assert taken(queue, first) == ref(0)


def test_objects_that_the_server_cannot_write_do_not_delay_others() -> None:
    """Twenty fail for ever; the server does all else, and renews the Lease every two seconds."""
    queue, now, good, waited = plan(), 0.0, ref(999), []
    bad = {ref(number) for number in range(20)}
    for one in bad:
        queue.mark(one, now)
    for round_ in range(20):
        until = 50.0 * (round_ + 1)
        while now < until:
            queue.answered(now)
            looks = _all_looks(queue, now, bad)
            assert looks <= len(bad)
            now += 2.0
        queue.mark(good, now)
        began = now
        while not _is_done(queue, now, bad, good):
            now += 0.1
        waited.append(now - began)
    assert max(waited) < 1.0


def _all_looks(queue: Plan, now: float, bad: set[ObjectRef]) -> int:
    looks = 0
    while isinstance(found := queue.next(now), ObjectRef):
        looks += 1
        if found in bad:
            queue.failed(found, now)
        else:
            queue.done(found, now)
    return looks


def _is_done(queue: Plan, now: float, bad: set[ObjectRef], good: ObjectRef) -> bool:
    _all_looks(queue, now, bad)
    return good not in set(queue)


def test_object_that_fails_beside_others_that_do_not_is_to_blame_and_left_alone() -> None:
    queue = plan()
    queue.mark(ref(1), 0.0)
    queue.mark(ref(2), 0.0)
    assert not queue.failed(taken(queue, 0.0), 0.0)
    queue.done(taken(queue, 0.0), 0.0)
    now, pauses = 0.0, []
    for _ in range(12):
        pauses.append(idle(queue, now))
        now += pauses[-1]
        assert queue.failed(taken(queue, now), now)
    assert pauses[0] <= 1.0
    assert 30.0 < pauses[-1] <= 60.0


def test_server_that_does_nothing_is_asked_seldom_and_all_is_looked_at_when_it_is_back() -> None:
    queue, now, asked = plan(), 0.0, 0
    for number in range(1000):
        queue.mark(ref(number), now)
    while now < 600.0:
        match queue.next(now):
            case Idle(seconds=seconds):
                now += seconds
            case found:
                asked += 1
                assert not queue.failed(found, now)
    assert 50 < asked < 4 * 600.0 / 5.0
    queue.answered(now)
    done = 0
    while isinstance(found := queue.next(now + 1.0), ObjectRef):
        queue.done(found, now + 1.0)
        done += 1
    assert done == 1000


def test_few_objects_that_failed_are_tried_often_enough_to_notice_that_the_server_is_back() -> None:
    queue, now = plan(), 0.0
    queue.mark(ref(1), now)
    for _ in range(20):
        assert not queue.failed(taken(queue, now), now)
        pause = idle(queue, now)
        assert pause <= 10.0
        now += pause


def test_object_that_became_another_one_does_not_wait_for_what_was_refused() -> None:
    queue, now = plan(), 0.0
    queue.mark(ref(1), now)
    for _ in range(10):
        queue.refused(taken(queue, now), now)
        now += idle(queue, now)
    queue.refused(taken(queue, now), now)
    assert idle(queue, now) > 200.0
    queue.mark(ref(1), now)
    assert idle(queue, now) > 200.0
    queue.renew(ref(1), now)
    queue.refused(taken(queue, now + 1.0), now + 1.0)
    assert len(queue) == 1
    assert idle(queue, now + 1.0) <= 1.0


def test_nothing_is_remembered_of_objects_that_are_gone_while_another_one_is_refused() -> None:
    queue = plan()
    queue.mark(ref(0), 0.0)
    queue.refused(taken(queue, 0.0), 0.0)
    for number in range(1, 20_000):
        now = number / 10
        one = ref(number)
        queue.mark(one, now)
        while (found := queue.next(now)) != one:
            assert found == ref(0)
            queue.refused(ref(0), now)
        queue.done(one, now)
    assert queue.noted < 2_500


def test_server_that_asks_for_a_pause_gets_it() -> None:
    queue = plan()
    queue.mark(ref(1), 0.0)
    queue.outage(taken(queue, 0.0), 0.0, least=7.0)
    assert idle(queue, 0.0) == pytest.approx(7.0)


def test_plan_yields_what_waits_and_what_is_being_looked_at() -> None:
    queue = plan()
    for number in (1, 2, 3):
        queue.mark(ref(number), 0.0)
    queue.done(taken(queue, 0.0), 0.0)
    taken(queue, 0.0)
    assert sorted(queue) == [ref(2), ref(3)]


def test_cleared_plan_forgets_marks_of_objects_under_way() -> None:
    queue = plan()
    queue.mark(ref(1), 0.0)
    busy = taken(queue, 0.0)
    queue.mark(ref(1), 0.0)
    queue.mark(ref(2), 0.0)
    queue.clear()
    queue.done(busy, 0.0)
    assert idle(queue, 5.0) == float("inf")


@pytest.mark.parametrize("seed", range(10))
def test_no_object_is_looked_at_twice_in_a_second_and_none_is_forgotten(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311  # chooses what happens
    queue, now = Plan(dice.random), 0.0
    last: dict[ObjectRef, float] = {}
    wanted: dict[ObjectRef, float] = {}
    ends: list[tuple[float, ObjectRef]] = []
    for _ in range(3000):
        now += dice.uniform(0, 0.02)
        one = ref(dice.randrange(8))
        queue.mark(one, now)
        wanted[one] = now
        while ends and ends[0][0] <= now:
            _, done = heapq.heappop(ends)
            queue.done(done, now)
            last[done] = now
        found = queue.next(now)
        if isinstance(found, ObjectRef):
            assert now - last.get(found, -9.0) >= 1.0
            wanted.pop(found)
            heapq.heappush(ends, (now + dice.uniform(0, 0.1), found))
    assert all(now - since < 1.5 for since in wanted.values())
