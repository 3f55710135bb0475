"""Policies that cannot be read: they say so wherever they are meant to be."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import NamespacedName
from support import objects

X = "gateway.networking.x-k8s.io"
GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "front"}
WEB = {"group": "", "kind": "Service", "name": "web"}
VERSIONS = {
    "BackendTLSPolicy": "gateway.networking.k8s.io/v1",
    "XBackendTrafficPolicy": f"{X}/v1alpha1",
    "XTelemetryPolicy": f"{X}/v1alpha1",
}
AT = {"BackendTLSPolicy": GATEWAY, "XBackendTrafficPolicy": WEB, "XTelemetryPolicy": GATEWAY}
WORLD = [
    objects.gateway_class(),
    objects.gateway("front"),
    objects.service("web", "10.96.0.1"),
    objects.endpoint_slice("web", ["10.244.0.1"]),
    objects.http_route("web", parent={"name": "front"}, backends=[("web", 1)]),
]
FOREIGN = objects.gateway_class(controller="example.test/other")
KINDS = pytest.mark.parametrize("kind", sorted(VERSIONS))


def policy(kind: str, *targets: Any, name: str = "p", **spec: Any) -> Object | Broken:
    target = GATEWAY if kind == "XTelemetryPolicy" else WEB
    return objects.made(
        {
            "apiVersion": VERSIONS[kind],
            "kind": kind,
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"targetRefs": list(targets) or [target], **spec},
        }
    )


def broken(kind: str, *targets: Any, name: str = "p") -> Broken:
    made = policy(kind, *targets, name=name, noSuchField=1)
    assert isinstance(made, Broken)
    return made


def ancestors(compiler: Compiler, thing: Object | Broken) -> list[dict[str, Any]]:
    status = status_of(compiler.db, thing, lambda _: None)
    return [] if status is None else list(status["ancestors"])


def compiled(*more: Object | Broken) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added([*WORLD, *more]))
    assert compiler.failures == {}
    return compiler


@KINDS
def test_it_is_invalid_and_says_where(kind: str) -> None:
    thing = broken(kind)
    (entry,) = ancestors(compiled(thing), thing)
    assert entry["ancestorRef"] == AT[kind] | {"namespace": "shop"}
    (accepted,) = entry["conditions"]
    assert (accepted["type"], accepted["status"], accepted["reason"]) == (
        "Accepted", "False", "Invalid",
    )  # fmt: skip
    assert "spec.noSuchField" in accepted["message"]


@KINDS
def test_of_its_targets_what_can_be_read_counts_once(kind: str) -> None:
    target = GATEWAY if kind == "XTelemetryPolicy" else WEB
    for targets in ([target, target, 7, {"name": 1}, {"kind": "Service"}], [None]):
        thing = broken(kind, *targets)
        assert len(ancestors(compiled(thing), thing)) == (1 if target in targets else 0)
    for spec in (None, 7, {"targetRefs": 7}, {"targetRefs": {"name": "web"}}):
        head = {"name": "p", "namespace": "shop"}
        made = {"apiVersion": VERSIONS[kind], "kind": kind, "metadata": head, "spec": spec}
        unread = objects.made(made)
        assert ancestors(compiled(unread), unread) == []


@pytest.mark.parametrize("kind", ["BackendTLSPolicy", "XTelemetryPolicy"])
def test_it_says_nothing_at_gateways_of_others_and_is_looked_at_when_they_become_ours(
    kind: str,
) -> None:
    thing = broken(kind)
    compiler = compiled(FOREIGN, thing)
    compiler.statuses.follow(thing.ref)
    assert ancestors(compiler, thing) == []
    compiler.apply([Event(EventType.MODIFIED, objects.gateway_class())])
    assert thing.ref in compiler.statuses.take()
    assert len(ancestors(compiler, thing)) == 1


@KINDS
def test_it_is_looked_at_when_it_is_mended_and_forgotten_when_it_goes(kind: str) -> None:
    thing = broken(kind)
    compiler = compiled(thing)
    compiler.apply([Event(EventType.DELETED, thing)])
    assert compiler.db.broken_policies.get(thing.ref) is None
    assert ancestors(compiler, thing) == []


def test_one_of_another_kind_with_the_same_name_does_not_open_what_it_closes() -> None:
    closing, other = broken("BackendTLSPolicy"), policy("XTelemetryPolicy")
    assert isinstance(other, Object)
    compiler = compiled(closing)
    compiler.apply([Event(EventType.ADDED, other)])
    compiler.apply([Event(EventType.DELETED, other)])
    assert compiler.db.broken_backend_tls.get(NamespacedName("shop", "p")) is closing
