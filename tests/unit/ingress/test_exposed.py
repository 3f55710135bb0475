"""Annotations about the Service by which an Ingress is reached."""

from __future__ import annotations

import pytest

from penstock.gatewayapi.generated import Exposed
from penstock.ingress.annotations import Options, options
from penstock.ingress.resources import Ingress
from support.ingress_objects import backend, ingress

CILIUM = "ingress.cilium.io/"


def asked(**given: str) -> Options:
    named = {"loadbalancer-mode": "dedicated"}
    named |= {name.replace("_", "-"): value for name, value in given.items()}
    annotations = {CILIUM + name: value for name, value in named.items()}
    found = ingress("web", annotations=annotations, defaultBackend=backend())
    assert isinstance(found, Ingress)
    return options(found)


def test_a_service_is_as_the_annotations_say() -> None:
    found = asked(service_type="NodePort", insecure_node_port="30080", secure_node_port="30443")
    assert found.problems == ()
    ports = ((80, 30080), (443, 30443))
    assert found.exposing.exposed == Exposed(type="NodePort", node_ports=ports)
    assert found.exposing.by == tuple(
        CILIUM + name for name in ("service-type", "insecure-node-port", "secure-node-port")
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"service_type": "ClusterIP"}, "neither LoadBalancer nor NodePort"),
        ({"loadbalancer_class": "a b"}, "is not a class"),
        ({"insecure_node_port": "0"}, "is not a port"),
        ({"insecure_node_port": "70000"}, "is not a port"),
        ({"insecure_node_port": "30080", "secure_node_port": "30080"}, "the other port already"),
        ({"service_external_traffic_policy": "Local"}, "every node serves by itself"),
        ({"host_listener_port": "0"}, "is not a port"),
        (
            {"host_listener_port": "8080", "loadbalancer_mode": "shared"},
            "for an Ingress with an address to itself",
        ),
        ({"unheard_of": "x"}, "is not known"),
    ],
)
def test_what_cannot_be_had_is_told(given: dict[str, str], text: str) -> None:
    (told,) = asked(**given).problems
    assert text in told.message
    assert not asked(**given).closed


def test_the_policy_that_there_is_needs_no_word() -> None:
    assert asked(service_external_traffic_policy="Cluster").problems == ()
