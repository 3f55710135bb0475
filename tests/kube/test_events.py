"""Kubernetes Events in a real API server."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from penstock.meta.names import ObjectRef
from penstock.runtime.clock import SystemClock
from penstock.sources.kubernetes import event_writer
from penstock.sources.kubernetes.connection import Answer, ApiServer, Call
from penstock.sources.kubernetes.event_writer import EventWriter
from support.kube import KubeApi
from support.nodes import running
from support.real_envoy import eventually

OURS = "penstock.io/controller"


def events(api: KubeApi, namespace: str, name: str) -> list[dict[str, Any]]:
    status, said = api.request("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")
    assert status == 200, said
    return [one for one in said["items"] if one["regarding"]["name"] == name]


def status(value: str, reason: str = "Invalid") -> dict[str, Any]:
    condition = {"type": "Valid", "status": value, "reason": reason, "message": "a port is none"}
    return {"conditions": [condition]}


class Writer:
    """An EventWriter about policies of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.events = EventWriter(SystemClock(), random.random, instance="one", controller=OURS)

    def changed(self, name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        ref = ObjectRef("CiliumNetworkPolicy", self.namespace, name)
        self.events.changed(
            ref, api_version="cilium.io/v2", uid=f"uid-{name}", before=before, after=after
        )

    async def run(self, api: KubeApi, check: Callable[[], bool | Awaitable[bool]]) -> None:
        """Write until *check* holds."""
        server = ApiServer(api.access, SystemClock(), {})
        async with server.session() as session:

            async def send(call: Call) -> Answer:
                return await server.call(session, call, 10.0)

            async with running(self.events.run(send)):
                await eventually(check)


async def test_an_event_says_what_became_of_an_object(api: KubeApi) -> None:
    api.namespace("events-one")
    writer = Writer("events-one")
    writer.changed("p", {}, status("False"))
    await writer.run(api, lambda: writer.events.writes == 1)
    (found,) = events(api, "events-one", "p")
    assert found["type"] == "Warning"
    assert found["reason"] == "Invalid"
    assert found["note"] == "Valid: Invalid: a port is none"
    assert found["regarding"]["uid"] == "uid-p"
    assert found["reportingController"] == OURS


async def test_the_same_again_is_counted_in_one_event(api: KubeApi) -> None:
    api.namespace("events-again")
    writer = Writer("events-again")
    for _ in range(3):
        writer.changed("p", status("True"), status("False"))
        writer.changed("p", status("False"), status("True"))
    await writer.run(api, lambda: writer.events.writes == 6)
    found = {one["reason"]: one["series"]["count"] for one in events(api, "events-again", "p")}
    assert found == {"Invalid": 3, "Valid": 3}


async def test_an_event_that_expired_is_written_anew(api: KubeApi) -> None:
    api.namespace("events-anew")
    writer = Writer("events-anew")
    writer.changed("p", status("True"), status("False"))
    await writer.run(api, lambda: writer.events.writes == 1)
    path = "/apis/events.k8s.io/v1/namespaces/events-anew/events"
    assert api.request("DELETE", path)[0] == 200
    writer.changed("p", status("False"), status("True"))
    writer.changed("p", status("True"), status("False"))
    await writer.run(api, lambda: writer.events.writes == 3)
    assert len(events(api, "events-anew", "p")) == 2


async def test_one_object_that_flaps_is_limited_and_holds_up_no_other(api: KubeApi) -> None:
    api.namespace("events-flap")
    writer = Writer("events-flap")
    burst = int(event_writer.EACH_BURST)
    for index in range(3 * burst):
        writer.changed("flaps", status("True"), status("False", f"R{index}"))
    writer.changed("other", status("True"), status("False"))
    await writer.run(api, lambda: writer.events.writes == burst + 1)
    assert writer.events.left_out == 2 * burst
    assert len(events(api, "events-flap", "other")) == 1


async def test_events_that_the_server_does_not_take_are_left_out(
    api: KubeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = Writer("there-is-no-such-namespace")
    writer.changed("p", {}, status("False"))
    writer.changed("q", {}, status("False"))
    await writer.run(api, lambda: writer.events.left_out == 2)
    assert capsys.readouterr().out.count("Events cannot be written") == 1
