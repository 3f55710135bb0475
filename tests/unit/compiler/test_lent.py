"""What a helper compiles of a large first batch."""

from __future__ import annotations

import pytest

from penstock.compiler import services
from penstock.compiler.compile import Compiler
from penstock.compiler.database import Database
from penstock.compiler.lent import Sharing
from penstock.compiler.settings import Reach, Settings
from penstock.core.events import Event, EventType
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName
from support import objects, populated
from support.lenders import Lender, Nobody
from support.populated import Things

NODE = "n1"
NAMES = ("a", "b", "c")


def things() -> Things:
    found: Things = []
    for index, name in enumerate(NAMES):
        found.append(objects.service(name, f"10.96.0.{index + 1}"))
        found.append(objects.endpoint_slice(name, [f"10.244.0.{index + 1}"]))
        found.append(
            objects.http_route(name, parent=objects.on_service(name), backends=[(name, 1)])
        )
    return found


def shared(helper: Lender | Nobody, many: int = 1) -> Compiler:
    compiler = Compiler(None, Sharing(helper, many=many, part=1))
    compiler.apply(objects.added(things()))
    return compiler


def resources(compiler: Compiler) -> dict[ResourceName, Resource]:
    return {one.key: one for one in compiler.resources(NODE)}


def alone() -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added(things()))
    return compiler


def test_everything_is_there_before_it_is_compiled_here() -> None:
    compiler = shared(Lender())
    assert compiler.behind > len(NAMES)
    assert compiler.db.engine.runs < alone().db.engine.runs
    assert resources(compiler) == resources(alone())
    while compiler.behind:
        assert compiler.catch_up(1) == ()
    assert resources(compiler) == resources(alone())


def test_few_are_compiled_here() -> None:
    helper = Lender()
    compiler = shared(helper, many=1000)
    assert compiler.behind == 0
    assert helper.stopped == 0


def test_without_a_word_from_the_helper_everything_is_compiled_here() -> None:
    compiler = shared(Nobody())
    assert compiler.behind == 0
    assert resources(compiler) == resources(alone())


def test_the_helper_is_ended_when_both_have_met() -> None:
    helper = Lender()
    compiler = shared(helper)
    assert compiler.behind
    assert helper.stopped == 1


def test_what_fails_is_not_lent_and_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    function = services.cluster.function

    def fail(db: Database, of: services.RoleOf) -> Resource | None:
        if of.target.service.name == "b":
            raise ValueError("a mistake")
        return function(db, of)

    monkeypatch.setattr(services.cluster, "function", fail)
    compiler = shared(Lender())
    assert {str(error) for error in compiler.failures.values()} == {"a mistake"}
    there = {one.name for one in resources(compiler) if one.type_url == types.CLUSTER}
    compiler.catch_up(compiler.behind)
    assert resources(compiler) == resources(alone())
    assert any("shop/a" in name for name in there)
    assert not any("shop/b" in name for name in there)


def test_a_change_finds_everything_compiled() -> None:
    """Else a route could lead to a cluster that is only made later."""
    compiler = shared(Lender())
    compiler.apply([Event(EventType.DELETED, one) for one in things()[:3]])
    assert compiler.behind == 0
    fresh = Compiler()
    fresh.apply(objects.added(things()[3:]))
    assert resources(compiler) == resources(fresh)


def test_help_comes_once() -> None:
    helper = Lender()
    compiler = shared(helper)
    more = [
        objects.service("d", "10.96.0.9"),
        objects.http_route("d", parent=objects.on_service("d"), backends=[("d", 1)]),
    ]
    compiler.apply(objects.added(more))
    assert helper.stopped == 1
    assert compiler.behind == 0


def test_roots_that_go_need_no_help() -> None:
    helper, count = Lender(), 12
    compiler = Compiler(None, Sharing(helper, many=count, part=1))
    there = [objects.service(f"s{i}", f"10.96.0.{i + 1}") for i in range(count)]
    for one in there:
        compiler.apply(objects.added([one]))
    compiler.apply([Event(EventType.DELETED, one) for one in there])
    assert helper.stopped == 0


def test_what_several_nodes_share_is_lent_once_and_not_told_again() -> None:
    addresses = [{"type": "IPAddress", "value": f"198.51.100.{i}"} for i in range(1, 12)]
    every = [
        *(objects.node(f"n{i}", f"192.0.2.{i}") for i in range(1, 9)),
        objects.gateway_class(),
        objects.gateway("gw", addresses=addresses),
        *things()[:2],
        objects.http_route("r", parent={"name": "gw"}, backends=[("a", 1)]),
    ]
    way = Settings(reach=Reach.CLUSTER, gateway_pool=populated.POOL)
    compiler = Compiler(way, Sharing(Lender(), many=1, part=1))
    compiler.apply(objects.added(every))
    assert compiler.behind
    scopes = [
        one
        for node in compiler.nodes
        for one in compiler.resources(node)
        if one.type_url == types.SCOPE and one.name.startswith("gw|")
    ]
    assert len(scopes) > 1
    assert len({id(one) for one in scopes}) == 1
    assert compiler.catch_up(compiler.behind) == ()
