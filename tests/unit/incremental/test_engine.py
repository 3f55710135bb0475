"""The engine runs what a change asks for and nothing else, and never returns a stale value."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.incremental.collection import Collection
from penstock.incremental.engine import CycleError, Engine, Node
from penstock.incremental.query import query


class Numbers:
    """A database with one collection of numbers by name, indexed by their parity."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.memos: dict[object, dict[Hashable, Node]] = {}
        self.numbers: Collection[str, int] = Collection(
            self.engine, {"parity": lambda _, value: (value % 2,)}
        )


@query
def half(db: Numbers, name: str) -> int:
    return (db.numbers.get(name) or 0) // 2


@query
def sum_of_halves(db: Numbers, names: tuple[str, ...]) -> int:
    return sum(half(db, name) for name in names)


@query
def evens(db: Numbers, _: None) -> tuple[str, ...]:
    return db.numbers.bucket("parity", 0)


@query
def of_parity(db: Numbers, parity: int) -> tuple[tuple[str, ...], bool]:
    return db.numbers.bucket("parity", parity), db.numbers.holds("parity", parity)


@query
def is_used(db: Numbers, _: None) -> bool:
    return db.numbers.ever("parity")


@query
def indirect(db: Numbers, name: str) -> int:
    """Read "name" as the length of the name of what is to be read next."""
    return half(db, "x" * (db.numbers.get(name) or 0))


@query
def ping(db: Numbers, n: int) -> int:
    return pong(db, n)


@query
def pong(db: Numbers, n: int) -> int:
    return ping(db, n)


@given(numbers=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9)))
def test_values_are_the_same_where_nobody_records_what_they_read(numbers: dict[str, int]) -> None:
    def values(db: Numbers) -> list[object]:
        for name, value in numbers.items():
            db.numbers.set(name, value)
        return [
            sum_of_halves(db, tuple("abcde")),
            evens(db, None),
            [of_parity(db, parity) for parity in range(3)],
            is_used(db, None),
        ]

    recorded, unrecorded = Numbers(), Numbers()
    unrecorded.engine.stop_recording()
    assert values(unrecorded) == values(recorded)
    assert unrecorded.engine.runs == recorded.engine.runs
    assert not half.node(unrecorded, "a").reads
    with pytest.raises(CycleError):
        ping(unrecorded, 1)


def test_a_value_is_computed_once_until_something_it_read_changes() -> None:
    db = Numbers()
    db.numbers.set("a", 4)
    assert half(db, "a") == 2
    db.engine.want(half.node(db, "a"), "goal")
    runs = db.engine.runs
    db.numbers.set("b", 7)
    assert half(db, "a") == 2
    assert db.engine.runs == runs


def test_an_equal_result_stops_the_wave() -> None:
    db = Numbers()
    db.numbers.set("a", 4)
    node = sum_of_halves.node(db, ("a",))
    db.engine.want(node, "sum")
    runs = db.engine.runs
    db.numbers.set("a", 5)
    assert db.engine.refresh_goals() == []
    assert db.engine.runs == runs + 1


def test_goals_report_changes() -> None:
    db = Numbers()
    db.numbers.set("a", 4)
    db.engine.want(sum_of_halves.node(db, ("a", "b")), "sum")
    db.numbers.set("b", 10)
    changed = db.engine.refresh_goals()
    assert [(node.goal, node.value) for node in changed] == [("sum", 7)]
    assert db.engine.refresh_goals() == []


def test_an_index_bucket_is_read_apart_from_the_others() -> None:
    db = Numbers()
    for name, value in (("b", 2), ("a", 4), ("c", 3)):
        db.numbers.set(name, value)
    db.engine.want(evens.node(db, None), "evens")
    assert evens(db, None) == ("a", "b")
    runs = db.engine.runs
    db.numbers.set("c", 5)
    db.numbers.set("a", 6)
    assert db.engine.refresh_goals() == []
    assert db.engine.runs == runs
    db.numbers.remove("b")
    assert evens(db, None) == ("a",)


