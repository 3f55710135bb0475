"""What statuses tell of what nodes say: not what is over in a moment."""

from __future__ import annotations

import pytest

from penstock.controlplane.verdicts import PATIENCE, Verdicts
from penstock.meta.conditions import Condition
from penstock.meta.names import ObjectRef
from support.fake_clock import FakeClock

SHOP = ObjectRef("Gateway", "shop", "web")
REASONS = {True: "Acked", False: "Rejected", None: "Pending"}


class Nodes:
    """Nodes that say what a test wants, and what is told of it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.said: Condition | None = None
        self.verdicts = Verdicts(lambda _: self.said, self.clock)

    def say(self, status: bool | None, generation: int = 1) -> bool:  # noqa: FBT001 - as in Condition
        self.said = Condition(
            type="DataPlaneAcked", status=status, reason=REASONS[status], message="so say they"
        )
        return self.verdicts.look(SHOP, generation)

    @property
    def told(self) -> str:
        found = self.verdicts.get(SHOP)
        return "" if found is None else found.reason


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


def test_what_is_new_is_told_as_it_is(nodes: Nodes) -> None:
    assert nodes.say(None)
    assert nodes.told == "Pending"
    assert nodes.say(True)
    assert nodes.told == "Acked"
    assert not nodes.say(True)


def test_a_node_that_joins_takes_nothing_out_of_force(nodes: Nodes) -> None:
    nodes.say(True)
    assert not nodes.say(None)
    nodes.clock.advance(PATIENCE - 1)
    assert not nodes.say(None)
    assert nodes.told == "Acked"
    nodes.say(True)
    nodes.clock.advance(2)
    assert not nodes.say(None)  # its time counts anew


def test_what_lasts_is_told(nodes: Nodes) -> None:
    nodes.say(True)
    nodes.say(None)
    assert nodes.verdicts.overdue() == []
    nodes.clock.advance(PATIENCE)
    assert nodes.verdicts.overdue() == [SHOP]
    assert nodes.say(None)
    assert nodes.told == "Pending"
    assert nodes.verdicts.overdue() == []
    assert not nodes.say(None)


def test_an_object_that_was_changed_is_pending_at_once(nodes: Nodes) -> None:
    nodes.say(True)
    assert nodes.say(None, generation=2)
    assert nodes.told == "Pending"
    nodes.clock.advance(PATIENCE)
    assert nodes.verdicts.overdue() == []


def test_a_refusal_is_told_at_once_and_so_is_what_follows(nodes: Nodes) -> None:
    nodes.say(True)
    nodes.say(None)
    assert nodes.say(False)
    assert nodes.told == "Rejected"
    assert nodes.say(None)
    assert nodes.told == "Pending"


def test_an_object_that_goes_to_no_node_is_forgotten(nodes: Nodes) -> None:
    nodes.say(True)
    nodes.say(None)
    nodes.said = None
    assert nodes.verdicts.look(SHOP, 1)
    nodes.clock.advance(PATIENCE)
    assert (nodes.told, nodes.verdicts.overdue()) == ("", [])
