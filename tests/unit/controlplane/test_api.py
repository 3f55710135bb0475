"""The controller's HTTP API, over a real folder and a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from penstock.controlplane.app import serve
from penstock.controlplane.config import Config
from penstock.meta.paths import RunPaths

Get = Callable[[str], Awaitable[Any]]

FOLDER = """
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {ports: [{port: 80}], selector: {app: front}}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: broken, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: front}}
  ingress:
    - toPorts: [{ports: [{port: "80", protocol: TCP}]}]
      rules: {http: [{method: GET}]}
---
apiVersion: v1
kind: Secret
metadata:
  name: key
  namespace: shop
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: '{"stringData":{"password":"hunter2"}}'
    team: shop
stringData: {password: hunter2}
---
apiVersion: v1
kind: Secret
metadata: {name: misspelt, namespace: shop}
stringdata: {password: hunter2}
data: hunter2
"""


@pytest.fixture
async def get(tmp_path: Path) -> AsyncIterator[Get]:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "all.yaml").write_text(FOLDER)
    run = tmp_path / "r"
    run.mkdir(mode=0o700)
    config = Config(sources=(folder,), paths=RunPaths(run))
    stop = asyncio.Event()
    server = asyncio.create_task(serve(config, stop))
    connector = aiohttp.UnixConnector(str(config.paths.controller_api))
    async with aiohttp.ClientSession("http://controller", connector=connector) as session:

        async def ask(path: str) -> Any:
            async with session.get(path) as answer:
                return await answer.json()

        while True:
            try:
                if (await ask("/v1/health"))["synced"]:
                    break
            except aiohttp.ClientConnectorError:
                pass
            await asyncio.sleep(0.01)
        yield ask
    stop.set()
    await server


async def test_a_misplaced_field_is_named_with_its_line(get: Get) -> None:
    items = (await get("/v1/problems"))["items"]
    problem, closed = (one for one in items if one["ref"]["name"] == "broken")
    assert (closed["severity"], closed["ref"]["name"]) == ("warning", "broken")
    assert problem["path"] == "spec.ingress[0].rules"
    assert problem["line"] == 14
    assert "toPorts[]" in problem["hint"]
    where = await get(
        "/v1/locate?kind=CiliumNetworkPolicy&namespace=shop&name=broken&path=spec.ingress[0].rules"
    )
    assert (where["file"].endswith("all.yaml"), where["line"]) == (True, 14)


async def test_a_broken_policy_is_not_valid(get: Get) -> None:
    (item,) = (await get("/v1/objects?kind=CiliumNetworkPolicy"))["items"]
    (valid,) = item["status"]["conditions"]
    assert (valid["type"], valid["status"]) == ("Valid", "False")
    assert "spec.ingress[0].rules" in valid["message"]


async def test_values_of_secrets_are_not_shown(get: Get) -> None:
    item, misspelt = (await get("/v1/objects?kind=Secret"))["items"]
    assert item["data"] == {"password": None}
    assert item["metadata"]["annotations"] == {"team": "shop"}
    assert misspelt["data"] == {}
    for path in ("/v1/objects", "/v1/problems", "/v1/snapshot"):
        assert "hunter2" not in str(await get(path))


async def test_an_object_is_shown_with_its_place(get: Get) -> None:
    (item,) = (await get("/v1/objects?kind=Service&namespace=shop"))["items"]
    assert item["metadata"]["name"] == "front"
    assert item["location"]["line"] == 2
    assert item["spec"]["clusterIP"].startswith("10.")


async def test_a_place_in_no_file_is_an_error(get: Get) -> None:
    answer = await get("/v1/locate?kind=Service&namespace=shop&name=nobody")
    assert answer == {"error": "Service shop/nobody is in no file"}
