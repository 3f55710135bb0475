"""Routes that stand behind equal ones: the condition Overlapped, and what lint says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.cli.formats import LintFormat
from penstock.cli.lint import lint
from penstock.compiler.compile import Compiler
from penstock.compiler.problems import problems_of
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from support import objects
from support.ingress_objects import NGINX, ingress, ingress_class, path, rule

Json = dict[str, Any]
WORLD = [
    objects.gateway_class(),
    objects.gateway("gw", [
        {"name": "a", "protocol": "HTTP", "port": 80, "hostname": "*.a.test"},
        {"name": "b", "protocol": "HTTP", "port": 81},
    ]),
    objects.service("web", "10.96.0.1"),
]  # fmt: skip
GATEWAY: Json = {"name": "gw"}


def route(
    name: str, *paths: str, kind: str = "HTTPRoute", parent: Json = GATEWAY, host: str = "x.a.test",
    since: str = "2026-01-01T00:00:00Z", namespace: str = "shop", **match: Any,
) -> Object | Broken:  # fmt: skip
    rules = [
        {"matches": [{"path": {"type": "PathPrefix", "value": path}, **match}],
         "backendRefs": [{"name": "web", "port": 80}]}
        for path in paths
    ]  # fmt: skip
    return objects.made({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": since},
        "spec": {"parentRefs": [parent], "hostnames": [host], "rules": rules},
    })  # fmt: skip


def compiled(*routes: Object | Broken) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added([*WORLD, *routes]))
    assert compiler.failures == {}
    return compiler


def overlapped(compiler: Compiler, name: str, kind: str = "HTTPRoute") -> str | None:
    thing = compiler.db.routes.get(ObjectRef(kind, "shop", name))
    assert thing is not None
    status = status_of(compiler.db, thing, lambda _: None)
    assert status is not None
    found = [
        one for one in status["parents"][0]["conditions"] if one["type"] == "Overlapped"
    ]  # fmt: skip
    assert all((one["status"], one["reason"]) == ("True", "Shadowed") for one in found)
    return found[0]["message"] if found else None


def test_the_younger_of_two_equal_routes_names_the_older_and_its_match() -> None:
    compiler = compiled(
        route("old", "/x", "/same"), route("new", "/same/", since="2026-02-01T00:00:00Z")
    )
    assert overlapped(compiler, "old") is None
    assert overlapped(compiler, "new") == (
        "spec.rules[0].matches[0] gets nothing for x.a.test at listener a: "
        "HTTPRoute shop/old spec.rules[1].matches[0] goes first; "
        "spec.rules[0].matches[0] gets nothing for x.a.test at listener b: "
        "HTTPRoute shop/old spec.rules[1].matches[0] goes first"
    )


@pytest.mark.parametrize(
    "other",
    [
        route("a", "/other"),
        route("a", "/same/longer"),
        route("a", "/same", host="y.a.test"),
        route("a", "/same", host="*.a.test"),
        route("a", "/same", method="GET"),
        route("a", "/same", headers=[{"name": "x", "value": "1"}]),
        route("a", "/same", parent={"name": "elsewhere"}),
        route("a", "/same", parent={"name": "gw", "port": 9}),
    ],
)
def test_routes_that_differ_in_match_hostname_or_listener_do_not_overlap(
    other: Object | Broken,
) -> None:
    assert overlapped(compiled(other, route("b", "/same")), "b") is None


def test_the_order_in_which_headers_are_written_makes_no_difference() -> None:
    one, two = {"name": "one", "value": "1"}, {"name": "Two", "value": "2"}
    compiler = compiled(
        route("a", "/", headers=[one, two]), route("b", "/", headers=[two | {"name": "two"}, one])
    )
    assert overlapped(compiler, "b") is not None


def test_a_rule_behind_an_equal_one_of_the_same_route_is_told() -> None:
    assert overlapped(compiled(route("a", "/x", "/y", "/x")), "a") == (
        "spec.rules[2].matches[0] gets nothing: "
        "HTTPRoute shop/a spec.rules[0].matches[0] goes first"
    )


def test_it_comes_and_goes_with_the_other_route() -> None:
    first = route("a", "/same")
    compiler = compiled(route("b", "/same"))
    assert overlapped(compiler, "b") is None
    compiler.statuses.follow(ObjectRef("HTTPRoute", "shop", "b"))
    compiler.apply([Event(EventType.ADDED, first)])
    assert [one.name for one in compiler.statuses.take()] == ["b"]
    assert overlapped(compiler, "b") is not None
    compiler.apply([Event(EventType.DELETED, first)])
    assert [one.name for one in compiler.statuses.take()] == ["b"]
    assert overlapped(compiler, "b") is None


def test_a_route_that_asks_for_something_else_looks_at_nothing_of_the_others() -> None:
    compiler = compiled(*(route(f"r{index}", f"/{index}") for index in range(50)))
    for index in range(50):
        compiler.statuses.follow(ObjectRef("HTTPRoute", "shop", f"r{index}"))
    compiler.statuses.take()
    compiler.apply([Event(EventType.ADDED, route("new", "/new"))])
    assert compiler.statuses.take() == ()


def test_producer_routes_on_a_service_overlap_and_consumer_routes_do_not_meet_them() -> None:
    on = objects.on_service("web", "shop")
    foreign = route("a", "/", parent=on, namespace="test")
    assert overlapped(compiled(foreign, route("b", "/", parent=on)), "b") is None
    own = route("a", "/", parent=on, host="ignored.test")
    found = overlapped(compiled(foreign, own, route("b", "/", parent=on)), "b")
    assert found == (
        "spec.rules[0].matches[0] gets nothing for port 80: "
        "HTTPRoute shop/a spec.rules[0].matches[0] goes first"
    )


def test_of_two_tcp_routes_on_a_listener_the_younger_is_told() -> None:
    listener = {"name": "tcp", "protocol": "TCP", "port": 90}
    names = ("a", "b")
    both = [
        objects.made({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "TCPRoute",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"parentRefs": [{"name": "tcp"}],
                     "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
        })
        for name in names
    ]  # fmt: skip
    compiler = compiled(objects.gateway("tcp", [listener]), *both)
    found = [overlapped(compiler, name, "TCPRoute") for name in names]
    assert found == [
        None,
        (
            "spec.rules[0] gets nothing for * at listener tcp: "
            "TCPRoute shop/a spec.rules[0] goes first"
        ),
    ]


def test_lint_names_the_line_of_the_other_route(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents: list[Json] = [
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
         "metadata": {"name": name, "namespace": "shop"},
         "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web"}],
                  "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}}
        for name in ("a", "b")
    ]  # fmt: skip
    documents.append({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
    })  # fmt: skip
    for index, one in enumerate(documents):
        (tmp_path / f"{index}.yaml").write_text(yaml.safe_dump(one))
    assert lint([tmp_path], LintFormat.TEXT) == 0
    told = capsys.readouterr().out
    assert "1.yaml:" in told
    assert "no request ever comes here for port 80: HTTPRoute shop/a spec.rules[0]" in told
    assert f"({tmp_path}/0.yaml:" in told


def test_two_ingresses_with_one_path_are_told_at_the_younger() -> None:
    old, new, canary = (
        ingress(
            name,
            rule("a.test", path("/x"), path("/y" if name == "old" else "/z")),
            created=f"2026-01-0{number}T00:00:00Z",
            annotations={f"{NGINX}canary": "true"} if name == "canary" else {},
        )
        for number, name in enumerate(("old", "new", "canary"), 1)
    )
    compiler = Compiler()
    compiler.apply(
        objects.added([ingress_class(), objects.service("one", "10.96.0.1"), old, new, canary])
    )
    assert [list(problems_of(compiler.db, one)) for one in (old, canary)] == [[], []]
    (found,) = problems_of(compiler.db, new)
    assert str(found) == (
        "spec.rules[0].http.paths[0]: no request ever comes here for a.test: "
        "Ingress shop/old spec.rules[0].http.paths[0] goes first; "
        "make one of them narrower, or remove it"
    )
