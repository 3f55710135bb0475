"""What ReferenceGrants allow on real nodes: it is served while they are there, and no longer.

A Gateway has a certificate and a route a backend in another namespace. Meanwhile requests run, on
open connections and on new ones, to what needs no grant: none of them may fail.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Generator
from typing import Any

import pytest

from support.cluster.addresses import NODES, gateway_address
from support.cluster.mesh import Mesh
from support.cluster.traffic import (
    Answer,
    Traffic,
    ask_outside,
    echo_pod,
    echo_service,
    eventually,
    traffic_outside,
)
from support.pki import Issued, issue, tls_secret_raw

GROUP = "gateway.networking.k8s.io"
API = f"{GROUP}/v1"


class Place:
    """A Gateway in a namespace, and another namespace of which it uses something."""

    def __init__(self, mesh: Mesh, own: str, other: str) -> None:
        self.mesh, self.own, self.other = mesh, own, other
        self.address = gateway_address(mesh, own, "gw")

    def ask(self, host: str, scheme: str = "http") -> Answer:
        """Ask from outside of the cluster."""
        return ask_outside(self.mesh.cluster, "GET", f"{scheme}://{self.address}/", host)

    def shows(self, host: str, certificate: Issued) -> bool:
        """Return whether *host* is served with *certificate*."""
        answer = self.ask(host, "https")
        return (answer.status, answer.certificate) == (200, certificate.der)

    def grant(self, source: str, target: str) -> None:
        """Let objects of kind *source* refer to those of kind *target*."""
        self.mesh.cluster.apply(grant(self.own, self.other, source, target))

    def revoke(self) -> None:
        self.mesh.cluster.kubectl("-n", self.other, "delete", "referencegrant", "granted")

    def listener(self, name: str) -> dict[str, str]:
        """Return type → reason of a listener's conditions."""
        status = self.mesh.cluster.get("-n", self.own, "gateway", "gw").get("status") or {}
        (found,) = [one for one in status["listeners"] if one["name"] == name]
        return {one["type"]: one["reason"] for one in found["conditions"]}

    def resolved(self) -> str:
        """Return why the route's references are resolved or not."""
        route = self.mesh.cluster.get("-n", self.own, "httproute", "abroad")
        (parent,) = route["status"]["parents"]
        return str({one["type"]: one["reason"] for one in parent["conditions"]}["ResolvedRefs"])

    def nodes_with(self, certificate: Issued) -> list[str]:
        """Return the nodes whose Envoy has a certificate, anywhere."""
        shown = base64.b64encode(certificate.pem.encode()).decode()
        return [node for node in NODES if shown in self.mesh.envoy_dump(node)]


def grant(own: str, other: str, source: str, target: str) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "ReferenceGrant",
        "metadata": {"name": "granted", "namespace": other},
        "spec": {
            "from": [{"group": GROUP, "kind": source, "namespace": own}],
            "to": [{"group": "", "kind": target}],
        },
    }


def gateway(own: str, other: str) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "Gateway",
        "metadata": {"name": "gw", "namespace": own},
        "spec": {
            "gatewayClassName": "penstock",
            "listeners": [
                {"name": "http", "port": 80, "protocol": "HTTP"},
                https("own", "own.test", {"name": "cert"}),
                https("granted", "granted.test", {"name": "cert", "namespace": other}),
            ],
        },
    }


def https(name: str, hostname: str, certificate: dict[str, str]) -> dict[str, Any]:
    tls = {"certificateRefs": [certificate]}
    return {"name": name, "port": 443, "protocol": "HTTPS", "hostname": hostname, "tls": tls}


def route(name: str, namespace: str, backend: dict[str, Any], **spec: Any) -> dict[str, Any]:
    rules = [{"backendRefs": [{"port": 80, **backend}]}]
    return {
        "apiVersion": API,
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"parentRefs": [{"name": "gw"}], "rules": rules, **spec},
    }


@pytest.fixture
def place(mesh: Mesh, namespace: str) -> Generator[Place]:
    """Start servers in two namespaces and a Gateway; nothing is granted yet."""
    cluster, other = mesh.cluster, f"{namespace}-o"
    cluster.make_namespace(other)
    try:
        for one, pod, node in ((namespace, "home", NODES[0]), (other, "abroad", NODES[1])):
            cluster.apply(
                echo_pod(pod, one, node, {"app": "echo"}),
                echo_service("echo", one),
                tls_secret_raw("cert", one, [issue("own.test", "granted.test")]),
            )
        cluster.apply(
            gateway(namespace, other),
            route("echo", namespace, {"name": "echo"}),
            route(
                "abroad", namespace, {"name": "echo", "namespace": other}, hostnames=["abroad.test"]
            ),
        )
        yield Place(mesh, namespace, other)
    finally:
        cluster.kubectl("delete", "namespace", other, "--wait=false")


@contextlib.contextmanager
def others_go_on(place: Place) -> Generator[Traffic]:
    """Ask what needs no grant; afterwards no request has failed."""
    for scheme in ("http", "https"):
        assert eventually(lambda scheme=scheme: place.ask("own.test", scheme).status == 200)  # type: ignore[misc]
    targets = {scheme: f"{scheme}://{place.address}/#own.test" for scheme in ("http", "https")}
    with traffic_outside(place.mesh.cluster, targets) as traffic:
        traffic.wait_for_more()
        yield traffic
        traffic.wait_for_more()
        assert traffic.bad() == {}


def test_a_secret_of_another_namespace_is_on_nodes_while_it_is_granted(place: Place) -> None:
    first, renewed = issue("granted.test"), issue("granted.test")
    cluster = place.mesh.cluster
    cluster.apply(tls_secret_raw("cert", place.other, [first]))
    with others_go_on(place):
        assert eventually(
            lambda: place.listener("granted").get("ResolvedRefs") == "RefNotPermitted"
        )
        assert place.ask("granted.test", "https").error == "handshake"
        assert place.nodes_with(first) == []

        place.grant("Gateway", "Secret")
        assert eventually(lambda: place.shows("granted.test", first))
        assert eventually(lambda: place.listener("granted").get("Programmed") == "Programmed")
        assert place.nodes_with(first) != []

        cluster.apply(tls_secret_raw("cert", place.other, [renewed]))
        assert eventually(lambda: place.shows("granted.test", renewed))
        assert place.nodes_with(renewed) != []

        place.revoke()
        assert eventually(lambda: place.ask("granted.test", "https").error == "handshake")
        assert eventually(lambda: place.nodes_with(renewed) == [])
        assert eventually(lambda: place.listener("granted").get("Programmed") == "Invalid")
        assert place.listener("own")["Programmed"] == "Programmed"

        place.grant("Gateway", "Secret")
        assert eventually(lambda: place.shows("granted.test", renewed))


def test_a_backend_of_another_namespace_answers_while_it_is_granted(place: Place) -> None:
    with others_go_on(place):
        for _ in range(2):
            assert eventually(lambda: place.ask("abroad.test").status == 500)
            assert eventually(lambda: place.resolved() == "RefNotPermitted")
            place.grant("HTTPRoute", "Service")
            assert eventually(lambda: place.ask("abroad.test").status == 200)
            assert json.loads(place.ask("abroad.test").body)["pod"] == "abroad"
            assert eventually(lambda: place.resolved() == "ResolvedRefs")
            place.revoke()
        assert eventually(lambda: place.ask("abroad.test").status == 500)
