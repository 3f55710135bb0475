"""Which Events are written; a real API server takes them in tests/kube."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock.meta.names import ObjectRef
from penstock.sources.kubernetes.connection import Answer, Call
from penstock.sources.kubernetes.event_writer import EventWriter
from support.fake_clock import FakeClock

INGRESS = ObjectRef("Ingress", "shop", "web")
POLICY = ObjectRef("CiliumNetworkPolicy", "shop", "web")
WRONG = {"conditions": [{"type": "Valid", "status": "False", "reason": "Invalid", "message": "x"}]}


@pytest.fixture
def writer() -> EventWriter:
    return EventWriter(FakeClock(), lambda: 0.5, instance="one", controller="penstock.io/c")


async def written(writer: EventWriter, count: int) -> list[dict[str, Any]]:
    """Return the bodies of the first *count* requests."""
    sent: list[dict[str, Any]] = []
    enough = asyncio.Event()

    async def send(call: Call) -> Answer:
        assert isinstance(call.body, dict)
        sent.append(call.body)
        if len(sent) == count:
            enough.set()
        return Answer(status=201, body=call.body)

    task = asyncio.create_task(writer.run(send))
    try:
        async with asyncio.timeout(30):
            await enough.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return sent


async def test_of_an_object_that_is_made_anew_everything_is_news(writer: EventWriter) -> None:
    for uid in ("old", "old", "new"):
        writer.troubled(INGRESS, api_version="networking.k8s.io/v1", uid=uid, problems="wrong")
        writer.changed(POLICY, api_version="cilium.io/v2", uid=f"p-{uid}", before={}, after=WRONG)
    uids = [body["regarding"]["uid"] for body in await written(writer, 4)]
    assert uids == ["old", "p-old", "new", "p-new"]