def test_all_buckets_of_an_index_that_was_never_used_are_read_as_one() -> None:
    db = Numbers()
    for parity in (0, 1):
        db.engine.want(of_parity.node(db, parity), parity)
    db.numbers.set("a", 4)  # the first key: everybody looks again, each at its bucket
    assert [node.goal for node in db.engine.refresh_goals()] == [0]
    assert (of_parity(db, 0), of_parity(db, 1)) == ((("a",), True), ((), False))
    runs = db.engine.runs
    db.numbers.set("b", 6)
    db.numbers.remove("b")
    db.numbers.remove("a")
    assert [node.goal for node in db.engine.refresh_goals()] == [0]
    assert db.engine.runs == runs + 1
    db.numbers.set("c", 3)
    assert [node.goal for node in db.engine.refresh_goals()] == [1]
    assert db.engine.runs == runs + 2


def test_an_index_tells_whether_it_was_ever_used() -> None:
    db = Numbers()
    assert not is_used(db, None)
    db.numbers.set("a", 4)
    assert is_used(db, None)
    db.numbers.remove("a")
    assert is_used(db, None)


def test_reads_that_are_no_longer_made_do_not_matter() -> None:
    db = Numbers()
    db.numbers.set("which", 1)
    db.numbers.set("x", 10)
    db.engine.want(indirect.node(db, "which"), "goal")
    assert indirect(db, "which") == 5
    db.numbers.set("which", 2)
    db.numbers.set("xx", 20)
    assert indirect(db, "which") == 10
    runs = db.engine.runs
    db.numbers.set("x", 1000)
    assert indirect(db, "which") == 10
    assert db.engine.runs == runs


def test_what_nobody_wants_is_forgotten() -> None:
    db = Numbers()
    db.numbers.set("a", 4)
    node = sum_of_halves.node(db, ("a", "b"))
    db.engine.want(node, "sum")
    assert len(db.memos[half]) == 2
    db.engine.unwant(node)
    assert db.memos[half] == {}
    assert db.memos[sum_of_halves] == {}


def test_a_cycle_is_an_error_and_not_an_endless_recursion() -> None:
    db = Numbers()
    with pytest.raises(CycleError, match=r"ping\(1\) depends on itself"):
        ping(db, 1)


def test_a_failure_is_remembered_like_a_value_and_goes_away_with_its_cause() -> None:
    db = Numbers()
    db.numbers.set("a", -1)
    with pytest.raises(ValueError, match="negative"):
        above(db, "a")
    db.engine.want(above.node(db, "a"), "goal")
    db.numbers.set("b", 1)
    assert db.engine.refresh_goals() == []
    db.numbers.set("a", 3)
    assert [(node.value, node.failure) for node in db.engine.refresh_goals()] == [(2.0, None)]


def test_a_value_asked_for_once_is_not_kept() -> None:
    db = Numbers()
    db.numbers.set("a", 4)
    assert sum_of_halves.once(db, ("a",)) == 2
    assert db.memos[half] == {}


def test_keys_that_come_and_go_are_told() -> None:
    db = Numbers()
    told: list[tuple[str, bool]] = []
    db.numbers.on_key = lambda key, there: told.append((key, there))
    db.numbers.set("a", 1)
    db.numbers.set("a", 2)
    db.numbers.remove("a")
    db.numbers.remove("a")
    assert told == [("a", True), ("a", False)]


@query
def root(db: Numbers, name: str) -> float:
    value = db.numbers.get(name) or 0
    if value < 0:
        raise ValueError("negative")
    return value - 1.0


@query
def above(db: Numbers, name: str) -> float:
    return root(db, name)


names = st.sampled_from(["a", "b", "c", "x", "xx", "xxx"])
edits = st.lists(st.tuples(names, st.one_of(st.none(), st.integers(0, 4))), max_size=40)


@given(edits)
def test_incremental_equals_from_scratch(changes: list[tuple[str, int | None]]) -> None:
    db = Numbers()
    goals = [indirect.node(db, n) for n in ("a", "b")] + [evens.node(db, None)]
    goals.append(sum_of_halves.node(db, ("a", "b", "c")))
    reported = []
    for i, node in enumerate(goals):
        db.engine.want(node, i)
        reported.append(node.value)
    for name, value in changes:
        if value is None:
            db.numbers.remove(name)
        else:
            db.numbers.set(name, value)
        for node in db.engine.refresh_goals():
            assert isinstance(node.goal, int)
            assert node.value != reported[node.goal]
            reported[node.goal] = node.value
    fresh = Numbers()
    for name, value in db.numbers.snapshot().items():
        fresh.numbers.set(name, value)
    assert reported == [
        indirect(fresh, "a"),
        indirect(fresh, "b"),
        evens(fresh, None),
        sum_of_halves(fresh, ("a", "b", "c")),
    ]
