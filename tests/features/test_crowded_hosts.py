"""Hostnames that very many routes ask for: their scopes are put together from what was kept."""

from __future__ import annotations

import pytest

from penstock.compiler import attached, gateways
from penstock.compiler.compile import Compiler
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from support import golden, objects

HOST = "shared.test"


@pytest.mark.parametrize("name", golden.case_names())
def test_scopes_say_the_same_however_they_are_built(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = golden.resources_as_data(golden.compiled(name))
    for module in (attached, gateways):
        monkeypatch.setattr(module, "CROWD", 1)
    assert golden.resources_as_data(golden.compiled(name)) == whole


def test_one_route_more_builds_its_own_part_only() -> None:
    found: list[int] = []
    for count in (100, 400):
        compiler = Compiler()
        common = [
            objects.gateway_class(),
            objects.gateway("edge"),
            objects.service("app", "1.1.1.1"),
        ]
        routes = [_route(number) for number in range(count)]
        compiler.apply(objects.added([*common, *routes]))
        before = compiler.db.engine.runs
        (change,) = compiler.apply([Event(EventType.ADDED, _route(count))])
        assert [one.name for one in change.delta.upserts] == [f"gw|shop/edge/80|{HOST}"]
        found.append(compiler.db.engine.runs - before)
    assert found[0] == found[1]


def _route(number: int) -> Object | Broken:
    return objects.http_route(
        f"route-{number}",
        parent={"name": "edge"},
        backends=[("app", 1)],
        hostnames=[HOST],
        path=f"/{number}",
    )
