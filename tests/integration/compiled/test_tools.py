"""Flagger, Argo Rollouts, external-dns and cert-manager with what they write and read, unmodified.

The objects go through the compiler into a real Envoy; the tools see nothing but statuses.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio

from penstock.xds import types
from support.compiled_envoy import CompiledEnvoy, Place, Surroundings, compiled_envoy
from support.http_backend import http_backend, seen
from support.ingress_objects import path, rule
from support.pki import issue, tls_secret_raw
from support.raw_http import Answer
from support.real_envoy import eventually
from support.tools import (
    ArgoPlugin,
    Cluster,
    Flagger,
    Json,
    external_dns,
    solver_ingress,
    solver_route,
    solver_service,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

GATEWAY_API = "gateway.networking.k8s.io/v1"
FRONT, INGRESS = "gateway/shop/front/80", "gateway/~ingress/penstock~/80"
HOST = "app.a.test"
MANY = 100
TOKEN = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"  # noqa: S105 - made up
CHALLENGE = f"/.well-known/acme-challenge/{TOKEN}"


def service(name: str, number: int) -> Json:
    address = f"10.96.7.{number}"
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": address, "clusterIPs": [address],
                 "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }  # fmt: skip


def endpoints(name: str, address: str, port: int = 8080) -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "namespace": "shop",
                     "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }  # fmt: skip


def gateway(*more: Json, **notes: str) -> Json:
    web = {"name": "web", "protocol": "HTTP", "port": 80, "hostname": "*.a.test"}
    return {
        "apiVersion": GATEWAY_API, "kind": "Gateway",
        "metadata": {"name": "front", "namespace": "shop", "annotations": notes},
        "spec": {"gatewayClassName": "penstock", "listeners": [web, *more]},
    }  # fmt: skip


CLASS: Json = {
    "apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": "penstock"},
    "spec": {"controllerName": "penstock.dev/gateway-controller"},
}  # fmt: skip
INGRESS_CLASS: Json = {
    "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "penstock"},
    "spec": {"controller": "penstock.dev/ingress-controller"},
}  # fmt: skip


class Lab:
    def __init__(self, envoy: CompiledEnvoy, places: dict[str, Place]) -> None:
        self.envoy, self.around = envoy, Surroundings(endpoints=places)

    async def show(self, cluster: Cluster) -> None:
        await self.envoy.run(cluster.compiler.resources("n1"), self.around)

    async def shares(self, **headers: str) -> Counter[str]:
        """Return who answered MANY requests."""
        found: Counter[str] = Counter()
        for _ in range(MANY // 20):
            asked = (self.ask(headers=headers) for _ in range(20))
            for answer in await asyncio.gather(*asked):
                assert answer.status == 200
                found[seen(answer).name] += 1
        return found

    async def ask(
        self, at: str = "/", listener: str = FRONT, headers: dict[str, str] | None = None
    ) -> Answer:
        return await self.envoy.ask(listener, at, host=HOST, headers=headers)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with (
        http_backend("primary") as primary,
        http_backend("canary") as canary,
        http_backend("solver") as solver,
        compiled_envoy(tmp_path_factory.mktemp("e"), drain=1) as envoy,
    ):
        places = {"10.244.0.1": primary, "10.244.0.2": canary, "10.244.0.3": solver}
        yield Lab(envoy, places)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(
        CLASS, INGRESS_CLASS, gateway(),
        service("podinfo-primary", 1), endpoints("podinfo-primary", "10.244.0.1"),
        service("podinfo-canary", 2), endpoints("podinfo-canary", "10.244.0.2"),
    )  # fmt: skip


# Flagger


async def test_a_canary_of_flagger_goes_from_nothing_to_promotion(
    lab: Lab, cluster: Cluster
) -> None:
    flagger = Flagger(cluster, "front", HOST)
    for primary, canary in ((100, 0), (50, 50), (0, 100), (100, 0)):
        flagger.set_routes(primary, canary)
        assert flagger.ready() == ""
        await lab.show(cluster)
        shares = await lab.shares()
        if canary in (0, 100):
            assert shares == {"primary" if primary else "canary": MANY}
        else:
            assert 15 < shares["canary"] < 85


async def test_a_step_of_flagger_touches_no_cluster_and_no_listener(cluster: Cluster) -> None:
    def without_routes() -> dict[str, str]:
        kinds = (types.CLUSTER, types.LISTENER, types.ENDPOINTS)
        found = cluster.compiler.resources("n1")
        return {f"{one.type_url} {one.name}": one.version for one in found if one.type_url in kinds}

    flagger = Flagger(cluster, "front", HOST)
    flagger.set_routes(100, 0)
    before = without_routes()
    for canary in (10, 20, 30):
        flagger.set_routes(100 - canary, canary)
        assert flagger.ready() == ""
        assert without_routes() == before


async def test_flagger_hears_that_its_gateway_does_not_take_the_route(cluster: Cluster) -> None:
    flagger = Flagger(cluster, "front", "app.elsewhere.test")
    flagger.set_routes(100, 0)
    assert flagger.ready() == "is not ready"


async def test_an_ab_test_of_flagger_sends_those_with_the_header_to_the_canary(
    lab: Lab, cluster: Cluster
) -> None:
    flagger = Flagger(cluster, "front", HOST)
    flagger.ab_test(**{"x-canary": "insider"})
    flagger.set_routes(100, 100)
    assert flagger.ready() == ""
    await lab.show(cluster)
    assert await lab.shares() == {"primary": MANY}
    assert await lab.shares(**{"X-Canary": "insider"}) == {"canary": MANY}


async def test_sessions_of_flagger_stay_at_the_canary(lab: Lab, cluster: Cluster) -> None:
    flagger = Flagger(cluster, "front", HOST)
    flagger.sticky("flagger-cookie")
    flagger.set_routes(50, 50)
    assert flagger.ready() == ""
    await lab.show(cluster)
    answers = await asyncio.gather(*(lab.ask() for _ in range(20)))
    cookies = {seen(one).name: one.header("set-cookie") for one in answers}
    assert cookies == {"primary": "", "canary": "flagger-cookie=1; Max-Age=86400"}
    assert await lab.shares(Cookie="a=b; flagger-cookie=1") == {"canary": MANY}


async def test_flagger_mirrors_to_the_canary(lab: Lab, cluster: Cluster) -> None:
    flagger = Flagger(cluster, "front", HOST)
    flagger.mirror()
    flagger.set_routes(100, 0)
    assert flagger.ready() == ""
    await lab.show(cluster)
    assert await lab.shares() == {"primary": MANY}

    async def all_copied() -> bool:
        clusters = await lab.envoy.admin("/clusters?format=json")
        counts = [
            int(stat.get("value", 0))
            for one in clusters["cluster_statuses"]
            if one["name"] == "gw|shop/podinfo-canary/80"
            for host in one["host_statuses"]
            for stat in host["stats"]
            if stat["name"] == "rq_total"
        ]
        return sum(counts) >= MANY

    await eventually(all_copied)


# Argo Rollouts


def rollout(*, filters: bool = False) -> Json:
    refs = [{"name": f"podinfo-{one}", "port": 80} for one in ("primary", "canary")]
    rule: Json = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": refs,
    }  # fmt: skip
    if filters:
        rule["filters"] = [
            {"type": "ResponseHeaderModifier",
             "responseHeaderModifier": {"set": [{"name": "x-tool", "value": "argo"}]}}
        ]  # fmt: skip
    return {
        "apiVersion": GATEWAY_API, "kind": "HTTPRoute",
        "metadata": {"name": "app", "namespace": "shop"},
        "spec": {"parentRefs": [{"name": "front"}], "hostnames": [HOST], "rules": [rule]},
    }  # fmt: skip


async def test_a_rollout_of_argo_goes_from_nothing_to_everything(
    lab: Lab, cluster: Cluster
) -> None:
    cluster.apply(rollout())
    plugin = ArgoPlugin(cluster, "app", "podinfo-primary", "podinfo-canary")
    for weight in (0, 50, 100):
        plugin.set_weight(weight)
        await lab.show(cluster)
        shares = await lab.shares()
        if weight == 50:
            assert 15 < shares["canary"] < 85
        else:
            assert shares == {"canary" if weight else "primary": MANY}


async def test_a_header_route_of_argo_goes_before_the_rule_that_it_comes_from(
    lab: Lab, cluster: Cluster
) -> None:
    cluster.apply(rollout(filters=True))
    plugin = ArgoPlugin(cluster, "app", "podinfo-primary", "podinfo-canary")
    plugin.set_weight(0)
    plugin.set_header_route("argo-header", "x-version", "next")
    await lab.show(cluster)
    assert await lab.shares(**{"x-version": "next"}) == {"canary": MANY}
    assert await lab.shares() == {"primary": MANY}
    answer = await lab.ask("/deep/path?q=1", headers={"x-version": "next"})
    assert (seen(answer).name, answer.header("x-tool")) == ("canary", "argo")
    plugin.remove_managed_routes("argo-header")
    await lab.show(cluster)
    assert await lab.shares(**{"x-version": "next"}) == {"primary": MANY}


# external-dns


async def test_external_dns_finds_the_addresses_of_gateways_and_ingresses(
    cluster: Cluster,
) -> None:
    cluster.apply(rollout())
    other = rollout()
    other["metadata"]["name"], other["spec"]["hostnames"] = "lost", ["b.test"]
    cluster.apply(other)
    cluster.apply({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ingressClassName": "penstock",
                 "rules": [rule("in.b.test", path("/"))]},
    })  # fmt: skip
    found = external_dns(cluster)
    (address,) = [one["value"] for one in cluster.get("Gateway", "front")["status"]["addresses"]]
    assert found[HOST] == [address]
    assert "b.test" not in found
    assert len(found["in.b.test"]) == 1


async def test_external_dns_goes_by_the_target_that_a_gateway_is_given(cluster: Cluster) -> None:
    cluster.apply(rollout())
    cluster.apply(gateway(**{"external-dns.alpha.kubernetes.io/target": "lb.example.test"}))
    assert external_dns(cluster) == {HOST: ["lb.example.test"]}


# cert-manager


def https(secret: str = "app-tls") -> Json:  # noqa: S107 - the name of a Secret
    tls = {"mode": "Terminate", "certificateRefs": [{"name": secret}]}
    return {"name": "tls", "protocol": "HTTPS", "port": 443, "hostname": HOST, "tls": tls}


def conditions(cluster: Cluster, listener: str) -> dict[str, Any]:
    status = cluster.get("Gateway", "front")["status"]
    (found,) = [one for one in status["listeners"] if one["name"] == listener]
    return {one["type"]: (one["status"], one["reason"]) for one in found["conditions"]}


async def test_a_challenge_is_answered_while_its_listener_waits_for_the_secret(
    lab: Lab, cluster: Cluster
) -> None:
    cluster.apply(gateway(https(), **{"cert-manager.io/issuer": "letsencrypt"}))
    cluster.apply(rollout())
    assert conditions(cluster, "tls")["ResolvedRefs"] == ("False", "InvalidCertificateRef")
    assert conditions(cluster, "tls")["Programmed"][0] == "False"
    assert conditions(cluster, "web")["Programmed"] == ("True", "Programmed")
    solver = solver_service()
    cluster.apply(solver)
    cluster.apply(endpoints(solver["metadata"]["name"], "10.244.0.3", 8089))
    cluster.apply(solver_route(HOST, TOKEN, "front"))
    (parent,) = cluster.get("HTTPRoute", "cm-acme-http-solver-9hb2d")["status"]["parents"]
    accepted = {one["type"]: one["status"] for one in parent["conditions"]}
    assert (accepted["Accepted"], accepted["ResolvedRefs"]) == ("True", "True")
    await lab.show(cluster)
    assert seen(await lab.ask(CHALLENGE)).name == "solver"
    assert seen(await lab.ask("/.well-known/acme-challenge/other")).name in ("primary", "canary")

    cluster.apply(tls_secret_raw("app-tls", "shop", [issue(HOST)]))
    cluster.delete("HTTPRoute", "cm-acme-http-solver-9hb2d")
    cluster.delete("Service", solver["metadata"]["name"])
    assert conditions(cluster, "tls")["Programmed"] == ("True", "Programmed")
    await lab.show(cluster)
    assert seen(await lab.ask(CHALLENGE)).name in ("primary", "canary")


async def test_a_challenge_by_an_ingress_is_answered_beside_the_ingress_that_waits(
    lab: Lab, cluster: Cluster
) -> None:
    backend = {"service": {"name": "podinfo-primary", "port": {"number": 80}}}
    cluster.apply({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "app", "namespace": "shop",
                     "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt"}},
        "spec": {"ingressClassName": "penstock",
                 "tls": [{"hosts": [HOST], "secretName": "app-tls"}],
                 "rules": [rule(HOST, path("/", to=backend))]},
    })  # fmt: skip
    solver = solver_service()
    cluster.apply(solver)
    cluster.apply(endpoints(solver["metadata"]["name"], "10.244.0.3", 8089))
    cluster.apply(solver_ingress(HOST, TOKEN))
    await lab.show(cluster)
    answer = await lab.ask(CHALLENGE, INGRESS)
    assert (answer.status, seen(answer).name) == (200, "solver")
    assert (await lab.ask("/", INGRESS)).status == 308
    cluster.delete("Ingress", "cm-acme-http-solver-kd82j")
    await lab.show(cluster)
    assert (await lab.ask(CHALLENGE, INGRESS)).status == 308
