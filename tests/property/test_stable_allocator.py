"""The address of a name depends on the set of names, not on how the set came about."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.addresses import StableAllocator

NETWORK = "10.0.0.0/28"
RESERVED = ("10.0.0.0/30",)
NAMES = [f"ns/{letter}" for letter in "abcdefghijklmnopqrst"]
ADDRESSES = [f"10.0.0.{host}" for host in range(16)]

names = st.tuples(st.sampled_from(["add", "remove"]), st.sampled_from(NAMES))
holds = st.tuples(st.sampled_from(["hold", "release"]), st.sampled_from(ADDRESSES))
steps = st.lists(names | holds, max_size=60)


def assigned(allocator: StableAllocator) -> dict[str, str | None]:
    return {name: allocator.get(name) for name in NAMES}


def from_scratch(present: set[str], held: set[str]) -> StableAllocator:
    allocator = StableAllocator(NETWORK, RESERVED)
    for address in sorted(held):
        allocator.hold(address)
    for name in sorted(present):
        allocator.add(name)
    return allocator


@given(steps)
def test_any_history_gives_what_sorted_adds_from_scratch_give(
    history: list[tuple[str, str]],
) -> None:
    allocator = StableAllocator(NETWORK, RESERVED)
    present: set[str] = set()
    held: set[str] = set()
    for verb, subject in history:
        before = assigned(allocator)
        changed = getattr(allocator, verb)(subject)
        subjects = held if verb in ("hold", "release") else present
        if verb in ("add", "hold"):
            subjects.add(subject)
        else:
            subjects.discard(subject)
        after = assigned(allocator)
        assert {name for name in NAMES if before[name] != after[name]} <= changed
    assert assigned(allocator) == assigned(from_scratch(present, held))


@given(st.sets(st.sampled_from(NAMES)))
def test_addresses_are_distinct_and_never_reserved(present: set[str]) -> None:
    allocator = from_scratch(present, set())
    given_out = [address for address in assigned(allocator).values() if address is not None]
    assert len(given_out) == len(set(given_out)) == min(len(present), 12)
    assert not set(given_out) & {f"10.0.0.{host}" for host in range(4)}
