"""Nothing is removed wrongly, and nothing missed, whatever happens to server and network."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import random
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from penstock.core.events import EventType
from penstock.core.kinds import ConfigMap, Namespace, Service
from penstock.gatewayapi.resources import HTTPRoute
from penstock.meta.back_off import BackOff
from penstock.meta.names import ObjectRef
from penstock.runtime.clock import SystemClock
from penstock.sources.kubernetes.access import Access
from penstock.sources.kubernetes.requests import Pace
from penstock.sources.kubernetes.source import KubernetesSource
from support.kube import KubeApi
from support.source_suite import Recorder, config_map, eventually, running
from support.unruly_proxy import UnrulyProxy, repeated_and_reversed, unruly_proxy

QUICK = Pace(
    watch_shortest=2.0, watch_longest=2.0, margin=0.5, answer=10.0, absent=0.1, denied=0.1,
    back_off=BackOff(first=0.05, longest=0.2), between_snapshots=0.0,
)  # fmt: skip
PAGES = msgspec.structs.replace(QUICK, stream_snapshots=False, page_size=2)
FIRST = msgspec.structs.replace(QUICK, first_as_list=True)
SHOP = [ObjectRef("ConfigMap", "shop", name) for name in "abcde"]
A, B, *_ = SHOP


def source_at(access: Access, pace: Pace = QUICK) -> KubernetesSource:
    kinds = (ConfigMap, Namespace, Service)
    return KubernetesSource(access, kinds, SystemClock(), random.random, pace=pace)


@pytest_asyncio.fixture
async def proxy(api: KubeApi) -> AsyncGenerator[UnrulyProxy]:
    """Stand before a server that has five objects of ours."""
    api.namespace("shop")
    for ref in SHOP:
        api.apply(config_map(ref.name, x="1"))
    async with unruly_proxy(api.access) as between:
        yield between
    for ref in SHOP:
        api.delete(config_map(ref.name))


async def put(api: KubeApi, raw: dict[str, Any]) -> None:
    await asyncio.to_thread(api.apply, raw)


async def restart(api: KubeApi) -> None:
    api.kill_api_server()
    api.spawn_api_server()
    await asyncio.to_thread(api.wait_until_ready)


async def delete(api: KubeApi, ref: ObjectRef) -> None:
    await asyncio.to_thread(api.delete, config_map(ref.name))


def value(seen: Recorder, ref: ObjectRef) -> str | None:
    thing = seen.objects.get(ref)
    return thing.data["x"] if isinstance(thing, ConfigMap) else None


def removed(seen: Recorder) -> list[ObjectRef]:
    gone = [one.object.ref for one in seen.events if one.type is EventType.DELETED]
    return [ref for ref in gone if ref.namespace == "shop"]


def everything(status: int) -> Callable[[str], int]:
    return lambda _target: status


@pytest.mark.parametrize("pace", [QUICK, PAGES, FIRST], ids=["stream", "pages", "first-list"])
async def test_deletion_while_the_server_is_killed_is_noticed(
    api: KubeApi, proxy: UnrulyProxy, pace: Pace
) -> None:
    source = source_at(proxy.access, pace)
    async with running(source) as seen:
        proxy.refuse = everything(503)
        proxy.cut()
        await delete(api, A)
        await put(api, config_map("b", x="2"))
        await restart(api)
        assert set(SHOP) <= set(seen.objects)
        before = [one.snapshots for one in source.states()]
        proxy.refuse = everything(0)
        await seen.until(lambda: A not in seen.objects and value(seen, B) == "2")
        assert removed(seen) == [A]
        after = [one.snapshots for one in source.states()]
        assert after[0] == before[0] + 1


async def test_everything_is_listed_in_one_piece_at_first_and_streamed_later(
    api: KubeApi, proxy: UnrulyProxy
) -> None:
    kinds = (ConfigMap, HTTPRoute)
    source = KubernetesSource(proxy.access, kinds, SystemClock(), random.random, pace=FIRST)
    async with running(source) as seen:
        assert not [one for one in proxy.targets if "sendInitialEvents" in one]
        assert "/api/v1/configmaps" in proxy.targets
        assert "/apis/gateway.networking.k8s.io/v1/httproutes" in proxy.targets
        proxy.targets.clear()
        proxy.refuse = everything(503)
        proxy.cut()
        await delete(api, A)
        await restart(api)
        proxy.refuse = everything(0)
        await seen.until(lambda: A not in seen.objects)
        assert any("configmaps" in one and "sendInitialEvents" in one for one in proxy.targets)


async def test_watch_goes_on_after_a_cut_without_reading_everything_again(
    api: KubeApi, proxy: UnrulyProxy
) -> None:
    source = source_at(proxy.access)
    async with running(source) as seen:
        proxy.stall()
        await delete(api, A)
        proxy.cut()
        await seen.until(lambda: A not in seen.objects)
        assert removed(seen) == [A]
        assert {one.snapshots for one in source.states()} == {1}


async def test_history_that_is_compacted_between_pages_starts_the_list_over(
    api: KubeApi, proxy: UnrulyProxy
) -> None:
    one_at_a_time, compacted = asyncio.Lock(), asyncio.Event()

    async def compact(target: str) -> None:
        async with one_at_a_time:
            if "continue=" in target and not compacted.is_set():
                compacted.set()
                await delete(api, A)
                await asyncio.to_thread(api.compact)
                await restart(api)

    proxy.before = compact
    async with running(source_at(proxy.access, PAGES)) as seen:
        assert compacted.is_set()
        assert len(seen.batches) == 1
        assert A not in seen.objects
        assert set(SHOP) - {A} <= set(seen.objects)


async def test_lists_that_fail_remove_nothing(api: KubeApi, proxy: UnrulyProxy) -> None:
    source = source_at(proxy.access, PAGES)
    async with running(source) as seen:
        proxy.refuse = lambda target: 0 if "watch=" in target else 500
        asked = proxy.lists
        await restart(api)
        proxy.cut()
        await delete(api, A)
        await eventually(lambda: len(proxy.targets) > asked + 20)
        assert set(SHOP) <= set(seen.objects)
        assert any("500" in one.trouble for one in source.states())
        proxy.refuse = lambda _target: 0
        await seen.until(lambda: A not in seen.objects)
        assert removed(seen) == [A]
        await eventually(lambda: not any(one.trouble for one in source.states()))


async def test_second_page_that_fails_is_asked_for_again(proxy: UnrulyProxy) -> None:
    left = 3

    def twice(target: str) -> int:
        nonlocal left
        left -= "continue=" in target
        return 500 if "continue=" in target and left > 0 else 0

    proxy.refuse = twice
    async with running(source_at(proxy.access, PAGES)) as seen:
        assert left <= 0
        assert set(SHOP) <= set(seen.objects)
        assert len(seen.batches) == 1


async def test_watch_that_stalls_is_noticed(api: KubeApi, proxy: UnrulyProxy) -> None:
    async with running(source_at(proxy.access)) as seen:
        proxy.stall()
        await delete(api, A)
        await seen.until(lambda: A not in seen.objects)
        assert removed(seen) == [A]


async def test_snapshot_that_stalls_is_asked_for_again(proxy: UnrulyProxy) -> None:
    pace = msgspec.structs.replace(QUICK, answer=1.0)

    async def stall_once(target: str) -> None:
        if "sendInitialEvents" in target and "configmaps" in target:
            proxy.before = None
            await asyncio.Event().wait()

    proxy.before = stall_once
    async with running(source_at(proxy.access, pace)) as seen:
        assert set(SHOP) <= set(seen.objects)


async def test_repeated_and_reordered_events_end_in_the_true_state(
    api: KubeApi, proxy: UnrulyProxy
) -> None:
    async with running(source_at(proxy.access)) as seen:
        proxy.rewrite = repeated_and_reversed
        for number in range(20):
            await put(api, config_map("b", x=str(number)))
        await delete(api, A)
        await put(api, config_map("c", x="last"))
        await seen.until(lambda: value(seen, SHOP[2]) == "last" and A not in seen.objects)
        await seen.until(lambda: value(seen, B) == "19")
        assert removed(seen) == [A]


async def test_nothing_is_told_before_every_kind_is_known(proxy: UnrulyProxy) -> None:
    go = asyncio.Event()

    async def hold(target: str) -> None:
        if "services" in target:
            await go.wait()

    proxy.before = hold
    source = source_at(proxy.access)
    seen = Recorder()
    task = asyncio.create_task(source.run(seen))
    try:
        await eventually(lambda: sum(one.synced for one in source.states()) == 2)
        assert seen.batches == []
        go.set()
        await seen.until(lambda: seen.batches)
        assert {ref.kind for ref in seen.objects} == {"ConfigMap", "Namespace", "Service"}
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_server_restored_from_an_older_copy_of_its_data_is_believed(
    bare_api: KubeApi,
) -> None:
    bare_api.namespace("shop")
    bare_api.apply(config_map("a", x="old"))
    bare_api.stop()
    copy = bare_api.save_etcd()
    bare_api.start()
    bare_api.apply(config_map("b", x="new"))
    async with running(source_at(bare_api.access)) as seen:
        await put(bare_api, config_map("a", x="new"))
        await seen.until(lambda: value(seen, A) == "new")
        bare_api.stop()
        bare_api.restore_etcd(copy)
        assert {A, B} <= set(seen.objects)
        bare_api.spawn()
        await asyncio.to_thread(bare_api.wait_until_ready)
        await seen.until(lambda: B not in seen.objects and value(seen, A) == "old")
        assert removed(seen) == [B]
        await put(bare_api, config_map("c", x="1"))
        await seen.until(lambda: SHOP[2] in seen.objects)


async def test_changes_around_kills_are_all_seen(bare_api: KubeApi) -> None:
    bare_api.namespace("shop")
    names = [f"n{number}" for number in range(12)]
    generator = random.Random(7)  # noqa: S311  # no secret

    def change() -> None:
        raw = config_map(generator.choice(names), x=str(generator.random()))
        with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
            bare_api.delete(raw) if generator.random() < 0.3 else bare_api.apply(raw)

    async with running(source_at(bare_api.access)) as seen:
        for _ in range(3):
            for _ in range(20):
                await asyncio.to_thread(change)
            writing = asyncio.create_task(asyncio.to_thread(change))
            bare_api.kill_api_server()
            await writing
            bare_api.spawn_api_server()
            await asyncio.to_thread(bare_api.wait_until_ready)
        _, listed = await asyncio.to_thread(
            bare_api.request, "GET", "/api/v1/namespaces/shop/configmaps"
        )
        true = {one["metadata"]["name"]: one["data"]["x"] for one in listed["items"]}
        await seen.until(lambda: {name: value(seen, at(name)) for name in known(seen)} == true)


def at(name: str) -> ObjectRef:
    return ObjectRef("ConfigMap", "shop", name)


def known(seen: Recorder) -> set[str]:
    return {ref.name for ref in seen.objects if (ref.kind, ref.namespace) == ("ConfigMap", "shop")}
