"""The authority in a Secret, and tokens judged by a real API server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from penstock.ca.authority import utc
from penstock.controlplane.authority_store import ClusterStore
from penstock.controlplane.join_tokens import JoinRefusedError, ReviewedTokens
from penstock.controlplane.trust import Trust
from penstock.meta.names import NamespacedName
from penstock.runtime.clock import SystemClock
from penstock.sources.kubernetes.connection import Answer, ApiServer, Call
from support.kube import KubeApi, path_of
from support.nodes import running
from support.real_envoy import eventually

SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "penstock-ca"}}
BUNDLE = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "penstock-ca"}}


class Asker:
    """Requests as a controller makes them."""

    def __init__(self, api: KubeApi) -> None:
        self._server = ApiServer(api.access, SystemClock(), {})

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncGenerator[Asker]:
        async with self._server.session() as session:
            self._session = session
            yield self

    async def __call__(self, call: Call) -> Answer:
        return await self._server.call(self._session, call, 10.0)


@pytest.fixture
async def ask(api: KubeApi) -> AsyncGenerator[Asker]:
    async with Asker(api).asking() as asker:
        yield asker


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.controlplane.trust.LOOK_SECONDS", 0.05)


def within(raw: dict[str, Any], namespace: str) -> dict[str, Any]:
    return {**raw, "metadata": {**raw["metadata"], "namespace": namespace}}


def read(api: KubeApi, raw: dict[str, Any], namespace: str) -> dict[str, Any]:
    status, said = api.request("GET", path_of(within(raw, namespace)))
    return said if status == 200 else {}


def trust(ask: Asker, namespace: str) -> Trust:
    store = ClusterStore(ask, namespace)
    return Trust(store, SystemClock(), random.random, names=["c"], trust_domain="cluster.local")


async def test_replicas_that_start_together_share_one_secret(api: KubeApi, ask: Asker) -> None:
    api.namespace("ca-together")
    replicas = [trust(ask, "ca-together") for _ in range(4)]
    async with contextlib.AsyncExitStack() as stack:
        for one in replicas:
            await stack.enter_async_context(running(one.run()))
        await asyncio.gather(*(one.ready.wait() for one in replicas))
        keys = {one.authority.keys() for one in replicas}
    assert len(keys) == 1
    data = read(api, SECRET, "ca-together")["data"]
    assert base64.b64decode(data["tls.key"]) in keys
    bundle = read(api, BUNDLE, "ca-together")["data"]
    assert bundle == {"ca.crt": base64.b64decode(data["tls.crt"]).decode()}


@pytest.mark.usefixtures("quick")
async def test_secret_and_bundle_that_were_deleted_or_altered_are_put_right(
    api: KubeApi, ask: Asker
) -> None:
    api.namespace("ca-right")
    one = trust(ask, "ca-right")
    async with running(one.run()):
        await one.ready.wait()
        secret, bundle = (read(api, raw, "ca-right") for raw in (SECRET, BUNDLE))
        api.delete(secret)
        api.delete(bundle)
        await eventually(lambda: read(api, SECRET, "ca-right").get("data") == secret["data"])
        await eventually(lambda: read(api, BUNDLE, "ca-right").get("data") == bundle["data"])
        api.apply(within(BUNDLE, "ca-right") | {"data": {"ca.crt": "altered"}})
        await eventually(lambda: read(api, BUNDLE, "ca-right").get("data") == bundle["data"])


@pytest.mark.usefixtures("quick")
async def test_replicas_agree_on_a_second_pair(api: KubeApi, ask: Asker) -> None:
    api.namespace("ca-second")
    first = trust(ask, "ca-second")
    async with running(first.run()):
        await first.ready.wait()
    store = ClusterStore(ask, "ca-second")
    kept = await store.read()
    assert kept is not None
    now = utc(SystemClock().now())
    await store.replace(kept.renewed(now))
    replicas = [trust(ask, "ca-second") for _ in range(2)]
    async with running(replicas[0].run()), running(replicas[1].run()):
        await asyncio.gather(*(one.ready.wait() for one in replicas))
        assert replicas[0].authority.keys() == replicas[1].authority.keys()
        assert replicas[0].authority.keys() != kept.keys()


async def test_a_secret_that_changed_meanwhile_is_not_overwritten(api: KubeApi, ask: Asker) -> None:
    api.namespace("ca-race")
    one = trust(ask, "ca-race")
    async with running(one.run()):
        await one.ready.wait()
    late, early = ClusterStore(ask, "ca-race"), ClusterStore(ask, "ca-race")
    now = utc(SystemClock().now())
    kept = await late.read()
    assert kept is not None
    assert await early.read() is not None
    second, third = kept.renewed(now), kept.renewed(now)
    await early.replace(second)
    await late.replace(third)
    found = await late.read()
    assert found is not None
    assert found.keys() == second.keys()


def token(
    api: KubeApi, account: str, pod: str = "", node: str = "n1", audience: str = "penstock"
) -> str:
    """Return a token of a service account, bound to a Pod on *node* if there is to be one."""
    api.namespace("penstock-system")
    metadata = {"name": account, "namespace": "penstock-system"}
    api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    spec: dict[str, Any] = {"audiences": [audience], "expirationSeconds": 600}
    if pod:
        made = api.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": pod, "namespace": "penstock-system"},
                "spec": {
                    "nodeName": node,
                    "serviceAccountName": account,
                    "containers": [{"name": "agent", "image": "agent"}],
                },
            }
        )
        uid = made["metadata"]["uid"]
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
    path = f"/api/v1/namespaces/penstock-system/serviceaccounts/{account}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    status, said = api.request("POST", path, body)
    assert status == 201, said
    return str(said["status"]["token"])


async def judge(ask: Asker, given: str, node: str = "n1") -> str:
    tokens = ReviewedTokens(ask, NamespacedName("penstock-system", "penstock-agent"), "penstock")
    try:
        return await tokens.holder(given, node)
    except JoinRefusedError as error:
        return f"{error.status.value} {error.reason}"


async def test_the_token_of_an_agent_is_good_for_its_own_node(api: KubeApi, ask: Asker) -> None:
    given = token(api, "penstock-agent", "agent-n1")
    assert await judge(ask, given) == "system:serviceaccount:penstock-system:penstock-agent"
    assert "403 the token is that of a Pod on n1, not on n2" in await judge(ask, given, "n2")


async def test_tokens_for_others_are_not_good(api: KubeApi, ask: Asker) -> None:
    other = token(api, "other", "other-n1")
    assert "403 system:serviceaccount:penstock-system:other is not" in await judge(ask, other)
    audience = token(api, "penstock-agent", "agent-n1", audience="https://kubernetes.default.svc")
    assert "401" in await judge(ask, audience)
    assert "403 the token is that of a Pod on no node" in await judge(
        ask, token(api, "penstock-agent")
    )
    assert "401" in await judge(ask, "made.up.token")


async def test_the_token_of_a_pod_that_is_gone_is_not_good(api: KubeApi, ask: Asker) -> None:
    given = token(api, "penstock-agent", "agent-gone")
    pod = "/api/v1/namespaces/penstock-system/pods/agent-gone"
    status, said = api.request("DELETE", pod, {"gracePeriodSeconds": 0})
    assert status == 200, said

    async def refused() -> bool:  # the API server remembers a token for a while
        return "401" in await judge(ask, given)

    await eventually(refused, 30)
