"""Overlapped after any edits is what it is from scratch, and everybody whose it is hears of it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.compile import Compiler
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from support import objects

Json = dict[str, Any]
NAMES = ("a", "b", "c", "d")
PARENTS: tuple[Json, ...] = (
    {"name": "gw"}, {"name": "gw", "sectionName": "two"}, objects.on_service("web", "shop"),
)  # fmt: skip
WORLD = [
    objects.gateway_class(),
    objects.gateway("gw", [
        {"name": "one", "protocol": "HTTP", "port": 80},
        {"name": "two", "protocol": "HTTP", "port": 81, "hostname": "*.a.test"},
    ]),
    objects.service("web", "10.96.0.1"),
]  # fmt: skip
ROUTES = st.fixed_dictionaries(
    {
        "parents": st.lists(st.sampled_from(PARENTS), min_size=1, max_size=2, unique_by=str),
        "hosts": st.lists(st.sampled_from(("x.a.test", "y.test")), max_size=2, unique=True),
        "paths": st.lists(st.sampled_from(("/", "/p", "/p/")), min_size=1, max_size=3),
        "since": st.sampled_from(("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")),
    }
)
EDITS = st.lists(st.tuples(st.sampled_from(NAMES), st.none() | ROUTES), min_size=1, max_size=8)


def route(name: str, said: Json) -> Object | Broken:
    rules = [{"matches": [{"path": {"type": "PathPrefix", "value": one}}]} for one in said["paths"]]
    return objects.made({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": said["since"]},
        "spec": {"parentRefs": said["parents"], "hostnames": said["hosts"], "rules": rules},
    })  # fmt: skip


def ref(name: str) -> ObjectRef:
    return ObjectRef("HTTPRoute", "shop", name)


def statuses(compiler: Compiler, routes: dict[str, Object | Broken]) -> dict[str, Any]:
    return {name: status_of(compiler.db, one, lambda _: None) for name, one in routes.items()}


@settings(deadline=None, max_examples=150)
@given(EDITS)
def test_any_edits_come_to_the_same_as_from_scratch(edits: list[tuple[str, Json | None]]) -> None:
    compiler = Compiler()
    compiler.apply(objects.added(WORLD))
    routes: dict[str, Object | Broken] = {}
    for name, said in edits:
        before = statuses(compiler, routes)
        if said is None:
            if name not in routes:
                continue
            compiler.apply([Event(EventType.DELETED, routes.pop(name))])
            compiler.statuses.drop(ref(name))
        else:
            routes[name] = route(name, said)
            compiler.apply([Event(EventType.MODIFIED, routes[name])])
            compiler.statuses.follow(ref(name))
        told = {one.name for one in compiler.statuses.take()}
        after = statuses(compiler, routes)
        changed = {one for one in after if one != name and after[one] != before[one]}
        assert changed <= told
        scratch = Compiler()
        scratch.apply(objects.added([*WORLD, *routes.values()]))
        assert statuses(scratch, routes) == after
