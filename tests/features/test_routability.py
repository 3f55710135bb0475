"""From where an address of a Gateway can be reached: what is asked, served, and told."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.problems import problems_of
from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.requested_addresses import SENTINEL
from penstock.gatewayapi.versions import BUNDLE_VERSION, CHANNEL, GATEWAYS_CRD
from penstock.xds import types
from support import objects

POOL = Settings(reach=Reach.CLUSTER, gateway_pool="192.0.2.0/30")
AT_NODES = Settings(reach=Reach.CLUSTER, addressing=Addressing.NODES)
CLUSTER = {"routability": "Cluster"}
CLASS = objects.gateway_class()


def crd(version: str = "v1.7.0", channel: str = "experimental") -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": GATEWAYS_CRD,
                "annotations": {BUNDLE_VERSION: version, CHANNEL: channel},
            },
        }
    )


def compiled(
    gateway: Object | Broken, *more: Object | Broken, settings: Settings = POOL
) -> Compiler:
    compiler = Compiler(settings)
    nodes = [objects.node("n1", "172.31.0.10"), objects.node("n2", "172.31.0.11")]
    envoys = [
        objects.pod(
            f"e{number}",
            f"10.244.{number}.9",
            {"app.kubernetes.io/name": "penstock-envoy"},
            namespace="penstock-system",
            node=f"n{number}",
        )
        for number in (1, 2)
    ]
    compiler.apply(objects.added([CLASS, gateway, *nodes, *envoys, *more]))
    assert compiler.failures == {}
    return compiler


def told(compiler: Compiler, thing: Object | Broken) -> dict[str, Any]:
    status = status_of(compiler.db, thing, lambda _: None)
    assert status is not None
    said = {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}
    return status | {"conditions": said}


def listeners(compiler: Compiler) -> set[str]:
    """Return the listeners of Gateways at any node."""
    return {
        one.name
        for node in ("n1", "n2")
        for one in compiler.resources(node)
        if one.type_url == types.LISTENER and one.name.startswith("gateway/")
    }


@pytest.mark.parametrize("settings", [POOL, AT_NODES])
def test_a_gateway_that_is_to_be_reached_from_inside_only_opens_nowhere(
    settings: Settings,
) -> None:
    one = objects.gateway("gw", addresses=[CLUSTER])
    compiler = compiled(one, settings=settings)
    status = told(compiler, one)
    assert status["addresses"] == []
    assert status["conditions"]["Programmed"] == ("False", "AddressNotAssigned")
    assert status["conditions"]["AddressesAssigned"] == ("False", "NotAssigned")
    assert listeners(compiler) == set()


@pytest.mark.parametrize("settings", [POOL, AT_NODES])
def test_what_it_has_besides_is_served_and_the_rest_is_named(settings: Settings) -> None:
    one = objects.gateway("gw", addresses=[CLUSTER, {}])
    compiler = compiled(one, settings=settings)
    status = told(compiler, one)
    assert len(status["addresses"]) == 1
    assert status["conditions"]["Programmed"] == ("True", "Programmed")
    assert status["conditions"]["AddressesAssigned"] == ("False", "PartiallyAssigned")
    assert listeners(compiler) == {"gateway/shop/gw/80"}
    (problem,) = problems_of(compiler.db, one)
    assert problem.path == "spec.addresses[0]"


def test_where_the_server_keeps_it_addresses_say_their_reach_and_the_class_says_so() -> None:
    one = objects.gateway("gw", addresses=[{"routability": SENTINEL}])
    other = objects.gateway("other")
    compiler = compiled(one, other, crd())
    (address,) = told(compiler, one)["addresses"]
    assert address["routability"] == SENTINEL
    (address,) = told(compiler, other)["addresses"]
    assert address["routability"] == ""
    assert told(compiler, other)["conditions"]["AddressesAssigned"] == ("True", "AddressesAssigned")
    features = [each["name"] for each in told(compiler, CLASS)["supportedFeatures"]]
    assert "GatewayAddressRoutability" in features
    assert features == sorted(features)


@pytest.mark.parametrize("older", [(), (crd("v1.6.3"),), (crd(channel="standard"),)])
def test_where_it_would_be_left_out_nothing_is_said_of_it(older: tuple[Object, ...]) -> None:
    one = objects.gateway("gw")
    compiler = compiled(one, *older)
    status = told(compiler, one)
    assert [sorted(each) for each in status["addresses"]] == [["type", "value"]]
    assert "AddressesAssigned" not in status["conditions"]
    features = told(compiler, CLASS)["supportedFeatures"]
    assert {"name": "GatewayAddressRoutability"} not in features


def test_with_a_crd_that_has_it_the_statuses_that_tell_it_are_looked_at_again() -> None:
    one = objects.gateway("gw")
    compiler = compiled(one, crd("v1.6.3"))
    for thing in (one, CLASS):
        compiler.statuses.follow(thing.ref)
    compiler.statuses.take()
    compiler.apply([Event(EventType.MODIFIED, crd())])
    assert set(compiler.statuses.take()) == {one.ref, CLASS.ref}
