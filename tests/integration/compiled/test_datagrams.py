"""UDPRoutes in a real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from typing import Any, cast

import pytest
import pytest_asyncio
from typing_extensions import override

from penstock.compiler.compile import Compiler
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from support import objects
from support.compiled_envoy import (
    NODE,
    CompiledEnvoy,
    Place,
    Surroundings,
    compiled_envoy,
    socket_name,
)

pytestmark = pytest.mark.asyncio

TCP, UDP = "gateway/shop/front/443", "gateway/shop/front/443/udp"
CLUSTER = "stream|shop/front/443/udp|*"
ADDRESSES = {"one": ("10.96.0.1", "10.244.0.1"), "two": ("10.96.0.2", "10.244.0.2")}
LARGEST = 65_507
"""Bytes of the largest datagram over IPv4."""
QUIET = 0.3
"""Seconds after which no answer is taken for none, where nothing else can be waited for."""


class Echo(asyncio.DatagramProtocol):
    """A server that answers with its name and what it got."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._transport: asyncio.DatagramTransport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    @override
    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self._transport is not None:
            self._transport.sendto(f"{self._name} ".encode() + data[: LARGEST - 10], addr)


@contextlib.asynccontextmanager
async def echo(name: str) -> AsyncGenerator[Place]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: Echo(name), local_addr=("127.0.0.1", 0)
    )
    try:
        yield transport.get_extra_info("sockname")
    finally:
        transport.close()


class Lab:
    """Envoy, two servers, and what Envoy is shown."""

    def __init__(self, envoy: CompiledEnvoy, at: Place, around: Surroundings) -> None:
        self.envoy, self.at, self._around = envoy, at, around
        self.compiler = Compiler()
        self.compiler.apply(objects.added([objects.gateway_class(), *services()]))

    async def show(self, *things: Object | Broken) -> None:
        await self.change(*(Event(EventType.ADDED, one) for one in things))

    async def change(self, *events: Event) -> None:
        self.compiler.apply(list(events))
        assert self.compiler.failures == {}
        await self.envoy.run(self.compiler.resources(NODE), self._around)


@pytest_asyncio.fixture
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with (
        echo("one") as one,
        echo("two") as two,
        compiled_envoy(tmp_path_factory.mktemp("e")) as envoy,
    ):
        at = ("127.0.0.1", _free_port())
        places = {ADDRESSES["one"][1]: one, ADDRESSES["two"][1]: two}
        yield Lab(envoy, at, Surroundings(listeners={UDP: at}, endpoints=places))


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def services() -> Iterator[Object | Broken]:
    for name, (vip, pod) in ADDRESSES.items():
        ports = [{"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "tcp", "port": 80}]
        yield objects.made(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {"clusterIP": vip, "ports": ports},
            }
        )
        yield endpoints(name, [pod])


def endpoints(name: str, pods: Sequence[str]) -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [{"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "tcp", "port": 80}],
            "endpoints": [{"addresses": [one]} for one in pods],
        }
    )


def gateway() -> Object | Broken:
    """Return a Gateway with a port of UDP, and the same number of TCP."""
    listeners = [
        {"name": "udp", "protocol": "UDP", "port": 443},
        {"name": "web", "protocol": "HTTP", "port": 443},
    ]
    return objects.gateway("front", listeners)


def route(
    name: str, backends: Sequence[tuple[str, int]], *, since: str = "2026-01-02T00:00:00Z"
) -> Object | Broken:
    refs = [{"name": one, "port": 53, "weight": weight} for one, weight in backends]
    return objects.made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "UDPRoute",
            "metadata": {"name": name, "namespace": "shop", "creationTimestamp": since},
            "spec": {"parentRefs": [{"name": "front"}], "rules": [{"backendRefs": refs}]},
        }
    )


class Client:
    """A socket: one session of Envoy's."""

    def __init__(self, at: Place) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect(at)

    async def ask(self, text: bytes = b"x", patience: float = 30) -> bytes:
        """Return the answer.

        Raises:
            TimeoutError: there is none.
        """
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._socket, text)
        return await asyncio.wait_for(loop.sock_recv(self._socket, LARGEST), patience)

    async def answerer(self, patience: float = 30) -> str:
        """Return who answers; "" for nobody."""
        try:
            return (await self.ask(patience=patience)).partition(b" ")[0].decode()
        except TimeoutError:
            return ""

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def clients(at: Place, number: int = 1) -> Generator[list[Client]]:
    made = [Client(at) for _ in range(number)]
    try:
        yield made
    finally:
        for one in made:
            one.close()


