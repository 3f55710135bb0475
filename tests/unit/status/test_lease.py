"""Two leaders never write at the same time, whatever happens to requests and clocks."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from penstock.status.lease import Ask, Election, Terms, Wait

TERMS = Terms()
WALL = 1_700_000_000.0


def no_jitter() -> float:
    return 0.0


class Server:
    """Keeps one Lease with preconditions, as an API server does."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0

    def take(self, asked: Ask) -> tuple[int, dict[str, Any]]:
        if asked.method == "GET":
            return (404, {}) if self.lease is None else (200, copy.deepcopy(self.lease))
        assert asked.body is not None
        if (asked.method == "POST") is (self.lease is not None):
            return (409 if asked.method == "POST" else 404), {}
        if self.lease and asked.body["metadata"]["resourceVersion"] != str(self.version):
            return 409, {}
        self.version += 1
        self.lease = copy.deepcopy(asked.body)
        self.lease["metadata"] = {**self.lease["metadata"], "resourceVersion": str(self.version)}
        return 200, copy.deepcopy(self.lease)


def candidate(name: str) -> Election:
    return Election(name, "kube-system", "penstock-status", TERMS, no_jitter)


def step(election: Election, server: Server, now: float) -> None:
    """Let *election* ask whatever it wants to ask now."""
    for _ in range(10):
        asked = election.next(now, WALL + now)
        if isinstance(asked, Wait):
            return
        election.answered(asked, *server.take(asked), now)
    pytest.fail("it asks without end")


def test_first_candidate_makes_the_lease_and_leads() -> None:
    server, one = Server(), candidate("one")
    step(one, server, 0.0)
    step(one, server, 0.2)
    assert one.leads(0.2)
    assert server.lease is not None
    assert server.lease["spec"]["holderIdentity"] == "one"
    assert server.lease["spec"]["renewTime"] == "2023-11-14T22:13:20.200000Z"


def test_second_candidate_waits_while_the_first_renews() -> None:
    server, one, two = Server(), candidate("one"), candidate("two")
    for tick in range(600):
        now = tick / 10
        step(one, server, now)
        step(two, server, now)
        assert not two.leads(now)
    assert one.leads(59.9)


def test_holder_that_is_gone_is_replaced_after_the_duration() -> None:
    server, one, two = Server(), candidate("one"), candidate("two")
    step(one, server, 0.0)
    step(one, server, 0.2)
    now = 0.2
    while not two.leads(now) and now < 30.0:
        now += 0.1
        step(two, server, now)
    assert TERMS.duration <= now <= TERMS.duration + 1.0
    assert not one.leads(now)
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 1


def test_released_lease_is_taken_at_once() -> None:
    server, one, two = Server(), candidate("one"), candidate("two")
    step(one, server, 0.0)
    step(one, server, 0.2)
    asked = one.release(1.0, WALL)
    assert asked is not None
    server.take(asked)
    assert not one.leads(1.0)
    step(two, server, 1.0)
    assert two.leads(1.0)


def test_candidate_that_holds_nothing_releases_nothing() -> None:
    assert candidate("one").release(0.0, WALL) is None


def test_holder_without_answers_stops_before_another_one_may_begin() -> None:
    server, one = Server(), candidate("one")
    step(one, server, 0.0)
    step(one, server, 0.2)
    now = 0.2
    while one.leads(now):
        if isinstance(one.next(now, WALL), Ask):
            one.failed(now)
        now += 0.1
    assert now <= 0.2 + TERMS.deadline + 0.2 < 0.2 + TERMS.duration


def test_renewal_counts_from_before_it_was_sent() -> None:
    server, one = Server(), candidate("one")
    step(one, server, 0.0)
    asked = one.next(0.2, WALL)
    assert isinstance(asked, Ask)
    one.answered(asked, *server.take(asked), 4.0)
    assert one.until == 0.2 + TERMS.deadline


def test_lease_taken_by_another_one_ends_ours() -> None:
    server, one = Server(), candidate("one")
    step(one, server, 0.0)
    step(one, server, 0.2)
    assert server.lease is not None
    server.version += 1
    server.lease["metadata"]["resourceVersion"] = str(server.version)
    server.lease["spec"] |= {"holderIdentity": "thief"}
    now = 0.2
    while one.leads(now):
        now += 0.1
        step(one, server, now)
    assert now < 0.2 + TERMS.renew + 0.2
    step(one, server, now + 1)
    assert one.holder == "thief"


def test_deleted_lease_of_another_one_is_not_taken_before_its_time() -> None:
    server, one, two = Server(), candidate("one"), candidate("two")
    step(one, server, 0.0)
    step(one, server, 0.2)
    step(two, server, 1.0)
    server.lease = None
    for tick in range(11, 160):
        now = tick / 10
        step(two, server, now)
        assert not (one.leads(now) and two.leads(now))
    assert two.holder in ("", "two")


@pytest.mark.parametrize("seed", range(30))
def test_two_never_lead_together(seed: int) -> None:
    """Requests get lost, answers get lost, clocks differ by an hour and run 10 % apart."""
    dice = random.Random(seed)  # noqa: S311  # chooses what happens
    server = Server()
    drift = [1.0, 1.0 + dice.uniform(-0.1, 0.1), 1.0]
    offset = [0.0, 3600.0, -3600.0]
    names = "abc"
    crowd = [Election(name, "n", "l", TERMS, dice.random) for name in names]
    deaf_until = [0.0] * 3
    changes, before = 0, ""
    for tick in range(3000):
        real = tick / 10
        clocks = [offset[at] + drift[at] * real for at in range(3)]
        for at in dice.sample(range(3), 3):
            if dice.random() < 0.005:
                deaf_until[at] = real + dice.uniform(1, 40)
            asked = crowd[at].next(clocks[at], WALL + clocks[at])
            if isinstance(asked, Wait):
                continue
            if real < deaf_until[at]:
                if dice.random() < 0.5:
                    server.take(asked)
                crowd[at].failed(clocks[at])
            else:
                crowd[at].answered(asked, *server.take(asked), clocks[at])
        leaders = [names[at] for at in range(3) if crowd[at].leads(clocks[at])]
        assert len(leaders) <= 1
        if leaders and leaders[0] != before:
            changes, before = changes + 1, leaders[0]
    assert changes > 1
