"""The shop of examples/, applied as a user does it, with its pods on two nodes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from support.cluster.mesh import Mesh
from support.cluster.traffic import Answer, ask_from, ask_outside, eventually
from support.kube import ROOT

SHOP = ROOT / "examples" / "shop"
DEPLOYMENTS = ("frontend", "intruder", "orders-v1", "orders-v2", "payments")
PLACES = {
    "frontend": "n1",
    "intruder": "n2",
    "orders-v1": "n1",
    "orders-v2": "n2",
    "payments": "n2",
}
PUBLIC = "http://orders/public"


@pytest.fixture(scope="module")
def shop(mesh: Mesh) -> Generator[Mesh]:
    """Apply the shop; its pods are spread so that every way between two nodes is used."""
    cluster = mesh.cluster
    cluster.kubectl("apply", "-f", str(SHOP))
    for name, node in PLACES.items():
        where = {"spec": {"template": {"spec": {"nodeName": node}}}}
        cluster.kubectl("-n", "shop", "patch", "deployment", name, "-p", json.dumps(where))
    for name in DEPLOYMENTS:
        status = ("rollout", "status", f"deployment/{name}", "--timeout=120s")
        cluster.kubectl("-n", "shop", *status)
    yield mesh
    # Not everything that the shop names: the GatewayClass is the chart's, and of use to others.
    cluster.kubectl("delete", "namespace", "shop", "--wait=false")


def columns(mesh: Mesh, kind: str, name: str) -> dict[str, str]:
    """Return what kubectl shows of an object, by column."""
    lines = mesh.cluster.kubectl("-n", "shop", "get", kind, name).splitlines()
    return dict(zip(lines[0].split(), lines[1].split(), strict=False))


def gateway(mesh: Mesh) -> str:
    """Return the Gateway's address."""
    assert eventually(lambda: columns(mesh, "gateway", "shop").get("PROGRAMMED") == "True")
    return columns(mesh, "gateway", "shop")["ADDRESS"]


def ask(mesh: Mesh, who: str, method: str, url: str) -> Answer:
    return ask_from(mesh.cluster, f"deploy/{who}", "shop", method, url)


def verdict(answer: Answer) -> int | str:
    return answer.status or answer.error


def test_columns_of_kubectl_are_right(shop: Mesh) -> None:
    address = gateway(shop)
    found = columns(shop, "gateway", "shop")
    assert found["CLASS"] == "penstock"
    assert address.startswith("172.31.0.")
    assert columns(shop, "httproute", "shop")["HOSTNAMES"] == '["shop.test"]'
    assert columns(shop, "gatewayclass", "penstock")["ACCEPTED"] == "True"


def test_status_says_that_every_node_has_it(shop: Mesh) -> None:
    def conditions() -> dict[str, Any]:
        status = shop.cluster.get("-n", "shop", "httproute", "orders").get("status", {})
        return {
            one["type"]: one["message"] if one["type"] == "DataPlaneAcked" else one["status"]
            for parent in status.get("parents", [])
            for one in parent["conditions"]
        }

    wanted = {"Accepted": "True", "ResolvedRefs": "True"}
    wanted["DataPlaneAcked"] = "in force on 2 of 2 nodes"
    assert eventually(lambda: wanted.items() <= conditions().items()), conditions()


@pytest.mark.parametrize(
    ("who", "method", "url", "expected"),
    [
        ("frontend", "GET", PUBLIC, 200),
        ("frontend", "POST", PUBLIC, 403),
        ("frontend", "GET", "http://orders/admin", 403),
        ("frontend", "GET", "http://payments/", "refused"),
        ("intruder", "GET", PUBLIC, "refused"),
        ("intruder", "GET", "http://payments/", "refused"),
        ("orders-v1", "GET", "http://payments/", 200),
        ("orders-v2", "GET", "http://payments/", 200),
        ("orders-v1", "GET", "http://frontend/", 200),
    ],
)
def test_policy_holds_across_nodes(
    shop: Mesh, who: str, method: str, url: str, expected: int | str
) -> None:
    assert eventually(lambda: verdict(ask(shop, who, method, url)) == expected), ask(
        shop, who, method, url
    )


@pytest.mark.parametrize("version", ["orders-v1", "orders-v2"])
def test_policy_holds_for_a_pod_on_the_same_node_and_on_the_other_one(
    shop: Mesh, version: str
) -> None:
    assert verdict(ask(shop, "frontend", "GET", f"http://{version}/public")) == 200
    assert verdict(ask(shop, "frontend", "GET", f"http://{version}/admin")) == 403
    assert verdict(ask(shop, "intruder", "GET", f"http://{version}/public")) == "refused"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [("GET", "/", 200), ("GET", "/orders/7", 200), ("POST", "/orders/7", 403)],
)
def test_gateway_serves_from_outside(shop: Mesh, method: str, path: str, expected: int) -> None:
    url = f"http://{gateway(shop)}{path}"

    def found() -> int | str:
        return verdict(ask_outside(shop.cluster, method, url, "shop.test"))

    assert eventually(lambda: found() == expected), found()


def test_other_hosts_are_not_found(shop: Mesh) -> None:
    assert verdict(ask_outside(shop.cluster, "GET", f"http://{gateway(shop)}/", "other")) == 404


def set_weights(shop: Mesh, first: int, second: int) -> None:
    change = [
        {"op": "replace", "path": f"/spec/rules/0/backendRefs/{index}/weight", "value": weight}
        for index, weight in enumerate((first, second))
    ]
    shop.cluster.kubectl(
        "-n", "shop", "patch", "httproute", "orders", "--type=json", "-p", json.dumps(change)
    )


def versions(shop: Mesh, count: int) -> Counter[str]:
    """Return who answered *count* requests of the frontend."""
    program = (
        "import collections,json,urllib.request as u;"
        f"print(json.dumps([json.load(u.urlopen('{PUBLIC}'))['version'] for _ in range({count})]))"
    )
    said = shop.cluster.kubectl(
        "-n", "shop", "exec", "deploy/frontend", "--", "python3", "-c", program
    )
    return Counter(json.loads(said))


@pytest.mark.parametrize("share", [100, 50, 0])
def test_canary_moves_between_nodes(shop: Mesh, share: int) -> None:
    set_weights(shop, share, 100 - share)

    def moved() -> bool:
        return abs(versions(shop, 200)["v1"] / 2 - share) <= (15 if share == 50 else 0)

    assert eventually(moved), versions(shop, 200)


def test_denials_are_seen_with_the_policy_that_decided(shop: Mesh) -> None:
    assert verdict(ask(shop, "frontend", "POST", PUBLIC)) == 403
    seen = [
        shop.run_in(pod, "observe", "--verdict", "DENIED", "--last", "50")
        for pod in shop.pods("agent")
    ]
    assert any("CiliumNetworkPolicy shop/orders" in text for text in seen), seen