async def _answerers(many: Sequence[Client], silent: int = 0) -> Counter[str]:
    """Return who answers each of them, where about so many get no answer."""
    asking = [asyncio.create_task(one.answerer()) for one in many]
    for count, answered in enumerate(asyncio.as_completed(asking), 1):
        await answered
        if count == len(many) - silent - 1:
            break
    await asyncio.wait(asking, timeout=QUIET)
    answered_all = [one for one in asking if one.done()]
    for one in asking:
        one.cancel()
    found = Counter(one.result() for one in answered_all)
    return found + Counter({"": len(many) - len(answered_all)})


async def test_clients_are_shared_by_weight_and_the_share_of_nobody_is_dropped(lab: Lab) -> None:
    await lab.show(gateway(), route("all", [("one", 4), ("two", 2), ("missing", 2), ("two", 0)]))
    with clients(lab.at, 80) as many:
        found = await _answerers(many, silent=20)
    # Where among the endpoints Envoy begins is random.
    wanted = {"one": 40, "two": 20, "": 20}
    assert all(abs(found[name] - number) <= 1 for name, number in wanted.items()), found


async def test_a_backend_with_weight_0_gets_nothing(lab: Lab) -> None:
    await lab.show(gateway(), route("all", [("one", 1), ("two", 0)]))
    with clients(lab.at, 20) as many:
        assert await _answerers(many) == {"one": 20}


async def test_a_client_stays_at_its_endpoint_whatever_the_weights_become(lab: Lab) -> None:
    await lab.show(gateway(), route("all", [("one", 1), ("two", 0)]))
    with clients(lab.at, 1) as (client,):
        assert await client.answerer() == "one"
        changed = route("all", [("one", 0), ("two", 1), ("one", 1)])
        await lab.change(Event(EventType.MODIFIED, changed))
        for _ in range(3):
            assert await client.answerer() == "one"


async def test_a_client_whose_endpoint_went_is_led_to_another(lab: Lab) -> None:
    await lab.show(gateway(), route("all", [("one", 1), ("two", 0)]))
    with clients(lab.at, 1) as (client,):
        assert await client.answerer() == "one"
        await lab.change(Event(EventType.MODIFIED, route("all", [("two", 1)])))
        assert await client.answerer() == "two"


async def test_a_client_that_was_refused_is_served_when_there_are_endpoints(lab: Lab) -> None:
    await lab.show(gateway(), route("all", [("one", 1)]))
    await lab.change(Event(EventType.MODIFIED, endpoints("one", [])))
    with clients(lab.at, 1) as (client,):
        assert await client.answerer(QUIET) == ""
        back = endpoints("one", [ADDRESSES["one"][1]])
        await lab.change(Event(EventType.MODIFIED, back))
        assert await client.answerer() == "one"


async def test_no_change_of_routes_touches_the_listener_or_the_cluster(lab: Lab) -> None:
    first = route("first", [("one", 1)])
    await lab.show(gateway(), first)
    older = route("older", [("two", 1)], since="2026-01-01T00:00:00Z")
    with clients(lab.at, 2) as (before, after):
        assert await before.answerer() == "one"
        await lab.change(Event(EventType.MODIFIED, route("first", [("one", 3), ("two", 1)])))
        await lab.change(Event(EventType.ADDED, older))
        assert await after.answerer() == "two"
        await lab.change(Event(EventType.DELETED, older))
        await lab.change(Event(EventType.DELETED, first))
    touched = Counter(lab.envoy.recorder.accepted)
    assert touched[f"Listener {UDP}"] == 1
    assert touched[f"Cluster {CLUSTER}"] == 1


async def test_without_a_route_nobody_answers(lab: Lab) -> None:
    await lab.show(gateway())
    with clients(lab.at, 1) as (client,):
        assert await client.answerer(QUIET) == ""
        await lab.show(route("all", [("one", 1)]))
        assert await client.answerer() == "one"


async def test_udp_and_http_are_served_on_one_port_number(lab: Lab) -> None:
    web = objects.http_route("web", parent={"name": "front"}, backends=[("missing", 1)])
    await lab.show(gateway(), route("all", [("one", 1)]), web)
    with clients(lab.at, 1) as (client,):
        assert await client.answerer() == "one"
        answer = await lab.envoy.ask(TCP)
        assert answer.status == 500
        assert "alt-svc" not in dict(answer.headers)
        assert await client.answerer() == "one"
    assert (lab.envoy.folder / socket_name(TCP)).exists()


@pytest.mark.parametrize("size", [0, 1, 1400, 1501, 9000, LARGEST])
async def test_datagrams_of_every_size_pass(lab: Lab, size: int) -> None:
    await lab.show(gateway(), route("all", [("one", 1)]))
    with clients(lab.at, 1) as (client,):
        text = b"x" * size
        assert await client.ask(text) == b"one " + text[: LARGEST - 10]
