"""What policies do to real requests: at a Gateway, on the way out of a pod, on the way into one."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from penstock.envoy.http_connection_manager import DENIED_BODY
from penstock.envoy.scope import egress_key, inbound_key
from penstock.meta.listeners import egress_name, ingress_name
from penstock.xds import types
from penstock.xds.resource import Resource
from support import objects
from support.compiled_envoy import (
    CompiledEnvoy,
    Place,
    Surroundings,
    compiled_envoy,
    scope_at,
    socket_name,
)
from support.http_backend import http_backend, seen
from support.raw_http import Answer, exchange

pytestmark = pytest.mark.asyncio(loop_scope="module")

GATEWAY = "gateway/shop/front/80"
_NET = f"127.{64 + os.getpid() % 128}.{os.getpid() // 128 % 250}"
FRONT, ORDERS, LEGACY, STRANGER = (f"{_NET}.{host}" for host in (1, 2, 3, 4))
"""Addresses of pods, on loopback: every one of them is ours without any set-up."""
VIP = "10.96.0.1"


def _free_port() -> int:
    """Return a port that is free on all addresses."""
    with socket.create_server(("0.0.0.0", 0)) as taken:
        return int(taken.getsockname()[1])


class Lab:
    def __init__(self, envoy: CompiledEnvoy, port: int) -> None:
        self.envoy = envoy
        self.port = port

    async def show(self, *policies: Object | Broken) -> None:
        compiler = Compiler()
        compiler.apply(objects.added([*_objects(self.port), *policies]))
        assert compiler.failures == {}
        around = Surroundings(
            listeners={ingress_name("uid-Pod/shop/orders-0"): (ORDERS, self.port + 1)},
            app=(ORDERS, self.port),
        )
        await self.envoy.run([*map(self._found, compiler.resources("n1"))], around)

    def _found(self, resource: Resource) -> Resource:
        """Let scopes be found where the listeners are here."""
        at = {
            egress_key(f"{VIP}:80"): egress_key(self._pipe(0)),
            egress_key(f"{LEGACY}:{self.port}"): egress_key(self._pipe(1)),
            inbound_key(f"{ORDERS}:{self.port}"): inbound_key(f"{ORDERS}:{self.port + 1}"),
        }
        key = at.get(resource.name) if resource.type_url == types.SCOPE else None
        return resource if key is None else scope_at(resource, key)

    def _pipe(self, index: int) -> str:
        return socket_name(egress_name("uid-Pod/shop/front-0"), index)

    async def from_front(self, path: str, method: str = "GET", *, direct: bool = False) -> Answer:
        """Ask the Service orders, or the pod legacy-0 directly, as the pod front-0."""
        name = egress_name("uid-Pod/shop/front-0")
        return await self.envoy.ask(name, path, method=method, host="orders", index=int(direct))

    async def outcomes(self, path: str, method: str = "GET") -> set[tuple[int, str]]:
        """Return (status, application) of so many requests that every endpoint has its turn."""
        answers = [await self.from_front(path, method) for _ in range(8)]
        return {(one.status, seen(one).name if one.status == 200 else "") for one in answers}

    async def into_orders(self, source: str, path: str) -> Answer:
        request = f"GET {path} HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n\r\n"
        return await exchange((ORDERS, self.port + 1), request.encode(), source)


def _objects(port: int) -> list[Object | Broken]:
    slices = objects.made(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "orders-1",
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "orders"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port}],
            "endpoints": [{"addresses": [ip]} for ip in (ORDERS, LEGACY)],
        }
    )
    return [
        objects.gateway_class(),
        objects.gateway("front"),
        objects.http_route("gateway", parent={"name": "front"}, backends=[("orders", 1)]),
        objects.http_route("mesh", parent=objects.on_service("orders"), backends=[("orders", 1)]),
        objects.service("orders", VIP),
        slices,
        objects.pod("front-0", FRONT, {"app": "front"}),
        objects.pod("orders-0", ORDERS, {"app": "orders"}),
        objects.pod("legacy-0", LEGACY, {"app": "legacy"}),
        objects.pod("stranger-0", STRANGER, {"app": "stranger"}),
    ]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    port = _free_port()
    places: list[Place]
    async with (
        http_backend("orders", ORDERS, port) as one,
        http_backend("legacy", LEGACY, port) as two,
        compiled_envoy(tmp_path_factory.mktemp("e")) as envoy,
    ):
        places = [one, two]
        assert places == [(ORDERS, port), (LEGACY, port)]
        yield Lab(envoy, port)


def _ports(port: int, *http: dict[str, object]) -> list[dict[str, object]]:
    item: dict[str, object] = {"ports": [{"port": str(port), "protocol": "TCP"}]}
    return [item | ({"rules": {"http": list(http)}} if http else {})]


def _of(app: str) -> dict[str, object]:
    return {"matchLabels": {"app": app}}


def _public(port: int, *, gateway: bool = False) -> Object | Broken:
    """Both applications may be asked for what is below /public."""
    who: dict[str, object] = {"fromEndpoints": [_of("front")]}
    if gateway:
        who = {"fromEntities": ["ingress"]}
    rule = who | {"toPorts": _ports(port, {"path": "/public/.*"})}
    anyone = [{"key": "app", "operator": "In", "values": ["orders", "legacy"]}]
    spec = {"endpointSelector": {"matchExpressions": anyone}, "ingress": [rule]}
    return objects.policy("public", spec)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/public/x", 200),
        ("/public/", 200),
        ("/public", 403),
        ("/publicly", 403),
        ("//admin", 403),
        ("/./admin", 403),
        ("/x/../admin", 403),
        ("/%61dmin", 403),
        ("/public/../admin", 403),
        ("/public/%2e%2e/admin", 403),
        ("/public/..;/admin", 403),
        ("/public\\..\\admin", 403),
        ("/%2fadmin", 400),
        ("/public/..%2fadmin", 400),
        ("/x%2f..%2fadmin", 400),
        ("/\\admin", 403),
        ("/ADMIN", 403),
        ("/PUBLIC/x", 403),
        ("/public/%252e%252e/admin", 200),
        ("/public/%c0%af../admin", 200),
        ("/public/%5c..%5cadmin", 400),
        ("/admin%00", 400),
        ("/public/x%00", 400),
        ("/public/x#fragment", 400),
        ("/admin#/public/x", 400),
        ("/admin?/public/x", 403),
    ],
)
async def test_policy_sees_the_normalised_path(lab: Lab, path: str, status: int) -> None:
    await lab.show(_public(lab.port, gateway=True))
    assert (await lab.envoy.ask(GATEWAY, path)).status == status


async def test_a_denied_request_is_answered_with_403_and_why(lab: Lab) -> None:
    await lab.show(_public(lab.port, gateway=True))
    for answer in (await lab.envoy.ask(GATEWAY, "/admin"), await lab.from_front("/public/x")):
        assert (answer.status, answer.body) == (403, DENIED_BODY)


async def test_a_denied_grpc_call_is_answered_with_status_7(lab: Lab) -> None:
    await lab.show(_public(lab.port, gateway=True))
    headers = {"content-type": "application/grpc", "te": "trailers"}
    answer = await lab.envoy.ask(GATEWAY, "/shop.Orders/List", method="POST", headers=headers)
    assert (answer.status, answer.header("grpc-status")) == (200, "7")


async def test_each_endpoint_is_judged_by_its_own_rules(lab: Lab) -> None:
    orders = {"fromEndpoints": [_of("front")], "toPorts": _ports(lab.port, {"path": "/public.*"})}
    ingress = {"endpointSelector": _of("orders"), "ingress": [orders]}
    legacy = {"toEndpoints": [_of("legacy")], "toPorts": _ports(lab.port, {"method": "GET"})}
    egress = {
        "endpointSelector": _of("front"),
        "egress": [legacy, {"toEndpoints": [_of("orders")]}],
    }
    await lab.show(objects.policy("orders", ingress), objects.policy("front", egress))
    assert await lab.outcomes("/public") == {(200, "orders"), (200, "legacy")}
    assert await lab.outcomes("/public", "POST") == {(200, "orders"), (403, "")}
    assert await lab.outcomes("/private") == {(200, "legacy"), (403, "")}
    assert await lab.outcomes("/private", "POST") == {(403, "")}
    assert seen(await lab.from_front("/x", direct=True)).name == "orders"
    assert (await lab.from_front("/x", "POST", direct=True)).status == 403


async def test_an_ingress_deny_holds_on_the_way_out_of_the_client(lab: Lab) -> None:
    allowed = {"fromEntities": ["all"], "toPorts": _ports(lab.port, {"method": "GET"})}
    spec = {"ingress": [allowed], "ingressDeny": [{"fromEndpoints": [_of("front")]}]}
    both = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}
    await lab.show(objects.policy("p", {"endpointSelector": both} | spec))
    assert await lab.outcomes("/") == {(403, "")}
    assert (await lab.envoy.ask(GATEWAY)).status == 200
    assert (await lab.envoy.ask(GATEWAY, method="POST")).status == 403


async def test_a_policy_that_cannot_be_read_closes_what_it_selects(lab: Lab) -> None:
    rule = {"fromEndpoints": [_of("front")], "toPorts": _ports(lab.port), "rules": {"http": []}}
    spec = {"endpointSelector": _of("orders"), "ingress": [rule]}
    await lab.show(objects.policy("orders", spec))
    assert await lab.outcomes("/public/x") == {(200, "legacy"), (403, "")}


async def test_at_the_pod_the_source_address_is_the_client(lab: Lab) -> None:
    await lab.show(_public(lab.port))
    assert (await lab.into_orders(FRONT, "/public/x")).status == 200
    assert (await lab.into_orders(FRONT, "/private")).status == 403
    assert (await lab.into_orders(STRANGER, "/public/x")).status == 403


async def test_an_ingress_listener_without_a_scope_denies_all(lab: Lab) -> None:
    await lab.show()
    answer = await lab.into_orders(FRONT, "/public/x")
    assert (answer.status, answer.body) == (403, DENIED_BODY)
