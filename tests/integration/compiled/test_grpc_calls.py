"""GRPCRoutes in a real Envoy, between a real client and real servers of gRPC.

What Gateway API v1.7 tests since that version is among it: GRPCRouteRequestHeaderModifier and
GRPCRouteMultipleGateways.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from support import objects
from support.compiled_envoy import (
    CompiledEnvoy,
    Place,
    Surroundings,
    compiled_envoy,
    socket_name,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRONT, BACK = "gateway/shop/front/80", "gateway/shop/back/80"
SERVICE = "shop.Cart"


class Cart:
    """A server: `Add` tells its name, `Show` what it saw, `Watch` counts, `Wait` takes its time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.server = grpc.aio.server()
        handlers: dict[str, Any] = {
            "Add": grpc.unary_unary_rpc_method_handler(self._add),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
            "Wait": grpc.unary_unary_rpc_method_handler(self._wait),
            "Show": grpc.unary_unary_rpc_method_handler(self._show),
        }
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        self.place: Place = ("127.0.0.1", self.server.add_insecure_port("127.0.0.1:0"))

    async def _add(self, request: bytes, context: Any) -> bytes:
        seen = dict(context.invocation_metadata())
        context.set_trailing_metadata((("x-route", str(seen.get("x-route", ""))),))
        return self._name.encode() + b":" + request

    async def _show(self, _: bytes, context: Any) -> bytes:
        return json.dumps([[*pair] for pair in context.invocation_metadata()]).encode()

    async def _watch(self, request: bytes, _: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield str(number).encode()

    async def _wait(self, _: bytes, context: Any) -> bytes:
        await asyncio.sleep(30)
        await context.abort(grpc.StatusCode.INTERNAL, "nobody waited that long")
        return b""


class Lab:
    def __init__(self, channel: grpc.aio.Channel, other: grpc.aio.Channel) -> None:
        self._channel, self._other = channel, other

    def call(self, method: str, body: bytes = b"1", *, other: bool = False, **options: Any) -> Any:
        """Call by the Gateway "front", or by the *other* one."""
        ask: Any = (self._other if other else self._channel).unary_unary(f"/{method}")
        return ask(body, **options)

    def stream(self, method: str, body: bytes) -> Any:
        ask: Any = self._channel.unary_stream(f"/{method}")
        return ask(body)

    async def refusal(self, method: str, **options: Any) -> grpc.StatusCode:
        """Return as what a call fails."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, **options)
        return caught.value.code()


def rule(match: dict[str, Any], *backends: tuple[str, int]) -> dict[str, Any]:
    refs = [{"name": name, "port": 80, "weight": weight} for name, weight in backends]
    return {"matches": [match], "backendRefs": refs}


def showing() -> dict[str, Any]:
    made = rule({"method": {"service": SERVICE, "method": "Show"}}, ("two", 1))
    pairs = [
        {"name": f"X-Header-{what}-1", "value": f"{what} by a filter"} for what in ("Set", "Add")
    ]
    change = {"set": pairs[:1], "add": pairs[1:], "remove": ["X-Header-Remove-1"]}
    made["filters"] = [{"type": "RequestHeaderModifier", "requestHeaderModifier": change}]
    return made


def grpc_route(name: str, gateways: list[str], *rules: dict[str, Any]) -> Object | Broken:
    return objects.made({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GRPCRoute",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"parentRefs": [{"name": one} for one in gateways], "rules": list(rules)},
    })  # fmt: skip


def compiled() -> Compiler:
    add = {"method": {"service": SERVICE, "method": "Add"}}
    headed = rule(add | {"headers": [{"name": "to", "value": "two"}]}, ("two", 1))
    adding = rule(add, ("one", 3), ("two", 1))
    adding["filters"] = [
        {
            "type": "RequestHeaderModifier",
            "requestHeaderModifier": {"set": [{"name": "x-route", "value": "adding"}]},
        }
    ]
    cart = grpc_route(
        "cart", ["front"], headed, adding,
        rule({"method": {"service": SERVICE, "method": "Watch"}}, ("one", 1)),
        rule({"method": {"service": SERVICE, "method": "Wait"}}, ("one", 1)),
        rule({"method": {"service": SERVICE, "method": "Lost"}}, ("missing", 1)),
        rule({"method": {"service": SERVICE, "method": "Asleep"}}, ("asleep", 1)),
    )  # fmt: skip
    compiler = Compiler()
    compiler.apply(
        objects.added(
            [
                objects.gateway_class(),
                objects.gateway("front"),
                objects.gateway("back"),
                objects.service("one", "10.96.0.1"),
                objects.endpoint_slice("one", ["10.244.0.1"]),
                objects.service("two", "10.96.0.2"),
                objects.endpoint_slice("two", ["10.244.0.2"]),
                objects.service("asleep", "10.96.0.3"),
                cart,
                grpc_route("shared", ["front", "back"], showing()),
            ]
        )
    )
    assert compiler.failures == {}
    return compiler


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    one, two = Cart("one"), Cart("two")
    envoy: CompiledEnvoy
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as envoy:
        await one.server.start()
        await two.server.start()
        around = Surroundings(endpoints={"10.244.0.1": one.place, "10.244.0.2": two.place})
        await envoy.run(compiled().resources("n1"), around)
        async with contextlib.AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(
                        f"unix:{envoy.folder / socket_name(listener)}",
                        options=(("grpc.default_authority", "cart.test"),),
                    )
                )
                for listener in (FRONT, BACK)
            ]
            yield Lab(*channels)
        await one.server.stop(0)
        await two.server.stop(0)


async def test_calls_are_answered_with_their_trailers(lab: Lab) -> None:
    call = lab.call(f"{SERVICE}/Add", b"apple")
    assert (await call).endswith(b":apple")
    assert await call.code() is grpc.StatusCode.OK
    assert dict(await call.trailing_metadata())["x-route"] == "adding"


async def test_answers_may_be_streams(lab: Lab) -> None:
    assert [one async for one in lab.stream(f"{SERVICE}/Watch", b"5")] == [
        b"0", b"1", b"2", b"3", b"4",
    ]  # fmt: skip


async def test_calls_are_shared_by_weight(lab: Lab) -> None:
    answers = await asyncio.gather(*(lab.call(f"{SERVICE}/Add") for _ in range(200)))
    found = Counter(one.partition(b":")[0] for one in answers)
    assert abs(found[b"one"] - 150) < 40
    assert found.total() == 200


async def test_metadata_chooses_the_rule(lab: Lab) -> None:
    answers = [await lab.call(f"{SERVICE}/Add", metadata=(("to", "two"),)) for _ in range(10)]
    assert {one.partition(b":")[0] for one in answers} == {b"two"}


async def test_metadata_is_set_added_to_and_removed(lab: Lab) -> None:
    sent = [(f"x-header-{what}-1", "by the client") for what in ("set", "add", "remove")]
    found = json.loads(await lab.call(f"{SERVICE}/Show", metadata=(*sent, ("x-other", "kept"))))
    assert sorted(tuple(one) for one in found if one[0].startswith("x-header")) == [
        ("x-header-add-1", "Add by a filter"),
        ("x-header-add-1", "by the client"),
        ("x-header-set-1", "Set by a filter"),
    ]
    assert ["x-other", "kept"] in found


async def test_each_gateway_has_the_routes_that_name_it(lab: Lab) -> None:
    for other in (False, True):
        assert json.loads(await lab.call(f"{SERVICE}/Show", other=other))
    assert (await lab.call(f"{SERVICE}/Add")).endswith(b":1")
    assert await lab.refusal(f"{SERVICE}/Add", other=True) is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("method", "code"),
    [
        (f"{SERVICE}/Unknown", grpc.StatusCode.UNIMPLEMENTED),
        ("shop.Other/Add", grpc.StatusCode.UNIMPLEMENTED),
        (f"{SERVICE}/Lost", grpc.StatusCode.UNAVAILABLE),
        (f"{SERVICE}/Asleep", grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_what_cannot_be_served_is_said_in_the_words_of_grpc(
    lab: Lab, method: str, code: grpc.StatusCode
) -> None:
    assert await lab.refusal(method) is code


async def test_a_call_ends_when_its_client_has_waited_long_enough(lab: Lab) -> None:
    assert await lab.refusal(f"{SERVICE}/Wait", timeout=0.3) is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_names_of_metadata_with_underscores_are_refused(lab: Lab) -> None:
    """An application may take `x_user` for `x-user`, which filters and policies look at."""
    metadata = (("x_user", "forged"),)
    code = await lab.refusal(f"{SERVICE}/Add", metadata=metadata)
    assert code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}
