from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection
from pathlib import Path

from penstock.ads.store import SnapshotStore
from penstock.agent.admin import EnvoyAdmin
from penstock.agent.datapath import NodeDatapath
from penstock.agent.envoy_view import EnvoyView
from penstock.agent.pipeline import Pipeline
from penstock.agent.store import NodeStore
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, make_resource
from penstock.xds.snapshot import Delta
from penstock.xds.verdict import Accepted, Rejection
from support.fake_kernel import FakeKernel

NODE = "node-1"


class FakeEnvoy:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.answered = asyncio.Event()
        self.asked: list[frozenset[ResourceName]] = []

    async def settled(self, keys: Collection[ResourceName], *, seconds: float) -> bool:
        assert seconds > 0
        self.asked.append(frozenset(keys))
        await self.answered.wait()
        return True


class World:
    def __init__(self, folder: Path) -> None:
        self.kernel = FakeKernel()
        self.envoy = FakeEnvoy()
        self.snapshots = SnapshotStore()
        self.view = EnvoyView(NODE, self.snapshots, EnvoyAdmin(folder / "none.sock"))
        self.store = NodeStore(folder / "snapshot")
        self.synced = 0
        self.told: list[str] = []
        self.swept = asyncio.Event()
        self.swept.set()
        self.pipeline = Pipeline(
            store=self.store,
            view=self.view,
            datapath=NodeDatapath(self.kernel),
            envoy=self.envoy,
            on_told=lambda type_url: self.told.append(types.short(type_url)),
            on_synced=self._on_synced,
            swept=self._wait_swept,
        )

    async def _wait_swept(self) -> None:
        await self.swept.wait()

    def _on_synced(self) -> None:
        self.synced += 1

    def served(self) -> set[str]:
        snapshot = self.snapshots.peek(NODE)
        return {resource.name for resource in snapshot if resource.type_url != types.RUNTIME}

    async def send(self, *resources: Resource, removed: tuple[str, ...] = ()) -> list[str]:
        type_url = resources[0].type_url if resources else types.CLUSTER
        return list(await self.pipeline.take(type_url, resources, removed))


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncGenerator[World]:
    made = World(folder)
    task = asyncio.create_task(made.pipeline.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        made.store.close()


async def breathe() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def cluster(name: str, body: bytes = b"") -> Resource:
    return make_resource(types.CLUSTER, name, body)


def listener(name: str, body: bytes = b"") -> Resource:
    return make_resource(types.LISTENER, name, body)


def policy(identity: int) -> Resource:
    body = node_pb2.Policy(identity=identity).SerializeToString()
    return make_resource(types.POLICY, str(identity), body)


async def test_the_kernel_waits_for_envoy_s_word_on_what_came_before(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        await made.send(cluster("a"))
        await made.send(policy(5))
        await breathe()
        assert made.served() == {"a"}
        assert made.kernel.writes == []
        assert made.envoy.asked == [frozenset({cluster("a").key})]
        made.envoy.answered.set()
        await made.pipeline.idle()
        assert made.kernel.writes == ["set_policy 5"]


async def test_envoy_loses_a_resource_only_after_the_kernel_has_changed(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        made.envoy.answered.set()
        await made.send(cluster("a"))
        await made.pipeline.idle()
        made.envoy.answered.clear()
        await made.send(cluster("b"))
        await made.send(policy(5))
        await made.send(removed=("a",))
        await breathe()
        assert made.served() == {"a", "b"}
        made.envoy.answered.set()
        await made.pipeline.idle()
        assert made.served() == {"b"}


async def test_envoy_loses_a_resource_only_after_connections_that_need_it_have_ended(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as made:
        made.envoy.answered.set()
        await made.send(cluster("a"))
        await made.pipeline.idle()
        made.swept.clear()
        await made.send(removed=("a",))
        await breathe()
        assert made.served() == {"a"}
        made.swept.set()
        await made.pipeline.idle()
        assert made.served() == set()


async def test_a_resource_that_cannot_be_read_is_refused_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        made.envoy.answered.set()
        broken = make_resource(types.POLICY, "6", b"\xff\xff")
        errors = await made.send(policy(5), broken)
        await made.pipeline.idle()
        assert len(errors) == 1
        assert "Policy 6" in errors[0]
        assert made.kernel.writes == ["set_policy 5"]
        assert dict(made.pipeline.versions(types.POLICY)) == {"5": policy(5).version}


async def test_a_word_of_the_controller_is_told_when_it_has_arrived(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        await made.send(cluster("a"))
        await made.send(policy(5))
        await breathe()
        assert made.told == ["Cluster"]
        made.envoy.answered.set()
        await made.pipeline.take(types.ADDRESS, (), ())
        await made.pipeline.idle()
        assert made.told == ["Cluster", "Policy", "Address"]


async def test_the_node_is_in_step_when_it_is_told_that_it_has_everything(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        for type_url in (*types.SENDING_ORDER, types.WHOLE):
            assert made.synced == 0
            await made.pipeline.take(type_url, (), ())
            await made.pipeline.idle()
        assert made.synced == 1


async def test_what_is_on_disk_is_served_and_enforced_at_the_start(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        made.store.apply(Delta((cluster("a"), policy(5))))
        made.pipeline.restore()
        assert made.served() == {"a"}
        assert made.kernel.writes == ["set_policy 5"]


def view(tmp_path: Path) -> tuple[EnvoyView, SnapshotStore]:
    snapshots = SnapshotStore()
    return EnvoyView(NODE, snapshots, EnvoyAdmin(tmp_path / "none.sock")), snapshots


def test_a_pod_s_listeners_are_served_while_it_is_registered(tmp_path: Path) -> None:
    made, snapshots = view(tmp_path)
    made.apply(Delta((listener("u1/egress"), listener("u2/egress"), listener("gateway/a/b"))))
    served = snapshots.peek(NODE).of_type(types.LISTENER)
    assert set(served) == {"gateway/a/b"}
    made.open("u1")
    assert set(served) == {"gateway/a/b", "u1/egress"}
    made.apply(Delta((listener("u1/ingress"),)))
    assert set(served) == {"gateway/a/b", "u1/egress", "u1/ingress"}
    made.close("u1")
    assert set(served) == {"gateway/a/b"}


def test_a_refused_version_is_replaced_by_the_last_good_one(tmp_path: Path) -> None:
    made, snapshots = view(tmp_path)
    good, bad, mended = cluster("a", b"good"), cluster("a", b"bad"), cluster("a", b"mended")
    made.apply(Delta((good,)))
    made.on_verdict(Accepted(types.CLUSTER, {"a": good.version}))
    made.apply(Delta((bad,)))
    made.on_verdict(Rejection(bad.key, bad.version, (), "no"))
    assert snapshots.peek(NODE).get(types.CLUSTER, "a") == good
    [state] = made.states("Cluster")
    assert (state.intended, state.acked, state.rejected) == (bad.version, good.version, "no")
    made.apply(Delta((mended,)))
    assert snapshots.peek(NODE).get(types.CLUSTER, "a") == mended
    assert made.rejections == {}


def test_what_was_refused_and_is_accepted_later_is_not_refused_any_more(tmp_path: Path) -> None:
    made, _ = view(tmp_path)
    taken = listener("gateway/a/b")
    made.apply(Delta((taken,)))
    made.on_verdict(Rejection(taken.key, taken.version, (), "cannot bind"))
    made.on_connect()
    made.on_verdict(Accepted(types.LISTENER, {taken.name: taken.version}))
    assert made.rejections == {}


def test_a_late_refusal_of_an_older_version_changes_nothing(tmp_path: Path) -> None:
    made, snapshots = view(tmp_path)
    old, new = cluster("a", b"old"), cluster("a", b"new")
    made.apply(Delta((old,)))
    made.apply(Delta((new,)))
    made.on_verdict(Rejection(old.key, old.version, (), "no"))
    assert made.rejections == {}
    assert snapshots.peek(NODE).get(types.CLUSTER, "a") == new


def test_there_is_always_a_runtime_layer(tmp_path: Path) -> None:
    made, snapshots = view(tmp_path)
    runtime = snapshots.peek(NODE).of_type(types.RUNTIME)
    assert set(runtime) == {"penstock"}
    sent = make_resource(types.RUNTIME, "penstock", b"\x0a\x08penstock")
    made.apply(Delta((sent,)))
    made.apply(Delta((), (sent.key,)))
    assert set(runtime) == {"penstock"}
