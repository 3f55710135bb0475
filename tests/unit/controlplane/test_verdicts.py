"""What statuses tell of what nodes say: not what is over in a moment."""

from __future__ import annotations

from math import inf

import pytest

from penstock.compiler.acked import Acked
from penstock.controlplane.acknowledgements import Verdict
from penstock.controlplane.verdicts import AT_ONCE, PATIENCE, RECOUNT, RETELL, Verdicts
from penstock.meta.conditions import Condition
from penstock.meta.names import ObjectRef
from support.fake_clock import FakeClock

SHOP = ObjectRef("Gateway", "shop", "web")
REASONS = {True: "Acked", False: "Rejected", None: "Pending"}


class Nodes:
    """Nodes that say what a test wants, and what is told of it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.said: Verdict | None = None
        self.ports: dict[str, str] = {}
        """What some node refuses, and why."""
        self.verdicts = Verdicts(self.clock)

    def say(
        self,
        status: bool | None,  # noqa: FBT001 - as in Condition
        generation: int = 1,
        *,
        since: float | None = None,
        words: str = "so say they",
        ref: ObjectRef = SHOP,
    ) -> bool:
        """Have them say it, since now if not said otherwise; return whether to tell it."""
        condition = Condition(
            type="DataPlaneAcked", status=status, reason=REASONS[status], message=words
        )
        begun = self.clock.monotonic() if since is None else since
        self.said = Verdict(Acked(condition, self.ports), inf if status is True else begun)
        return self.verdicts.look(ref, generation, self.said)

    @property
    def told(self) -> str:
        found = self.verdicts.get(SHOP)
        return "" if found is None else found.condition.reason

    @property
    def others(self) -> str:
        found = self.verdicts.get(SHOP)
        return "" if found is None else found.others.reason

    @property
    def words(self) -> str:
        found = self.verdicts.get(SHOP)
        return "" if found is None else found.condition.message


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
    assert not nodes.say(None, since=0)
    nodes.clock.advance(PATIENCE - 1)
    assert not nodes.say(None, since=0)
    assert nodes.told == "Acked"
    nodes.say(True)
    nodes.clock.advance(2)
    assert not nodes.say(None)


def test_nodes_that_join_one_after_the_other_take_nothing_out_of_force(nodes: Nodes) -> None:
    nodes.say(True)
    for _ in range(10):
        nodes.clock.advance(PATIENCE - 1)
        assert nodes.verdicts.due() <= {SHOP}
        assert not nodes.say(None)  # another one
    assert nodes.told == "Acked"


def test_what_lasts_is_told(nodes: Nodes) -> None:
    nodes.say(True)
    nodes.say(None, since=0)
    assert nodes.verdicts.due() == set()
    nodes.clock.advance(PATIENCE)
    assert nodes.verdicts.due() == {SHOP}
    assert nodes.say(None, since=0)
    assert nodes.told == "Pending"
    assert nodes.verdicts.due() == set()
    assert not nodes.say(None)


def test_an_object_that_was_changed_is_pending_at_once(nodes: Nodes) -> None:
    nodes.say(True)
    assert nodes.say(None, generation=2)
    assert nodes.told == "Pending"
    nodes.clock.advance(PATIENCE)
    assert nodes.verdicts.due() == set()


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
    assert nodes.verdicts.look(SHOP, 1, None)
    nodes.clock.advance(PATIENCE)
    assert (nodes.told, nodes.verdicts.due()) == ("", set())


def test_who_begins_to_write_does_not_tell_what_is_on_its_way_just_then(nodes: Nodes) -> None:
    nodes.clock.advance(PATIENCE)
    nodes.say(None, since=PATIENCE)
    nodes.verdicts.clear()
    nodes.verdicts.begin(SHOP, 1, nodes.said)
    assert (nodes.verdicts.is_open(SHOP), nodes.told) == (True, "Pending")
    assert nodes.say(True)
    assert (nodes.verdicts.is_open(SHOP), nodes.told) == (False, "Acked")


def test_who_begins_to_write_tells_at_once_what_has_lasted(nodes: Nodes) -> None:
    nodes.clock.advance(PATIENCE)
    nodes.say(None, since=0)
    nodes.verdicts.clear()
    nodes.verdicts.begin(SHOP, 1, nodes.said)
    assert (nodes.verdicts.is_open(SHOP), nodes.told) == (False, "Pending")


def test_ten_nodes_that_join_within_minutes_cost_one_word(nodes: Nodes) -> None:
    nodes.say(True, words="12 of 12")
    for count in range(13, 23):
        assert not nodes.say(None)
        assert not nodes.say(True, words=f"{count} of {count}")
        nodes.clock.advance(RECOUNT / 10)
        assert nodes.words == "12 of 12"
    assert nodes.verdicts.due() == {SHOP}
    assert nodes.say(True, words="22 of 22")
    assert nodes.words == "22 of 22"
    assert nodes.verdicts.due() == set()


def test_a_number_that_is_the_same_again_is_no_news(nodes: Nodes) -> None:
    nodes.say(True, words="12 of 12")
    nodes.say(True, words="11 of 11")
    nodes.say(True, words="12 of 12")
    nodes.clock.advance(RECOUNT)
    assert nodes.verdicts.due() == set()


def test_a_change_of_the_object_is_told_with_the_number_of_now(nodes: Nodes) -> None:
    nodes.say(True, words="12 of 12")
    assert nodes.say(True, words="13 of 13", generation=2)
    nodes.clock.advance(RECOUNT)
    assert (nodes.words, nodes.verdicts.due()) == ("13 of 13", set())


def test_other_numbers_of_many_objects_are_told_a_few_at_a_time(nodes: Nodes) -> None:
    routes = {ObjectRef("HTTPRoute", "shop", str(index)) for index in range(2 * AT_ONCE)}
    for words in ("12 of 12", "13 of 13"):
        for ref in routes:
            nodes.say(True, words=words, ref=ref)
    nodes.clock.advance(RECOUNT)
    left = set(routes)
    for _ in range(2):
        due = nodes.verdicts.due()
        assert len(due) == AT_ONCE
        told = {ref for ref in routes if nodes.say(True, words="13 of 13", ref=ref)}
        assert told == due
        left -= told
    assert (left, nodes.verdicts.due()) == (set(), set())


def test_who_is_still_missing_is_told_sooner(nodes: Nodes) -> None:
    nodes.say(None, words="not yet on n1, n2")
    assert not nodes.say(None, words="not yet on n2")
    nodes.clock.advance(RETELL)
    assert nodes.verdicts.due() == {SHOP}
    assert nodes.say(None, words="not yet on n2")


def test_what_waits_to_be_in_force_again_does_not_keep_others_from_being_counted(
    nodes: Nodes,
) -> None:
    nodes.say(True, words="12 of 12")
    nodes.say(True, words="13 of 13")
    nodes.clock.advance(RECOUNT)
    assert nodes.verdicts.due() == {SHOP}
    nodes.say(None)
    assert nodes.verdicts.due() == set()
    nodes.clock.advance(RETELL)
    assert nodes.verdicts.due() == {SHOP}
    assert nodes.say(True, words="13 of 13")


def test_a_port_that_is_refused_is_told_at_once_and_the_rest_stays_in_force(nodes: Nodes) -> None:
    nodes.say(True)
    nodes.ports = {"gateway/shop/web/80": "busy"}
    assert nodes.say(None)
    assert (nodes.told, nodes.words, nodes.others) == ("Rejected", "busy", "Acked")
    nodes.clock.advance(PATIENCE - 1)
    assert not nodes.say(True)
    assert not nodes.say(None)  # something is changed
    assert nodes.others == "Acked"
    nodes.ports = {}
    assert nodes.say(None)
    assert (nodes.told, nodes.others) == ("Acked", "Acked")


def test_other_words_about_a_port_that_is_refused_are_told_later(nodes: Nodes) -> None:
    nodes.ports = {"gateway/shop/web/80": "busy (so say 1 of 9 nodes)"}
    assert nodes.say(True)
    nodes.ports = {"gateway/shop/web/80": "busy (so say 2 of 9 nodes)"}
    assert not nodes.say(True)
    assert not nodes.say(None)
    nodes.clock.advance(RETELL)
    assert nodes.verdicts.due() == {SHOP}
    assert nodes.say(True)
    assert nodes.words == "busy (so say 2 of 9 nodes)"


def test_who_begins_to_write_tells_at_once_which_port_is_refused(nodes: Nodes) -> None:
    nodes.ports = {"gateway/shop/web/80": "busy"}
    nodes.clock.advance(PATIENCE)
    nodes.say(None, since=PATIENCE)
    nodes.verdicts.clear()
    nodes.verdicts.begin(SHOP, 1, nodes.said)
    assert (nodes.verdicts.is_open(SHOP), nodes.told) == (False, "Rejected")
