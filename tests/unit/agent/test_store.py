from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from penstock.agent import store as node_store
from penstock.agent.store import MAGIC, NodeStore, Transaction, decode, encode
from penstock.meta.names import ObjectRef, Origin
from penstock.runtime.files import in_memory
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, make_resource
from penstock.xds.snapshot import Delta

ORIGIN = Origin(ObjectRef("Service", "shop", "orders"), "spec.ports[0]")


def cluster(name: str, body: bytes = b"") -> Resource:
    needs = (ResourceName(types.ENDPOINTS, name),)
    return make_resource(types.CLUSTER, name, body, (ORIGIN,), needs)


@contextlib.asynccontextmanager
async def running(path: Path, *, secrets: bool = False) -> AsyncGenerator[NodeStore]:
    store = NodeStore(path, secrets=secrets)
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


# Keys


def secret(name: str, key: bytes) -> Resource:
    return make_resource(types.SECRET, name, key)


async def test_keys_are_not_written_to_a_disk(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    async with running(path) as store:
        store.apply(Delta((secret("tls|shop/a", b"KEY"), cluster("a"))))
        await store.flush()
        assert store.snapshot.get(types.SECRET, "tls|shop/a") is not None
        assert b"KEY" not in path.read_bytes()
        for number in range(100):  # enough for the file to be written anew
            store.apply(Delta((cluster("a", b"\x0a" + bytes([number]) + b"x" * 50_000),)))
            await store.flush()
        assert b"KEY" not in path.read_bytes()
    again = NodeStore(path)
    assert [one.key for one in again.snapshot] == [ResourceName(types.CLUSTER, "a")]
    again.close()


async def test_keys_are_kept_where_files_are_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    async with running(path, secrets=True) as store:
        store.apply(Delta((secret("tls|shop/a", b"KEY"),)))
        await store.flush()
    again = NodeStore(path, secrets=True)
    assert list(again.snapshot) == [secret("tls|shop/a", b"KEY")]
    again.close()


async def test_a_key_that_is_replaced_or_taken_away_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    async with running(path, secrets=True) as store:
        store.apply(Delta((secret("tls|shop/a", b"FIRST"), cluster("a"))))
        await store.flush()
        store.apply(Delta((secret("tls|shop/a", b"SECOND"),)))
        await store.flush()
        assert b"FIRST" not in path.read_bytes()
        assert b"SECOND" in path.read_bytes()
        store.apply(Delta((), (ResourceName(types.SECRET, "tls|shop/a"),)))
        await store.flush()
        assert b"SECOND" not in path.read_bytes()
        assert store.snapshot.get(types.CLUSTER, "a") is not None


async def test_keys_of_an_earlier_agent_are_wiped_where_they_may_not_be(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    async with running(path, secrets=True) as store:
        store.apply(Delta((secret("tls|shop/a", b"KEY"), cluster("a"))))
        await store.flush()
    async with running(path) as store:
        await store.flush()
        assert b"KEY" not in path.read_bytes()
        assert [one.name for one in store.snapshot] == ["a"]


def test_memory_and_disk_are_told_apart() -> None:
    assert in_memory(Path("/dev/shm"))
    assert not in_memory(Path("/proc"))
    assert not in_memory(Path(__file__).parent)
