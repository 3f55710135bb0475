"""Statuses say what nodes say of other objects: who is looked at when that changes."""

from __future__ import annotations

from penstock.compiler.compile import Compiler
from penstock.compiler.statuses import told_with
from penstock.meta.names import ObjectRef
from support import many_listeners, objects


def test_listener_sets_say_what_nodes_say_of_their_gateway() -> None:
    compiler = Compiler()
    compiler.apply(objects.added([*many_listeners.cluster(2), objects.gateway("other")]))
    edge, other = (ObjectRef("Gateway", "shop", name) for name in ("edge", "other"))
    sets = [ObjectRef("ListenerSet", "shop", f"set-{index}") for index in range(2)]
    assert told_with(compiler.db, edge) == tuple(sets)
    assert told_with(compiler.db, other) == ()
    assert told_with(compiler.db, sets[0]) == ()
