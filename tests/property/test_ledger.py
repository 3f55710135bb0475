"""A node's word on everything comes to the same as its word on one resource after the other."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from penstock.compiler.nodes import EVERY_NODE
from penstock.controlplane.ledger import Ledger
from penstock.controlplane.words import Said, Word
from penstock.meta.names import NamespacedName, Origin
from penstock.xds import types
from penstock.xds.name import ResourceName
from penstock.xds.resource import Resource, make_resource
from penstock.xds.snapshot import Delta

NODES = ("n1", "n2")
ROUTE = Origin.of("HTTPRoute", NamespacedName("shop", "web"))
KEYS = [
    ResourceName(type_url, name)
    for type_url in (types.CLUSTER, types.SCOPE, types.SECRET)
    for name in ("a", "b")
]


def made(key: ResourceName, body: int) -> Resource:
    return make_resource(key.type_url, key.name, bytes([body]), [ROUTE])


keys = st.sampled_from(KEYS)
bodies = st.integers(0, 2)
wants = st.lists(
    st.tuples(st.sampled_from((EVERY_NODE, *NODES)), keys, st.none() | bodies), max_size=12
)
says = st.dictionaries(keys, st.tuples(bodies, st.booleans()), max_size=len(KEYS))
words = st.lists(st.tuples(st.sampled_from(NODES), says, wants), max_size=5)


def word(says: Mapping[ResourceName, tuple[int, bool]], *, all_apart: bool) -> Word:
    in_force: dict[str, dict[str, str]] = {}
    others: dict[ResourceName, Said] = {}
    for key, (body, refused) in says.items():
        version = made(key, body).version
        if refused:
            others[key] = Said("", version, "bad regex")
        elif all_apart:
            others[key] = Said(version)
        else:
            in_force.setdefault(key.type_url, {})[key.name] = version
    return Word(in_force, others)


def want(ledger: Ledger, asked: list[tuple[str, ResourceName, int | None]]) -> None:
    for node, key, body in asked:
        delta = Delta((), (key,)) if body is None else Delta((made(key, body),))
        ledger.want(node, delta)


@given(wants, words)
def test_everything_at_once_is_the_sum_of_its_parts(
    first: list[tuple[str, ResourceName, int | None]],
    told: list[
        tuple[
            str,
            Mapping[ResourceName, tuple[int, bool]],
            list[tuple[str, ResourceName, int | None]],
        ]
    ],
) -> None:
    whole, parts, apart = (Ledger(lambda: 0.0) for _ in range(3))
    every = (whole, parts, apart)
    for ledger in every:
        want(ledger, first)
    for node, says, then in told:
        whole.take_all(node, word(says, all_apart=False))
        apart.take_all(node, word(says, all_apart=True))
        parts.forget(node)
        parts.take_all(node, Word({}, {}))
        parts.take(node, word(says, all_apart=False))
        for ledger in every:
            want(ledger, then)
        assert whole.tally(ROUTE.object) == apart.tally(ROUTE.object)
        seen = [_present(ledger) for ledger in every]
        assert seen[0] == seen[1] == seen[2]


def _present(ledger: Ledger) -> list[object]:
    """Return what holds now: who said all in two steps has lost it in between."""
    found: list[object] = [ledger.outstanding(), ledger.refused()]
    tally = ledger.tally(ROUTE.object)
    found += [] if tally is None else [tally.nodes, tally.without, tally.refusals]
    found += [ledger.said(node, made(key, 0)) for node in NODES for key in KEYS]
    return found
