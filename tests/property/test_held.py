"""What a client has beside a checkpoint is what it would have without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from penstock.xds import types
from penstock.xds.checkpoint import Checkpoint, Held
from penstock.xds.needs import HeldNeeds
from penstock.xds.resource import Resource, ResourceName, make_resource

NAMES = st.sampled_from(["a", "b", "c", "d"])
NEEDS = [ResourceName(types.CLUSTER, name) for name in ("x", "y", "z")]


@st.composite
def resources(draw: st.DrawFn) -> Resource:
    needs = draw(st.frozensets(st.sampled_from(NEEDS)))
    body = draw(st.sampled_from([b"1", b"2"]))
    return make_resource(types.SCOPE, draw(NAMES), body, needs=needs)


STEPS = st.lists(
    st.one_of(
        resources(),
        NAMES,
        st.lists(resources()).map(lambda made: Checkpoint({one.name: one for one in made})),
    )
)


def _without_checkpoint(has: Iterable[Resource]) -> Counter[ResourceName]:
    return Counter(need for one in has for need in one.needs)


@given(steps=STEPS)
def test_a_checkpoint_changes_nothing(steps: list[Resource | str | Checkpoint]) -> None:
    """A client takes resources (Resource), loses them (str), and is held beside checkpoints."""
    held, needs = Held(), HeldNeeds()
    model: dict[str, Resource] = {}
    for step in steps:
        if isinstance(step, Resource):
            model[step.name] = step
            needs.sent(step.needs)
            needs.accepted(step.key, step.needs)
            held[step.name] = step.version
        elif isinstance(step, str):
            before = _without_checkpoint(model.values())
            gone = model.pop(step, None)
            assert held.pop(step, None) == (None if gone is None else gone.version)
            freed = before.keys() - _without_checkpoint(model.values()).keys()
            assert set(needs.gone(ResourceName(types.SCOPE, step))) == freed
        else:
            difference = step.compare(held)
            held.rebase(step, difference)
            needs.rebase(types.SCOPE, step, difference)
        assert dict(held) == {name: one.version for name, one in model.items()}
        assert bool(held) == bool(model)
        assert len(held) == len(model)
        assert all((name in held) == (name in model) for name in "abcd")
        counted = _without_checkpoint(model.values())
        assert [need in needs for need in NEEDS] == [need in counted for need in NEEDS]
