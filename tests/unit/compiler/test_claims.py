"""Who gets which address of a pool."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.compiler.claims import Claim, share_out
from penstock.core.addresses import StableAllocator
from penstock.core.ranges import AddressRanges
from penstock.meta.names import ObjectRef

SMALL = AddressRanges("192.0.2.0/29")


def claim(name: str, *, since: str = "", wanted: Iterable[str] = (), held: str = "") -> Claim:
    asked = tuple(wanted)
    return Claim(
        by=ObjectRef("Gateway", "shop", name),
        since=since,
        wanted=asked,
        any_more=not asked,
        held=(held,) if held else (),
    )


def got(claims: Iterable[Claim], pool: AddressRanges = SMALL) -> dict[str, tuple[str, ...]]:
    return {ref.name: one.addresses for ref, one in share_out(pool, claims).items()}


def test_everybody_gets_an_address_of_its_own() -> None:
    found = got(claim(f"g{number}") for number in range(8))
    assert {len(addresses) for addresses in found.values()} == {1}
    assert len(set(found.values())) == 8


def test_who_comes_when_all_are_taken_is_told_so() -> None:
    (*_, last) = sorted(share_out(SMALL, [claim(f"g{number}") for number in range(9)]).items())
    assert last[1].addresses == ()
    assert last[1].lacking == "the pool 192.0.2.0/29 is used up"


def test_what_an_object_has_it_keeps_whoever_comes() -> None:
    held = claim("z", held="192.0.2.3")
    others = [claim(f"a{number}") for number in range(7)]
    assert got([held, *others])["z"] == ("192.0.2.3",)


def test_of_two_that_have_the_same_the_older_keeps_it() -> None:
    old = claim("z", since="2026-01-01T00:00:00Z", held="192.0.2.3")
    new = claim("a", since="2026-01-02T00:00:00Z", held="192.0.2.3")
    found = got([new, old])
    assert found["z"] == ("192.0.2.3",)
    assert found["a"] not in {(), ("192.0.2.3",)}


def test_an_address_that_is_asked_for_is_given() -> None:
    assert got([claim("g", wanted=["192.0.2.6"])]) == {"g": ("192.0.2.6",)}


def test_an_address_that_is_asked_for_is_not_taken_from_who_has_it() -> None:
    found = share_out(SMALL, [claim("z", held="192.0.2.6"), claim("a", wanted=["192.0.2.6"])])
    (refused,) = [one for ref, one in found.items() if ref.name == "a"]
    assert refused.addresses == ()
    assert refused.refused == (("192.0.2.6", "is Gateway shop/z's"),)


def test_an_address_outside_of_the_pool_is_refused() -> None:
    (found,) = share_out(SMALL, [claim("g", wanted=["198.51.100.1", "192.0.2.1"])]).values()
    assert found.addresses == ("192.0.2.1",)
    assert found.refused == (("198.51.100.1", "is not in the pool 192.0.2.0/29"),)


def test_who_asks_for_another_address_gives_the_old_one_back() -> None:
    assert got([claim("g", wanted=["192.0.2.1"], held="192.0.2.5")]) == {"g": ("192.0.2.1",)}


def test_besides_what_is_asked_for_one_may_be_of_our_choice() -> None:
    both = msgspec.structs.replace(claim("g", wanted=["192.0.2.1"]), any_more=True)
    (addresses,) = got([both]).values()
    assert len(addresses) == 2
    assert addresses[0] == "192.0.2.1"
    held = msgspec.structs.replace(both, held=addresses)
    assert got([held]) == {"g": addresses}


names = st.sets(st.integers(0, 30).map("g{}".format), max_size=12)
addresses = st.sampled_from([*(SMALL[index] for index in range(8)), "198.51.100.1"])
claims = names.flatmap(
    lambda chosen: st.tuples(
        *(
            st.builds(
                claim,
                st.just(name),
                since=st.sampled_from(["", "2026-01-01T00:00:00Z"]),
                wanted=st.lists(addresses, max_size=2, unique=True),
                held=st.just("") | addresses,
            )
            for name in sorted(chosen)
        )
    )
)


@given(claims)
def test_no_address_is_given_twice_and_what_was_given_is_kept(found: tuple[Claim, ...]) -> None:
    given_ = share_out(SMALL, found)
    every = [address for one in given_.values() for address in one.addresses]
    assert len(every) == len(set(every))
    assert given_ == share_out(SMALL, reversed(found))
    told = [msgspec.structs.replace(one, held=given_[one.by].addresses) for one in found]
    assert share_out(SMALL, told) == given_


@given(names)
def test_names_that_ask_for_nothing_get_what_the_stable_allocator_gives(found: set[str]) -> None:
    allocator = StableAllocator("10.97.0.0/28", reserved=["10.97.0.0"])
    for name in found:
        allocator.add(f"shop/{name}")
    shared = share_out(AddressRanges("10.97.0.0/28"), map(claim, found), frozenset({0}))
    assert {ref.name: one.addresses for ref, one in shared.items()} == {
        name: tuple(filter(None, [allocator.get(f"shop/{name}")])) for name in found
    }
