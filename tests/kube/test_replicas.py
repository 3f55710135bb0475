"""Two controllers over one API server: the same bytes, and an agent that changes between them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock.ads.client import AdsClient
from penstock.ads.dial import ControllersDialer, fixed_controllers
from penstock.ads.fan_out import ReportFanOut
from penstock.ads.join import JoinClient
from penstock.ads.reports import EnvoyVerdicts
from penstock.meta.back_off import BackOff
from penstock.runtime.clock import SystemClock
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName
from penstock.xds.snapshot import Delta
from penstock.xds.verdict import Accepted, Rejection
from support.controllers import Controller, on_network
from support.kube import KubeApi, gateway_api_crds, policy_crds
from support.nodes import Memory, running
from support.penstock_process import eventually as soon
from support.real_envoy import eventually

TOKEN = "0123456789abcdef-given"  # noqa: S105  # of this test
PATIENCE = 60.0
QUICK = BackOff(first=0.05, longest=0.5, spread=1.0)
LATE = "Service shop/late/80/tcp"
GATEWAY_API = "gateway.networking.k8s.io/v1"


def named(kind: str, version: str, name: str, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def service(name: str) -> dict[str, Any]:
    port = {"port": 80, "targetPort": 8080}
    return named("Service", "v1", name, spec={"selector": {"app": name}, "ports": [port]})


def endpoints(name: str, *ips: str) -> dict[str, Any]:
    raw = named(
        "EndpointSlice", "discovery.k8s.io/v1", name,
        addressType="IPv4",
        ports=[{"port": 8080, "protocol": "TCP"}],
        endpoints=[{"addresses": [ip], "conditions": {"ready": True}} for ip in ips],
    )  # fmt: skip
    raw["metadata"]["labels"] = {"kubernetes.io/service-name": name}
    return raw


def pod(name: str, app: str, node: str) -> dict[str, Any]:
    spec = {"nodeName": node, "containers": [{"name": "app", "image": "app"}]}
    raw = named("Pod", "v1", name, spec=spec)
    raw["metadata"]["labels"] = {"app": app}
    return raw


def route(name: str, backend: str) -> dict[str, Any]:
    rules = [{"backendRefs": [{"name": backend, "port": 80}]}]
    parents = [{"name": "gw"}, {"kind": "Service", "group": "", "name": name, "port": 80}]
    return named("HTTPRoute", GATEWAY_API, name, spec={"parentRefs": parents, "rules": rules})


def policy(name: str, app: str, client: str) -> dict[str, Any]:
    spec = {
        "endpointSelector": {"matchLabels": {"app": app}},
        "ingress": [{"fromEndpoints": [{"matchLabels": {"app": client}}]}],
    }
    return named("CiliumNetworkPolicy", "cilium.io/v2", name, spec=spec)


def world() -> list[dict[str, Any]]:
    gateway_class = {
        "apiVersion": GATEWAY_API,
        "kind": "GatewayClass",
        "metadata": {"name": "penstock"},
        "spec": {"controllerName": "penstock.io/controller"},
    }
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    gateway = {"gatewayClassName": "penstock", "listeners": [listener]}
    apps = ("front", "orders", "stock")
    return [
        gateway_class,
        named("Gateway", GATEWAY_API, "gw", spec=gateway),
        *(service(app) for app in apps),
        *(endpoints(app, f"10.244.0.{n}", f"10.244.1.{n}") for n, app in enumerate(apps, 1)),
        *(pod(f"{app}-{node}", app, node) for app in apps for node in ("n1", "n2")),
        *(route(app, app) for app in apps),
        policy("stock", "stock", "orders"),
    ]


class Watcher(Memory):
    """Also notes what it was ever told to remove; its Envoy takes everything, or nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.removed: list[str] = []
        self.verdicts = EnvoyVerdicts()
        self.refuses = ""
        """Why its Envoy takes nothing; "" if it does."""

    async def apply(
        self, type_url: str, upserts: Sequence[Resource], removals: Sequence[str]
    ) -> list[str]:
        self.removed += removals
        self.verdicts.hold(
            Delta(tuple(upserts), tuple(ResourceName(type_url, name) for name in removals))
        )
        if type_url in types.ENVOY_TYPES:
            self._ask_envoy(type_url, upserts, removals)
        return await super().apply(type_url, upserts, removals)

    def _ask_envoy(
        self, type_url: str, upserts: Sequence[Resource], removals: Sequence[str]
    ) -> None:
        taken = {} if self.refuses else {one.name: one.version for one in upserts}
        self.verdicts.on_ack("envoy", Accepted(type_url, taken, tuple(removals)))
        for one in upserts if self.refuses else ():
            said = Rejection(one.key, one.version, one.origins, self.refuses)
            self.verdicts.on_reject("envoy", said)

    def content(self) -> dict[str, bytes]:
        """Return everything that it has, by type and name."""
        return {
            f"{types.short(url)} {name}": one.body
            for url in types.SENDING_ORDER
            for name, one in self.store.of_type(url).items()
        }


