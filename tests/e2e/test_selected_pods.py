"""XBackends in a lab: pods that are selected by their labels, from a Gateway and from pods."""

from __future__ import annotations

import http.client
import signal

import pytest

from support.penstock_process import Penstock, eventually

pytestmark = pytest.mark.timeout(240)

XBACKEND = """\
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackend
metadata:
  name: picked
  namespace: shop
spec:
  type: EndpointSelector
  endpointSelector:
    matchLabels: {app: orders, version: @VERSION@}
  port: {number: 8080}
---
"""
ROUTES = """\
apiVersion: v1
kind: Service
metadata:
  name: picked
  namespace: shop
spec:
  ports:
    - {name: http, port: 80}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: picked
  namespace: shop
spec:
  parentRefs:
    - {group: "", kind: Service, name: picked, port: 80}
    - {name: shop}
  hostnames: [picked.test]
  rules:
    - backendRefs:
        - {group: gateway.networking.x-k8s.io, kind: XBackend, name: picked}
"""


def through(penstock: Penstock, path: str) -> int:
    """Return the status of a request through the Gateway, from outside all pods."""
    (gateway,) = penstock.status()["gateways"]
    connection = http.client.HTTPConnection(gateway["reachable"][0], timeout=5)
    try:
        connection.request("GET", path, headers={"host": "picked.test"})
        return connection.getresponse().status
    finally:
        connection.close()


def pick(penstock: Penstock, version: str) -> None:
    file = penstock.folder / "picked.yaml"
    file.write_text(XBACKEND.replace("@VERSION@", version) + ROUTES)


@pytest.mark.usefixtures("rights")
def test_pods_are_reached_by_their_labels_and_policy_judges_who_asks(penstock: Penstock) -> None:
    pick(penstock, "v1")
    penstock.start()
    assert penstock.ask("deploy/frontend", "GET", "http://picked/public") == (200, "v1")
    assert penstock.ask("deploy/frontend", "POST", "http://picked/public")[0] == 403
    assert penstock.ask("deploy/intruder", "GET", "http://picked/public") == (
        0,
        "connection refused",
    )
    assert through(penstock, "/public") == 200
    assert through(penstock, "/private") == 403
    shown = penstock.run("get", "xbackends")
    assert "app=orders,version=v1" in shown.stdout
    assert "True" in shown.stdout
    seen = penstock.run("observe", "--pod", "shop/frontend", "-o", "json").stdout
    assert "shop/~picked" in seen
    pick(penstock, "v2")
    asked = "deploy/frontend", "GET", "http://picked/public"
    assert eventually(lambda: penstock.ask(*asked) == (200, "v2"), 20)
    pick(penstock, "nobody")
    assert eventually(lambda: penstock.ask(*asked)[0] == 503, 20)
    assert through(penstock, "/public") == 503
    written = penstock.run("get", "xbackends", "-o", "yaml").stdout
    assert "no pod with these labels is ready" in written
    assert penstock.stop(signal.SIGINT) == 0
    assert penstock.remains() == []
