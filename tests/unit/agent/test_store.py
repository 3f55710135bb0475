from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from penstock.agent import store as node_store
from penstock.agent.store import MAGIC, NodeStore, Transaction, decode, encode
from penstock.meta.names import ObjectRef, Origin
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, make_resource
from penstock.xds.snapshot import Delta

ORIGIN = Origin(ObjectRef("Service", "shop", "orders"), "spec.ports[0]")


def cluster(name: str, body: bytes = b"") -> Resource:
    needs = (ResourceName(types.ENDPOINTS, name),)
    return make_resource(types.CLUSTER, name, body, (ORIGIN,), needs)


@contextlib.asynccontextmanager
async def running(path: Path) -> AsyncGenerator[NodeStore]:
    store = NodeStore(path)
    task = asyncio.create_task(store.run())
    await asyncio.sleep(0)
    try:
        yield store
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        store.close()


async def test_a_restarted_agent_has_what_the_controller_sent(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "snapshot") as store:
        store.apply(Delta((cluster("a", b"\x0a\x01a"),)))
        await store.flush()
        again = NodeStore(tmp_path / "snapshot")
    assert list(again.snapshot) == [cluster("a", b"\x0a\x01a")]
    again.close()


async def test_removed_resources_stay_removed(tmp_path: Path) -> None:
    async with running(tmp_path / "snapshot") as store:
        store.apply(Delta((cluster("a"), cluster("b"))))
        await store.flush()
        store.apply(Delta((), (ResourceName(types.CLUSTER, "a"),)))
        await store.flush()
    again = NodeStore(tmp_path / "snapshot")
    assert [resource.name for resource in again.snapshot] == ["b"]
    again.close()


async def test_what_was_applied_before_the_agent_ends_is_on_disk(tmp_path: Path) -> None:
    async with running(tmp_path / "snapshot") as store:
        store.apply(Delta((cluster("a"),)))
    again = NodeStore(tmp_path / "snapshot")
    assert len(again.snapshot) == 1
    again.close()


def test_a_log_cut_at_any_byte_is_the_state_after_a_whole_transaction() -> None:
    first = encode(Transaction((cluster("a", b"\x0a\x01a").framed,), ()))
    both = encode(Transaction((cluster("b").framed, cluster("c").framed), (cluster("a").key,)))
    content = MAGIC + first + both
    ends = {len(MAGIC): set(), len(MAGIC + first): {"a"}, len(content): {"b", "c"}}
    for cut in range(len(content) + 1):
        state, good = decode(content[:cut])
        whole = max((end for end in ends if end <= cut), default=0)
        assert {key.name for key in state} == ends.get(whole, set())
        assert good == whole


def test_a_damaged_byte_ends_the_log_before_its_transaction() -> None:
    first = encode(Transaction((cluster("a").framed,), ()))
    second = encode(Transaction((cluster("b").framed,), ()))
    content = MAGIC + first + second
    for at in range(len(MAGIC + first), len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 0x40
        state, _ = decode(bytes(damaged))
        assert {key.name for key in state} == {"a"}


async def test_writing_goes_on_after_a_damaged_tail(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    path.write_bytes(MAGIC + encode(Transaction((cluster("a").framed,), ())) + b"half a rec")
    async with running(path) as store:
        store.apply(Delta((cluster("b"),)))
    again = NodeStore(path)
    assert {resource.name for resource in again.snapshot} == {"a", "b"}
    again.close()


async def test_an_outdated_log_is_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    big = b"\x0a" + b"\xff\xff\x0f" + b"x" * 262143
    async with running(path) as store:
        for round_ in range(12):
            store.apply(Delta((cluster("a", big + b"\x12\x01" + bytes([64 + round_])),)))
            await store.flush()
        assert path.stat().st_size < 2 * len(big) + node_store.SLACK + len(big)
        newest = store.snapshot.get(types.CLUSTER, "a")
    again = NodeStore(path)
    assert again.snapshot.get(types.CLUSTER, "a") == newest
    again.close()


async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    async with running(tmp_path / "snapshot"):
        assert (tmp_path / "snapshot").stat().st_mode & 0o777 == 0o600


async def test_a_change_costs_what_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    async with running(path) as store:
        store.apply(Delta(tuple(cluster(f"c{i}", b"\x0a\x02xx" * 50) for i in range(500))))
        await store.flush()
        before = path.stat().st_size
        store.apply(Delta((cluster("c7", b"\x0a\x01y"),)))
        await store.flush()
        assert path.stat().st_size - before < 400
