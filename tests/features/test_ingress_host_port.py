"""Ingresses that ask for a port of the nodes: `ingress.cilium.io/host-listener-port`."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.problems import problems_of
from penstock.compiler.settings import Settings
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.resources import Gateway
from penstock.ingress.derived import derived
from penstock.ingress.migrate import migrate
from penstock.ingress.resources import Ingress, IngressClass
from support import objects
from support.ingress_objects import CILIUM, NGINX, ingress, ingress_class, path, rule
from support.pool_cluster import AT_NODES, NODES, POOL, cluster, compiled, opened

OWN = {CILIUM + "loadbalancer-mode": "dedicated", CILIUM + "host-listener-port": "9090"}
ENTRY = "gateway/~ingress/shop~web"


def asking(annotations: dict[str, str] | None = None, **spec: Any) -> Object | Broken:
    return ingress("web", rule("a.test", path()), annotations=OWN | (annotations or {}), **spec)


def served(*things: Object | Broken, settings: Settings = AT_NODES) -> Compiler:
    return compiled(
        cluster(ingress_class(), objects.service("one", "10.96.0.1"), *things), settings
    )


def told(compiler: Compiler, one: Object | Broken) -> list[str]:
    return [problem.message for problem in problems_of(compiler.db, one)]


def test_it_is_open_there_and_not_at_80() -> None:
    one = asking()
    compiler = served(one)
    assert {node: place[0][1] for node, place in opened(compiler, f"{ENTRY}/9090").items()} == (
        dict.fromkeys(NODES, 9090)
    )
    assert opened(compiler, f"{ENTRY}/80") == {}
    assert told(compiler, one) == []


def test_other_ingresses_stay_at_80() -> None:
    compiler = served(asking(), ingress("other", rule("b.test", path())))
    assert set(opened(compiler, "gateway/~ingress/penstock~/80")) == set(NODES)


@pytest.mark.parametrize(
    ("annotations", "spec"),
    [
        ({}, {"tls": [{"hosts": ["a.test"], "secretName": "cert"}]}),
        ({NGINX + "force-ssl-redirect": "true"}, {}),
        ({NGINX + "ssl-passthrough": "true"}, {}),
    ],
)
def test_with_tls_the_ports_are_80_and_443_and_that_is_told(
    annotations: dict[str, str], spec: dict[str, Any]
) -> None:
    one = asking(annotations, **spec)
    compiler = served(one)
    assert set(opened(compiler, f"{ENTRY}/80")) == set(NODES)
    assert opened(compiler, f"{ENTRY}/9090") == {}
    assert "TLS and plain requests do not share a port here" in told(compiler, one)


def test_where_nodes_do_not_share_their_addresses_it_is_without_effect_and_told() -> None:
    one = asking()
    compiler = served(one, settings=POOL)
    assert len(opened(compiler, f"{ENTRY}/80")) == 1
    assert told(compiler, one) == ["addresses here are not those of nodes"]


def test_migrate_writes_that_port() -> None:
    one, class_ = asking(), ingress_class()
    assert isinstance(one, Ingress)
    assert isinstance(class_, IngressClass)
    found = migrate(derived([one], {"penstock": class_}, lambda _: None).values())
    (gateway,) = [each for each in found.objects if isinstance(each, Gateway)]
    assert [listener.port for listener in gateway.spec.listeners] == [9090]
    assert found.lost == ()
