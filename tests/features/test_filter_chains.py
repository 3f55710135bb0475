"""The listener of a port with many HTTPS listeners: one more is one more filter chain."""

from __future__ import annotations

from penstock.compiler.compile import Compiler
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.xds import types
from support import many_listeners, objects


def _chains(compiler: Compiler) -> dict[str, bytes]:
    """Return the filter chains of the HTTPS port by name, in their order."""
    (found,) = (
        one.body
        for one in compiler.resources("n1")
        if one.type_url == types.LISTENER and one.name.endswith(f"/{many_listeners.PORT}")
    )
    chains = listener_pb2.Listener.FromString(found).filter_chains
    return {one.name: one.SerializeToString(deterministic=True) for one in chains}


def test_one_listener_more_changes_its_own_scope_and_adds_one_chain() -> None:
    compiler = Compiler()
    compiler.apply(objects.added(many_listeners.cluster(20)))
    before = _chains(compiler)
    more = many_listeners.listener_set(99), many_listeners.route(99)
    changes = compiler.apply(objects.added(more))
    assert [r.name for one in changes for r in one.delta.upserts] == [
        "gateway/shop/edge/443",
        "gw|shop/edge/443|h99.many.test",
    ]
    after = _chains(compiler)
    assert after.pop("shop/set-99/web")
    assert after == before
    assert compiler.failures == {}
