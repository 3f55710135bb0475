"""Statuses in a real API server: who writes, when, and what stays."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from typing import Any

from penstock.core.objects import Broken
from penstock.gatewayapi.requested_addresses import SENTINEL
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds.resource import Resource
from support.kube import KubeApi, gateway_api_crds, path_of, policy_crds
from support.objects import GATEWAY_API, gateway_api_raw
from support.replicas import LAB, LEASE, QUICK, Replica, replica, running
from support.source_suite import eventually
from support.status_objects import (
    conditions,
    gateway,
    get,
    made_anew,
    policy,
    put_status,
    route,
    settled,
)


async def test_conditions_appear(api: KubeApi, objects: list[dict[str, Any]]) -> None:
    async with replica(api):
        await settled(api, *objects)
        the_class, the_gateway, the_route, the_policy = (get(api, raw) for raw in objects)
        assert conditions(the_class["status"]) == {"Accepted": "True", "SupportedVersion": "True"}
        assert conditions(the_gateway["status"])["Accepted"] == "True"
        assert the_gateway["status"]["addresses"][0]["type"] == "IPAddress"
        (listener,) = the_gateway["status"]["listeners"]
        assert (listener["name"], listener["attachedRoutes"]) == ("web", 1)
        (parent,) = the_route["status"]["parents"]
        assert parent["parentRef"] == the_route["spec"]["parentRefs"][0]
        wanted = {"Accepted": "True", "ResolvedRefs": "False"}
        await eventually(lambda: conditions(get(api, the_route)["status"]["parents"][0]) == wanted)
        assert conditions(the_policy["status"]) == {"Valid": "True"}


async def test_nothing_is_written_when_nothing_changed(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    async with replica(api, "one", terms=QUICK) as one:
        await settled(api, *objects)
        await one.idle()
    before = [get(api, raw)["metadata"]["resourceVersion"] for raw in objects]
    async with replica(api, "two", terms=QUICK) as two:
        await two.idle()
        api.apply(gateway() | {"metadata": {**gateway()["metadata"], "labels": {"a": "b"}}})
        await eventually(lambda: two.world.compiler.db.gateways.snapshot() != {})
        assert two.writer.writes == 0
    after = [get(api, raw)["metadata"]["resourceVersion"] for raw in objects]
    assert after[:1] + after[2:] == before[:1] + before[2:]


async def test_a_status_that_was_told_is_written_without_being_read(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    marks = {"labels": {"team": "shop"}, "annotations": {"example.com/why": "a test"}}
    for raw in objects:
        api.apply(raw | {"metadata": raw["metadata"] | marks})
    specs = [get(api, raw)["spec"] for raw in objects]
    async with replica(api) as one:
        await settled(api, *objects)
        await one.idle()
        assert one.writer.writes >= len(objects)
        assert one.writer.reads == 0
    assert [get(api, raw)["metadata"] | marks for raw in objects] == [
        get(api, raw)["metadata"] for raw in objects
    ]
    assert [get(api, raw)["spec"] for raw in objects] == specs


async def test_what_others_wrote_stays(api: KubeApi, objects: list[dict[str, Any]]) -> None:
    the_class, the_gateway, the_route, _ = objects
    condition = {
        "type": "example.com/Seen", "status": "True", "reason": "Seen", "message": "",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    theirs = {
        "controllerName": "example.com/other",
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"},
        "conditions": [condition],
    }

    def add_condition(status: dict[str, Any]) -> None:
        status.setdefault("conditions", []).insert(0, condition)

    def add_conditions(status: dict[str, Any]) -> None:
        add_condition(status)
        web = {"name": "web", "attachedRoutes": 7, "supportedKinds": [], "conditions": [condition]}
        status["listeners"] = [web]

    put_status(api, the_route, lambda status: status.setdefault("parents", []).append(theirs))
    put_status(api, the_gateway, add_conditions)
    put_status(api, the_class, add_condition)
    async with replica(api):
        await settled(api, *objects)
        assert get(api, the_route)["status"]["parents"][0] == theirs
        gateway_status = get(api, the_gateway)["status"]
        assert gateway_status["conditions"][0] == condition
        (listener,) = gateway_status["listeners"]
        assert listener["conditions"][0] == condition
        assert {"Accepted", "Programmed"} < conditions(listener).keys()
        assert listener["attachedRoutes"] == 1
        assert get(api, the_class)["status"]["conditions"][0] == condition
        api.apply(route({"name": "other"}))
        await eventually(lambda: get(api, the_route)["status"]["parents"] == [theirs])


async def test_status_follows_other_objects_and_keeps_the_time_of_what_stays(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    _, the_gateway, the_route, _ = objects

    def parent() -> dict[str, Any]:
        (found,) = get(api, the_route)["status"]["parents"]
        return dict(found)

    async with replica(api):
        await settled(api, *objects)
        before = {one["type"]: one for one in parent()["conditions"]}
        await asyncio.sleep(1.1)  # times of transition are in seconds
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "b", "namespace": "status"},
            "spec": {"clusterIP": "None", "ports": [{"port": 80}]},
        }
        api.apply(service)
        try:
            await eventually(lambda: conditions(parent())["ResolvedRefs"] == "True")
        finally:
            api.delete(service)
        after = {one["type"]: one for one in parent()["conditions"]}
        assert after["Accepted"] == before["Accepted"]
        times = [one["ResolvedRefs"]["lastTransitionTime"] for one in (before, after)]
        assert times[0] < times[1]
        api.delete(the_route)
        await eventually(
            lambda: get(api, the_gateway)["status"]["listeners"][0]["attachedRoutes"] == 0
        )


async def test_one_of_two_writes_and_the_other_takes_over_when_it_is_killed(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    async with replica(api, "one", terms=QUICK) as one:
        await settled(api, *objects)
        async with replica(api, "two", terms=QUICK) as two:
            await two.world.synced.wait()
            for port in range(81, 84):
                api.apply(route(port=port))
                await settled(api, *objects)
            assert two.writer.writes == 0
            assert get(api, LEASE)["spec"]["holderIdentity"] == "one"
            await one.stop()
            api.apply(route(port=90))
            await settled(api, *objects)
            assert get(api, LEASE)["spec"]["holderIdentity"] == "two"
            assert two.leads
            assert not one.leads


def report(one: Replica, had: Iterable[Resource]) -> None:
    """Have a node say that it has *had*."""
    said = node_pb2.NodeReport(node="n1")
    for each in had:
        said.resources.add(type_url=each.type_url, name=each.name, version=each.version)
    one.world.acknowledgements.on_report("n1", said, True)


async def test_who_takes_over_leaves_what_is_in_force_while_something_is_on_its_way(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    _, the_gateway, the_route, _ = objects
    metadata = the_route["metadata"] | {"name": "more"}
    match = {"path": {"type": "PathPrefix", "value": "/more"}}
    (rule,) = the_route["spec"]["rules"]
    spec = the_route["spec"] | {"rules": [rule | {"matches": [match]}]}
    more = the_route | {"metadata": metadata, "spec": spec}
    api.delete(more)

    def gateway_says() -> tuple[str | None, int]:
        status = get(api, the_gateway).get("status", {})
        attached = sum(each["attachedRoutes"] for each in status.get("listeners", ()))
        return conditions(status).get("DataPlaneAcked"), attached

    async with replica(api) as one:
        await settled(api, the_gateway)
        had = tuple(one.world.compiler.resources("n1"))
        report(one, had)
        await eventually(lambda: gateway_says() == ("True", 1))
    api.apply(more)
    try:
        two = Replica(api, "two", LAB)
        report(two, had)
        async with running(two):
            await settled(api, more)
            await eventually(lambda: two.writer.waiting == 0)
            assert gateway_says() == ("True", 1)
            report(two, two.world.compiler.resources("n1"))
            await eventually(lambda: gateway_says() == ("True", 2))
    finally:
        api.delete(more)


async def test_a_gateway_whose_class_is_deleted_is_not_programmed_any_more(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    the_class, the_gateway, *_ = objects
    others = gateway_api_raw("GatewayClass", "none", {"controllerName": "example.com/o"}, "")
    untouched = the_gateway | {
        "metadata": the_gateway["metadata"] | {"name": "never-ours"},
        "spec": the_gateway["spec"] | {"gatewayClassName": "none"},
    }
    theirs = {
        "type": "Programmed", "status": "True", "reason": "Programmed", "message": "theirs",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    api.apply(untouched)
    put_status(api, untouched, lambda status: status.update(conditions=[theirs]))

    def says(**wanted: str) -> bool:
        return conditions(get(api, the_gateway)["status"]) == wanted

    try:
        async with replica(api) as one:
            await settled(api, the_gateway)
            report(one, one.world.compiler.resources("n1"))
            await eventually(
                lambda: conditions(get(api, the_gateway)["status"]).get("DataPlaneAcked") == "True"
            )
            await asyncio.to_thread(api.delete, the_class)
            await eventually(lambda: says(Accepted="Unknown", Programmed="False"))
            status = get(api, the_gateway)["status"]
            assert "GatewayClass status does not exist" in status["conditions"][0]["message"]
            assert not status.get("listeners")
            assert not status.get("addresses")
            assert get(api, untouched)["status"]["conditions"] == [theirs]
            await asyncio.to_thread(api.apply, others)
            await one.idle()
            assert get(api, untouched)["status"]["conditions"] == [theirs]
            await asyncio.to_thread(api.apply, the_class)
            await eventually(
                lambda: conditions(get(api, the_gateway)["status"]).get("Accepted") == "True"
            )
            assert get(api, the_gateway)["status"]["listeners"]
    finally:
        for raw in (untouched, others):
            api.delete(raw)


async def test_objects_that_somebody_writes_all_the_time_are_written_at_most_each_second(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    """Another controller removes our entry again and again, which also makes conflicts."""
    the_route = objects[2]
    loop = asyncio.get_running_loop()

    written = set[str]()

    def remove_ours(status: dict[str, Any]) -> None:
        if status.get("parents"):
            written.add(api.request("GET", path_of(the_route))[1]["metadata"]["resourceVersion"])
        status["parents"] = []

    async with replica(api):
        await settled(api, *objects)
        began = loop.time()
        while loop.time() - began < 3.0:
            await asyncio.to_thread(put_status, api, the_route, remove_ours)
        took = loop.time() - began
        assert 2 <= len(written) <= took + 2  # the first one was there before
        await settled(api, *objects)


async def test_object_that_others_write_all_the_time_gets_its_status(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    """Nearly every write meets a newer version: 409."""
    the_route = objects[2]
    storm = {
        "apiVersion": GATEWAY_API,
        "kind": "HTTPRoute",
        "metadata": {"annotations": {}},
    }
    over = threading.Event()

    def write(name: str) -> None:
        number = 0
        while not over.is_set():
            number += 1
            body = storm | {"metadata": {"annotations": {name: str(number)}}}
            api.request("PATCH", path_of(the_route), body, "application/merge-patch+json")

    async with replica(api) as one:
        await eventually(lambda: one.leads)
        threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        try:
            api.apply(route({"name": "g"}, port=81))
            await asyncio.sleep(2.0)
        finally:
            over.set()
        await settled(api, *objects)
        (parent,) = get(api, the_route)["status"]["parents"]
        assert "sectionName" not in parent["parentRef"]


async def test_policy_that_is_not_understood_any_more_says_so(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    raw = objects[3]
    async with replica(api) as one:
        await settled(api, *objects)
        api.apply(policy({"endpointSelector": {}, "ingress": [{"rules": {}}]}))
        await settled(api, *objects)
        (valid,) = get(api, raw)["status"]["conditions"]
        assert (valid["status"], valid["observedGeneration"]) == ("False", 2)
        assert "an earlier version stays in force" in valid["message"]
        name = NamespacedName("status", "p")
        assert not isinstance(one.world.compiler.db.policies.snapshot()[name], Broken)
        api.apply(raw)
        await settled(api, *objects)
        (valid,) = get(api, raw)["status"]["conditions"]
        assert (valid["status"], valid["observedGeneration"]) == ("True", 3)


async def test_the_reach_of_an_address_is_kept_so_that_it_is_written_once(api: KubeApi) -> None:
    raw = gateway()
    raw["spec"]["addresses"] = [{"routability": SENTINEL}, {"routability": "Cluster"}]
    made_anew(api)
    api.apply(raw)
    async with replica(api) as one:
        await settled(api, raw)
        status = get(api, raw)["status"]
        assert [each["routability"] for each in status["addresses"]] == [SENTINEL]
        assert conditions(status)["AddressesAssigned"] == "False"
        await one.idle()
        before = get(api, raw)["metadata"]["resourceVersion"]
        one.writer.mark(ObjectRef("Gateway", "status", "g"))
        await one.idle()
        assert get(api, raw)["metadata"]["resourceVersion"] == before


async def test_leader_stops_while_the_server_is_away_and_goes_on_afterwards(
    bare_api: KubeApi,
) -> None:
    bare_api.install([*gateway_api_crds(), *policy_crds()])
    objects = made_anew(bare_api)
    async with replica(bare_api, terms=QUICK) as one:
        await settled(bare_api, *objects)
        bare_api.kill_api_server()
        await eventually(lambda: not one.leads)
        bare_api.spawn_api_server()
        await asyncio.to_thread(bare_api.wait_until_ready)
        bare_api.apply(route(port=82))
        await settled(bare_api, *objects)
        assert get(bare_api, LEASE)["spec"]["leaseTransitions"] == 0


async def test_objects_whose_statuses_do_not_fit_into_etcd_delay_no_others(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    large = _as_large_as_can_be(api, 6)
    try:
        async with replica(api) as one:
            await settled(api, *objects)
            await eventually(lambda: sorted(one.writer.waiting_for) == large)
            async with asyncio.timeout(60.0):  # each would wait for half of that
                for port in (81, 82, 83, 84):
                    raw = route(port=port)
                    api.apply(raw)
                    await settled(api, raw)
    finally:
        for ref in large:
            api.delete(policy({}) | {"metadata": {"name": ref.name, "namespace": ref.namespace}})


def _as_large_as_can_be(api: KubeApi, count: int) -> list[ObjectRef]:
    """Make policies to which etcd lets nothing be added."""
    size, made = 1_573_000, 0
    while made < count:
        raw = policy({"endpointSelector": {}, "ingress": [{}], "description": "x" * size})
        raw["metadata"] = {"name": f"large-{made}", "namespace": "status"}
        status, _ = api.request("POST", path_of(raw).rpartition("/")[0], raw)
        made, size = (made + 1, size) if status == 201 else (made, size - 50)
    return [ObjectRef("CiliumNetworkPolicy", "status", f"large-{n}") for n in range(count)]


async def test_misplaced_rules_close_a_policy_and_are_told(api: KubeApi) -> None:
    """Beside toPorts instead of inside it, the rules would be lost and port 80 open."""
    rules = {"http": [{"method": "GET"}]}
    ports = {"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}], "rules": rules}
    raw = policy({"endpointSelector": {}, "ingress": [ports]})
    api.namespace("status")
    api.delete(LEASE)
    api.delete(raw)
    api.apply(raw)
    assert get(api, raw)["spec"]["ingress"][0]["rules"] == rules
    try:
        async with replica(api) as one:
            await settled(api, raw)
            (valid,) = get(api, raw)["status"]["conditions"]
            assert (valid["type"], valid["status"]) == ("Valid", "False")
            assert "spec.ingress[0].rules" in valid["message"]
            name = NamespacedName("status", "p")
            assert isinstance(one.world.compiler.db.policies.snapshot()[name], Broken)
    finally:
        api.delete(raw)
