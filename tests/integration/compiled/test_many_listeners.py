"""A real Envoy with two thousand HTTPS listeners on one port, of which one comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.compiler.compile import Compiler
from support import many_listeners, objects
from support.compiled_envoy import Surroundings, compiled_envoy, socket_name
from support.http_backend import http_backend
from support.tls_client import client_context, tls_connection

COUNT, NEW = 2_000, 9_999
LISTENER = f"gateway/shop/edge/{many_listeners.PORT}"


@pytest.mark.asyncio
async def test_a_listener_more_answers_and_cuts_no_connection_of_the_others(tmp_path: Path) -> None:
    compiler = Compiler()
    compiler.apply(objects.added(many_listeners.cluster(COUNT)))
    async with http_backend("one") as one, compiled_envoy(tmp_path, drain=1) as envoy:
        around = Surroundings(endpoints={"10.244.0.1": one})
        await envoy.run(compiler.resources("n1"), around)
        at = envoy.folder / socket_name(LISTENER)
        known, new = many_listeners.hostname(COUNT - 1), many_listeners.hostname(NEW)
        async with tls_connection(at, known, client_context()) as kept:
            assert (await kept.ask(known, "/")).status == 200
            more = (
                many_listeners.secret("own", new),
                many_listeners.listener_set(NEW, "own"),
                many_listeners.route(NEW),
            )
            compiler.apply(objects.added(more))
            await envoy.run(compiler.resources("n1"), around)
            async with tls_connection(at, new, client_context()) as connection:
                assert (await connection.ask(new, "/")).status == 200
            assert (await kept.ask(known, "/")).status == 200
