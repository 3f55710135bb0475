"""Services that keep traffic on a node, with real pods: who answers, and who is reached."""

from __future__ import annotations

import json
from typing import Any

from support.cluster.addresses import NODES, balanced, balanced_address, owners
from support.cluster.mesh import Mesh
from support.cluster.traffic import (
    ask_from,
    ask_outside,
    echo_pod,
    echo_service,
    eventually,
    run_pods,
)

SERVER = {"app": "web"}
"""Labels of the pods behind the Service, whatever their names."""


def run(mesh: Mesh, namespace: str, node: str, *, name: str = "", server: bool = True) -> None:
    pod = name or f"web-{node}"
    labels = SERVER if server else {"app": pod}
    run_pods(mesh.cluster, namespace, echo_pod(pod, namespace, node, labels))


def assigned(mesh: Mesh, namespace: str) -> tuple[str, str]:
    status = mesh.cluster.get("-n", namespace, "service", "web")["status"]
    for one in status.get("conditions", ()):
        if one["type"] == "penstock.dev/AddressAssigned":
            return one["status"], one["reason"]
    return "", ""


def events(mesh: Mesh, namespace: str) -> set[str]:
    found = mesh.cluster.get("-n", namespace, "events")["items"]
    return {one["reason"] for one in found if one["involvedObject"]["kind"] == "Service"}


def reached_from(mesh: Mesh, namespace: str, client: str, address: str) -> set[str]:
    """Return the pods that answer a client ten times, "" for none."""
    url = f"http://{address}/"
    answers = [ask_from(mesh.cluster, client, namespace, "GET", url) for _ in range(10)]
    return {json.loads(one.body)["pod"] if one.status == 200 else "" for one in answers}


def test_an_address_is_where_the_endpoints_are(mesh: Mesh, namespace: str) -> None:
    service = balanced("web", namespace)
    service["spec"]["externalTrafficPolicy"] = "Local"
    mesh.cluster.apply(service)
    address = balanced_address(mesh, namespace, "web")
    assert eventually(lambda: assigned(mesh, namespace) == ("False", "NoLocalEndpoints"))
    assert owners(mesh, address) == []
    url = f"http://{address}/"
    for node, other in (NODES, NODES[::-1]):
        run(mesh, namespace, node)
        mesh.cluster.kubectl("-n", namespace, "delete", "pod", f"web-{other}", "--ignore-not-found")
        assert eventually(lambda node=node: owners(mesh, address) == [node])  # type: ignore[misc]
        assert eventually(lambda: ask_outside(mesh.cluster, "GET", url).status == 200)
        answers = [ask_outside(mesh.cluster, "GET", url) for _ in range(10)]
        assert {json.loads(one.body)["pod"] for one in answers} == {f"web-{node}"}
        assert eventually(lambda: assigned(mesh, namespace) == ("True", "Assigned"))
    mesh.cluster.kubectl("-n", namespace, "delete", "pod", "web-n2")
    assert eventually(lambda: owners(mesh, address) == [])
    assert eventually(lambda: assigned(mesh, namespace) == ("False", "NoLocalEndpoints"))
    wanted = {"AddressAssigned", "AddressNotAssigned"}
    assert eventually(lambda: wanted <= events(mesh, namespace))


def test_pods_reach_the_endpoints_of_their_own_node(mesh: Mesh, namespace: str) -> None:
    mesh.cluster.apply(inside(namespace))
    for node in NODES:
        run(mesh, namespace, node)
        run(mesh, namespace, node, name=f"client-{node}", server=False)
    address = mesh.cluster.get("-n", namespace, "service", "web")["spec"]["clusterIP"]
    for node in NODES:
        assert eventually(
            lambda node=node: (  # type: ignore[misc]
                reached_from(mesh, namespace, f"client-{node}", address) == {f"web-{node}"}
            )
        )
    mesh.cluster.kubectl("-n", namespace, "delete", "pod", "web-n2")
    assert eventually(lambda: reached_from(mesh, namespace, "client-n2", address) == {""})
    assert ask_from(mesh.cluster, "client-n2", namespace, "GET", f"http://{address}/").error
    assert reached_from(mesh, namespace, "client-n1", address) == {"web-n1"}


def test_a_client_stays_at_its_pod_while_that_is_there(mesh: Mesh, namespace: str) -> None:
    mesh.cluster.apply(
        inside(namespace, internalTrafficPolicy="Cluster", sessionAffinity="ClientIP")
    )
    for node in NODES:
        run(mesh, namespace, node)
    run(mesh, namespace, "n1", name="client", server=False)
    address = mesh.cluster.get("-n", namespace, "service", "web")["spec"]["clusterIP"]
    assert eventually(
        lambda: ask_from(mesh.cluster, "client", namespace, "GET", f"http://{address}/").status
    )
    (first,) = reached_from(mesh, namespace, "client", address)
    mesh.cluster.kubectl("-n", namespace, "delete", "pod", first)
    (other,) = {f"web-{node}" for node in NODES} - {first}
    assert eventually(lambda: reached_from(mesh, namespace, "client", address) == {other})


def inside(namespace: str, **spec: str) -> dict[str, Any]:
    made = echo_service("web", namespace)
    made["spec"] |= {"internalTrafficPolicy": "Local", **spec}
    return made
