"""Statuses in a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from penstock.compiler.kinds import KINDS
from penstock.compiler.settings import Reach, Settings
from penstock.controlplane.config import TOLD_KINDS
from penstock.controlplane.status_feed import StatusFeed
from penstock.controlplane.world import World
from penstock.core.objects import Broken
from penstock.gatewayapi.requested_addresses import SENTINEL
from penstock.gatewayapi.status import CONTROLLER_NAME
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.runtime.clock import SystemClock
from penstock.sources.kubernetes.event_writer import EventWriter
from penstock.sources.kubernetes.observed import Observed
from penstock.sources.kubernetes.source import KubernetesSource
from penstock.sources.kubernetes.status_writer import StatusWriter
from penstock.status.lease import Terms
from support.kube import KubeApi, gateway_api_crds, path_of, policy_crds
from support.source_suite import eventually

QUICK = Terms(duration=2.0, deadline=1.4, renew=0.3, answer=0.5)
LAB = Settings()
CLUSTER = Settings(reach=Reach.CLUSTER, gateway_pool="192.0.2.0/28")
GATEWAY_API = "gateway.networking.k8s.io/v1"
LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "penstock-status", "namespace": "kube-system"},
}


class KilledWriter(StatusWriter):
    """Leaves what a controller leaves that is killed: a Lease that is not given back."""

    async def _release(self, session: aiohttp.ClientSession) -> None:
        """Say nothing."""


class Replica:
    """What a controller has for statuses, over the real server."""

    def __init__(self, api: KubeApi, name: str, settings: Settings) -> None:
        clock = SystemClock()
        self.world = World(settings)
        observed = Observed(TOLD_KINDS)
        self._source = KubernetesSource(api.access, KINDS, clock, random.random, observed=observed)
        self._feed = StatusFeed(self.world, clock, self._source.outdated)
        self.writer = KilledWriter(
            api.access,
            clock,
            random.random,
            self._feed.statuses,
            identity=name,
            namespace="kube-system",
            terms=QUICK,
            environment={},
            observed=observed,
            events=EventWriter(clock, random.random, instance=name, controller=CONTROLLER_NAME),
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def leads(self) -> bool:
        return self.writer.leads

    def start(self) -> None:
        work = (self._source.run(self.world.take), self._feed.run(self.writer))
        self._tasks = [asyncio.create_task(one) for one in work]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def replica(
    api: KubeApi, name: str = "one", settings: Settings = LAB
) -> AsyncGenerator[Replica]:
    made = Replica(api, name, settings)
    made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
def objects(api: KubeApi) -> list[dict[str, Any]]:
    """Make a Gateway of ours with a route, and a policy; return them."""
    return made_anew(api)


def made_anew(api: KubeApi) -> list[dict[str, Any]]:
    api.namespace("status")
    made = [
        gateway_class(),
        gateway(),
        route(),
        policy({"endpointSelector": {}, "ingress": [{}]}),
    ]
    for raw in made:
        api.delete(raw)
    api.delete(LEASE)
    for raw in made:
        api.apply(raw)
    return made


def gateway_class() -> dict[str, Any]:
    return {
        "apiVersion": GATEWAY_API,
        "kind": "GatewayClass",
        "metadata": {"name": "status"},
        "spec": {"controllerName": CONTROLLER_NAME},
    }


def gateway() -> dict[str, Any]:
    return {
        "apiVersion": GATEWAY_API,
        "kind": "Gateway",
        "metadata": {"name": "g", "namespace": "status"},
        "spec": {
            "gatewayClassName": "status",
            "listeners": [{"name": "web", "port": 80, "protocol": "HTTP"}],
        },
    }


def route(*parents: dict[str, Any], port: int = 80) -> dict[str, Any]:
    return {
        "apiVersion": GATEWAY_API,
        "kind": "HTTPRoute",
        "metadata": {"name": "r", "namespace": "status"},
        "spec": {
            "parentRefs": list(parents) or [{"name": "g", "sectionName": "web"}],
            "rules": [{"backendRefs": [{"name": "b", "port": port}]}],
        },
    }


def policy(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p", "namespace": "status"},
        "spec": spec,
    }


def get(api: KubeApi, raw: dict[str, Any]) -> dict[str, Any]:
    status, said = api.request("GET", path_of(raw))
    assert status == 200, said
    return dict(said)


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {one["type"]: one["status"] for one in status.get("conditions", [])}


def put_status(api: KubeApi, raw: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> None:
    """Write a status as another controller would."""
    while True:
        now = get(api, raw)
        change(now.setdefault("status", {}))
        status, said = api.request("PUT", f"{path_of(raw)}/status", now)
        if status != 409:
            assert status == 200, said
            return


async def settled(api: KubeApi, *raws: dict[str, Any]) -> None:
    """Wait until all objects say what we have to say of their present generation."""

    def said() -> bool:
        return all(is_current(get(api, raw)) for raw in raws)

    await eventually(said)


def is_current(thing: dict[str, Any]) -> bool:
    generation, status = thing["metadata"]["generation"], thing.get("status", {})
    found = [*status.get("conditions", [])]
    for one in status.get("parents", []):
        found += one["conditions"] if one["controllerName"] == CONTROLLER_NAME else []
    mine = [one for one in found if one["type"] in ("Accepted", "Programmed", "Valid")]
    return bool(mine) and all(one.get("observedGeneration") == generation for one in mine)


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
    async with replica(api, "one") as one:
        await settled(api, *objects)
        await eventually(lambda: one.writer.waiting == 0)
    before = [get(api, raw)["metadata"]["resourceVersion"] for raw in objects]
    async with replica(api, "two") as two:
        await eventually(lambda: two.leads and two.writer.waiting == 0)
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
        await eventually(lambda: one.writer.waiting == 0)
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

    put_status(api, the_route, lambda status: status.setdefault("parents", []).append(theirs))
    put_status(api, the_gateway, add_condition)
    put_status(api, the_class, add_condition)
    async with replica(api):
        await settled(api, *objects)
        assert get(api, the_route)["status"]["parents"][0] == theirs
        assert get(api, the_gateway)["status"]["conditions"][0] == condition
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
    loop = asyncio.get_running_loop()
    async with replica(api, "one") as one:
        await settled(api, *objects)
        async with replica(api, "two") as two:
            await two.world.synced.wait()
            for port in range(81, 84):
                api.apply(route(port=port))
                await settled(api, *objects)
            assert two.writer.writes == 0
            assert get(api, LEASE)["spec"]["holderIdentity"] == "one"
            await one.stop()
            killed_at = loop.time()
            api.apply(route(port=90))
            await settled(api, *objects)
            assert loop.time() - killed_at < QUICK.duration + 3.0
            assert get(api, LEASE)["spec"]["holderIdentity"] == "two"
            assert two.leads
            assert not one.leads


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
    storm = {"apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": {"annotations": {}}}
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
        await eventually(lambda: one.writer.waiting == 0)
        before = get(api, raw)["metadata"]["resourceVersion"]
        one.writer.mark(ObjectRef("Gateway", "status", "g"))
        await eventually(lambda: one.writer.waiting == 0)
        assert get(api, raw)["metadata"]["resourceVersion"] == before


async def test_leader_stops_while_the_server_is_away_and_goes_on_afterwards(
    bare_api: KubeApi,
) -> None:
    bare_api.install([*gateway_api_crds(), *policy_crds()])
    objects = made_anew(bare_api)
    async with replica(bare_api) as one:
        await settled(bare_api, *objects)
        bare_api.kill_api_server()
        await eventually(lambda: not one.leads)
        bare_api.spawn_api_server()
        await asyncio.to_thread(bare_api.wait_until_ready)
        bare_api.apply(route(port=82))
        await settled(bare_api, *objects)
        assert get(bare_api, LEASE)["spec"]["leaseTransitions"] == 0


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


# LoadBalancers


def balanced(name: str, **spec: Any) -> dict[str, Any]:
    port = {"name": "http", "port": 80}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "status"},
        "spec": {"type": "LoadBalancer", "ports": [port], **spec},
    }


@pytest.fixture
def service(api: KubeApi) -> Iterator[dict[str, Any]]:
    """Make a Service that is ours to balance."""
    api.namespace("status")
    api.delete(LEASE)
    made = balanced("ours", loadBalancerIP="192.0.2.9")
    api.delete(made)
    api.apply(made)
    yield made
    api.delete(made)


def ingress(api: KubeApi, raw: dict[str, Any]) -> list[dict[str, Any]]:
    return list(get(api, raw)["status"]["loadBalancer"].get("ingress", []))


async def test_a_load_balancer_gets_its_address_once(api: KubeApi, service: dict[str, Any]) -> None:
    async with replica(api, settings=CLUSTER) as one:
        await eventually(lambda: ingress(api, service) == [{"ip": "192.0.2.9", "ipMode": "VIP"}])
        await eventually(lambda: one.writer.waiting == 0)
        api.apply(service | {"metadata": {**service["metadata"], "labels": {"a": "b"}}})
        version = get(api, service)["metadata"]["resourceVersion"]
        services, key = one.world.compiler.db.services, NamespacedName("status", "ours")
        await eventually(lambda: services.snapshot()[key].metadata.resource_version == version)
        await eventually(lambda: one.writer.waiting == 0)
        assert get(api, service)["metadata"]["resourceVersion"] == version


async def test_a_load_balancer_of_another_class_is_left_alone(
    api: KubeApi, service: dict[str, Any]
) -> None:
    other = balanced("others", loadBalancerClass="x.test/other")
    api.delete(other)
    api.apply(other)
    try:
        async with replica(api, settings=CLUSTER):
            await eventually(lambda: bool(ingress(api, service)))
            assert ingress(api, other) == []
    finally:
        api.delete(other)


async def test_what_is_no_load_balancer_any_more_has_no_address(
    api: KubeApi, service: dict[str, Any]
) -> None:
    async with replica(api, settings=CLUSTER):
        await eventually(lambda: bool(ingress(api, service)))
        assert set(conditions(get(api, service)["status"])) == {"penstock.dev/AddressAssigned"}
        api.apply(balanced("ours", type="ClusterIP"))
        await eventually(lambda: ingress(api, service) == [])
        await eventually(lambda: conditions(get(api, service)["status"]) == {})


def of_x(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": "x", "namespace": "status"},
        "spec": spec,
    }


async def test_experimental_kinds_say_whether_they_hold(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    named = {"group": "gateway.networking.x-k8s.io", "kind": "XBackend", "name": "x"}
    out: dict[str, Any] = route() | {"metadata": {"name": "out", "namespace": "status"}}
    out["spec"]["rules"] = [{"backendRefs": [named]}]
    place = {"hostname": "a.test"}
    backend = {"type": "ExternalHostname", "externalHostname": place, "port": {"number": 80}}
    target = {"group": "", "kind": "Service", "name": "missing"}
    nowhere = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "missing"}
    tracing = {"mode": "Enabled", "provider": {"backendRef": {"name": "missing", "port": 4317}}}
    made = [
        out,
        of_x("XBackend", backend),
        of_x("XBackendTrafficPolicy", {"targetRefs": [target], "retryConstraint": {}}),
        of_x("XTelemetryPolicy", {"targetRefs": [nowhere], "tracing": tracing}),
    ]
    for raw in made:
        api.delete(raw)
        api.apply(raw)
    try:
        async with replica(api):
            await settled(api, *objects, out)
            await eventually(lambda: all(get(api, one).get("status") for one in made))
            _, external, traffic, traced = (get(api, one)["status"] for one in made)
            (at_gateway,) = external["ancestors"]
            assert conditions(at_gateway) == {"Accepted": "True", "ResolvedRefs": "True"}
            (at_service,) = traffic["ancestors"]
            assert at_service["ancestorRef"] == target | {"namespace": "status"}
            (accepted,) = at_service["conditions"]
            assert (accepted["status"], accepted["reason"]) == ("False", "TargetNotFound")
            (at_nobody,) = traced["ancestors"]
            assert at_nobody["ancestorRef"] == nowhere | {"namespace": "status"}
            (accepted,) = at_nobody["conditions"]
            assert (accepted["status"], accepted["reason"]) == ("False", "TargetNotFound")
    finally:
        for raw in made:
            api.delete(raw)


def events_about(api: KubeApi, raw: dict[str, Any]) -> list[tuple[str, str, str]]:
    status, said = api.request("GET", "/apis/events.k8s.io/v1/namespaces/status/events")
    assert status == 200, said
    uid = get(api, raw)["metadata"]["uid"]
    found = [one for one in said["items"] if one["regarding"]["uid"] == uid]
    return [(one["type"], one["reason"], one["note"]) for one in found]


async def test_what_is_wrong_with_an_ingress_is_told_by_events(api: KubeApi) -> None:
    api.namespace("status")
    api.delete(LEASE)
    head = {"apiVersion": "networking.k8s.io/v1"}
    class_ = head | {
        "kind": "IngressClass",
        "metadata": {"name": "penstock"},
        "spec": {"controller": "penstock.dev/ingress-controller"},
    }
    notes = {"nginx.ingress.kubernetes.io/limit-connections": "5"}
    web = head | {
        "kind": "Ingress",
        "metadata": {"name": "web", "namespace": "status", "annotations": notes},
        "spec": {
            "ingressClassName": "penstock",
            "defaultBackend": {"service": {"name": "told", "port": {"number": 80}}},
        },
    }
    behind = balanced("told", type="ClusterIP")

    def told(kind: str, reason: str, note: str) -> bool:
        found = events_about(api, web)
        return any((kind, reason) == one[:2] and note in one[2] for one in found)

    made = [class_, web, behind]
    for raw in made:
        api.delete(raw)
    try:
        for raw in (class_, web):
            api.apply(raw)
        async with replica(api):
            await eventually(lambda: told("Warning", "NotServedAsWritten", "limit-connections"))
            plain = {"name": "web", "namespace": "status", "annotations": None}
            api.apply(web | {"metadata": plain})
            await eventually(lambda: told("Warning", "NotServedAsWritten", "no Service"))
            api.apply(behind)  # a change of another object
            await eventually(lambda: told("Normal", "ServedAsWritten", "everything"))
    finally:
        for raw in made:
            api.delete(raw)


async def test_an_xbackend_says_which_services_have_routes_to_its_pods(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    named = {"group": "gateway.networking.x-k8s.io", "kind": "XBackend", "name": "x"}
    route_: dict[str, Any] = route({"group": "", "kind": "Service", "name": "b"})
    route_ |= {"metadata": {"name": "to-pods", "namespace": "status"}}
    route_["spec"]["rules"] = [{"backendRefs": [named]}]
    labels = {"matchLabels": {"app": "nobody"}}
    selecting = {"type": "EndpointSelector", "endpointSelector": labels, "port": {"number": 80}}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "b", "namespace": "status"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    }
    made = [route_, of_x("XBackend", selecting), service]
    for raw in made:
        api.delete(raw)
        api.apply(raw)
    try:
        async with replica(api):
            await settled(api, *objects, route_)
            await eventually(lambda: get(api, made[1]).get("status"))
            (at_service,) = get(api, made[1])["status"]["ancestors"]
            ref = {"group": "", "kind": "Service", "name": "b", "namespace": "status"}
            assert at_service["ancestorRef"] == ref
            assert conditions(at_service) == {"Accepted": "True", "ResolvedRefs": "True"}
            (accepted, _) = at_service["conditions"]
            assert accepted["message"] == "no pod with these labels is ready"
    finally:
        for raw in made:
            api.delete(raw)