class Agent:
    """What an agent has of its controllers; all over real sockets."""

    def __init__(self, site: Site, *controllers: Controller, node: str = "n1") -> None:
        places = fixed_controllers(*(one.place for one in controllers))
        self.memory = Watcher()
        self._join = JoinClient(
            node,
            ca_file=site.bundle,
            token_file=site.token,
            controllers=places,
            clock=SystemClock(),
            random=lambda: 0.0,
            back_off=QUICK,
        )
        self.ads = AdsClient(
            ControllersDialer(places, self._join, lambda: 0.0),
            node,
            apply=self.memory.apply,
            versions=self.memory.versions,
            clock=SystemClock(),
            random=lambda: 0.5,
            back_off=QUICK,
        )

        self._fan_out = ReportFanOut(
            places,
            self._join,
            reports=lambda: self.memory.verdicts.reports(node),
            clock=SystemClock(),
            random=lambda: 0.5,
            back_off=QUICK,
            look_seconds=0.1,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[Agent]:
        join, ads, fan_out = self._join.run(), self.ads.run(), self._fan_out.run()
        async with running(join), running(ads), running(fan_out):
            await eventually(lambda: self.ads.connected and len(self.memory.store) > 0, PATIENCE)
            yield self

    async def has_all_of(self, one: Controller) -> None:
        """Return when it has what this controller means it to have."""

        def has_all() -> bool:
            meant = one.ask("/v1/snapshot?node=n1").get("resources", [])
            return bool(meant) and len(self.memory.store) == len(meant)

        await eventually(has_all, PATIENCE)

    def follows(self, one: Controller) -> bool:
        return self.ads.connected and self.ads.target == f"127.0.0.1:{one.place.ads}"


class Site:
    """An API server with something in it, and how to run controllers over it."""

    def __init__(self, api: KubeApi, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self.token = folder / "token"
        self.bundle = folder / "ca.crt"
        self.token.write_text(TOKEN)

    @contextlib.contextmanager
    def controller(self, name: str, *, synced: bool = True) -> Generator[Controller]:
        options = (
            "--kubeconfig", str(self.api.kubeconfig), "--lease-namespace", "penstock-system",
            "--join-token-file", str(self.token), "--drain-seconds", "0.5",
        )  # fmt: skip
        with on_network(self.folder / name, *options) as made:
            if synced:
                assert soon(made.ready, PATIENCE), made.log.read_text()
                self.publish()
            yield made

    def publish(self) -> None:
        """Do what the kubelet does with the ConfigMap."""
        path = "/api/v1/namespaces/penstock-system/configmaps/penstock-ca"
        self.bundle.write_text(self.api.request("GET", path)[1]["data"]["ca.crt"])


@pytest.fixture
def site(bare_api: KubeApi, tmp_path: Path) -> Site:
    bare_api.install([*gateway_api_crds(), *policy_crds()])
    for name in ("shop", "penstock-system"):
        bare_api.namespace(name)
    for raw in world():
        bare_api.apply(raw)
    return Site(bare_api, tmp_path)


def leads(one: Controller) -> bool:
    return "penstock_status_leader 1.0" in one.get("/metrics")[1]


def acked(site: Site) -> tuple[str, str]:
    """Return reason and message of DataPlaneAcked of the route "orders", as it is written."""
    path = f"/apis/{GATEWAY_API}/namespaces/shop/httproutes/orders"
    status = site.api.request("GET", path)[1].get("status", {})
    found = [
        (one["reason"], one["message"])
        for parent in status.get("parents", [])
        for one in parent["conditions"]
        if one["type"] == "DataPlaneAcked"
    ]
    return found[0] if found else ("", "")


async def _same(agents: Sequence[Agent]) -> bool:
    contents = [one.memory.content() for one in agents]
    return all(one == contents[0] for one in contents[1:])


async def test_replicas_give_the_same_bytes_whenever_they_started(site: Site) -> None:
    with site.controller("one") as one:
        async with Agent(site, one).running() as first:
            site.api.apply(service("late"))
            site.api.apply(endpoints("late", "10.244.0.9"))
            site.api.delete(service("orders"))
            site.api.apply(pod("late-n1", "late", "n1"))
            site.api.apply(service("orders"))
            with site.controller("two") as two:
                async with Agent(site, two).running() as second:
                    await eventually(lambda: LATE in second.memory.content(), PATIENCE)
                    await eventually(lambda: _same((first, second)), PATIENCE)
                    names = second.memory.content()
                    assert len(names) > 40
                    site.api.apply(policy("front", "front", "late"))
                    site.api.apply(endpoints("stock", "10.244.0.3"))
                    await eventually(lambda: second.memory.content() != names, PATIENCE)
                    await eventually(lambda: _same((first, second)), PATIENCE)


async def test_an_agent_whose_controller_is_killed_goes_to_the_other_and_loses_nothing(
    site: Site,
) -> None:
    with site.controller("one") as one, site.controller("two") as two:
        async with Agent(site, one, two).running() as agent:
            await eventually(lambda: agent.follows(one), PATIENCE)
            await agent.has_all_of(one)
            before = agent.memory.content()
            one.kill()
            await eventually(lambda: agent.follows(two), PATIENCE)
            assert agent.memory.content() == before
            site.api.apply(endpoints("late", "10.244.0.9"))
            site.api.apply(service("late"))
            await eventually(lambda: LATE in agent.memory.content(), PATIENCE)
            assert agent.memory.removed == []


async def test_a_controller_that_ends_sends_its_agents_away_first(site: Site) -> None:
    with site.controller("one") as one, site.controller("two") as two:
        async with Agent(site, one, two).running() as agent:
            await eventually(lambda: agent.follows(one), PATIENCE)
            one.process.send_signal(signal.SIGTERM)
            await eventually(lambda: one.get("/readyz") == (503, "this controller is ending\n"))
            await eventually(lambda: agent.follows(two), PATIENCE)
            assert agent.memory.removed == []
            assert await asyncio.to_thread(one.process.wait, PATIENCE) == 0


async def test_a_controller_that_cannot_reach_the_api_server_takes_nothing_away(
    site: Site,
) -> None:
    with site.controller("one") as one:
        async with Agent(site, one).running() as agent:
            await agent.has_all_of(one)
            before = agent.memory.content()
            site.api.kill_api_server()
            one.kill()
            one.start()
            await eventually(lambda: one.get("/healthz")[0] == 200, PATIENCE)
            code, said = one.get("/readyz")
            assert code == 503
            assert "not everything is known yet" in said
            site.api.spawn_api_server()
            site.api.wait_until_ready()
            await eventually(lambda: agent.follows(one), PATIENCE)
            assert agent.memory.content() == before
            assert agent.memory.removed == []


async def test_metrics_tell_what_a_controller_does(site: Site) -> None:
    with site.controller("one") as one:
        async with Agent(site, one).running():
            await eventually(lambda: "penstock_nodes_connected 1.0" in one.get("/metrics")[1])
            text = one.get("/metrics")[1]
    for line in (
        'penstock_objects{kind="HTTPRoute"} 3.0',
        'penstock_joins_total{result="accepted"} 1.0',
        "penstock_synced 1.0",
        'penstock_watch_restarts_total{kind="services"} 0.0',
        'penstock_node_resources{node="n1"}',
        "penstock_compile_seconds_count",
        "penstock_acks_total",
        "penstock_status_leader",
        'penstock_events_total{result="written"}',
    ):
        assert line in text


async def leader_and_other(one: Controller, two: Controller) -> tuple[Controller, Controller]:
    """Return who writes statuses, and who does not."""
    await eventually(lambda: leads(one) or leads(two), PATIENCE)
    return (one, two) if leads(one) else (two, one)


async def test_the_leader_knows_what_is_in_force_on_nodes_that_the_other_serves(
    site: Site,
) -> None:
    with site.controller("one") as one, site.controller("two") as two:
        leader, other = await leader_and_other(one, two)
        async with Agent(site, other, leader).running() as agent:
            await eventually(lambda: agent.follows(other), PATIENCE)
            whole = ("Acked", "in force on 1 of 1 nodes")
            await eventually(lambda: acked(site) == whole, PATIENCE)
            assert leader.connected() == []
            agent.memory.refuses = "no such thing"
            site.api.apply(route("orders", "stock"))
            await eventually(lambda: acked(site)[0] == "Rejected", PATIENCE)
            assert "no such thing" in acked(site)[1]
            agent.memory.refuses = ""
            site.api.apply(route("orders", "front"))
            await eventually(lambda: acked(site) == whole, PATIENCE)
        site.api.apply(route("orders", "stock"))
        away = "in force on 0 of 1 nodes; not yet on n1 (not connected)"
        await eventually(lambda: acked(site) == ("Pending", away), PATIENCE)
        async with Agent(site, other, leader).running():
            await eventually(lambda: acked(site) == whole, PATIENCE)


async def test_the_next_leader_knows_it_at_once_and_one_that_starts_again_is_told(
    site: Site,
) -> None:
    with site.controller("one") as one, site.controller("two") as two:
        leader, other = await leader_and_other(one, two)
        async with Agent(site, leader, other).running():
            await eventually(lambda: acked(site)[0] == "Acked", PATIENCE)
            leader.kill()
            await eventually(lambda: leads(other), PATIENCE)
            site.api.apply(route("orders", "stock"))
            site.api.apply(route("late", "stock"))
            await eventually(
                lambda: "penstock_outstanding 0.0" in other.get("/metrics")[1], PATIENCE
            )
            assert acked(site)[0] == "Acked"
            leader.start()
            await eventually(
                lambda: "penstock_nodes_reporting 1.0" in leader.get("/metrics")[1], PATIENCE
            )
            await eventually(
                lambda: "penstock_outstanding 0.0" in leader.get("/metrics")[1], PATIENCE
            )
