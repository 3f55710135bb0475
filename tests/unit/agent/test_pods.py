from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from penstock.agent.datapath import NodeDatapath
from penstock.agent.pods import PodError, PodNotCaptured, PodRequest, Pods
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import make_resource
from penstock.xds.snapshot import Delta
from support.fake_kernel import FakeKernel
from support.pod_listeners import FakeListeners

REQUEST = PodRequest(
    uid="u1", namespace="shop", name="p", netns="netns/u1", cgroup="/pods/u1",
    addresses=("10.0.0.1",),
)  # fmt: skip


class World:
    def __init__(self, folder: Path) -> None:
        self.kernel = FakeKernel()
        self.kernel.cookies["netns/u1"] = 7
        self.datapath = NodeDatapath(self.kernel)
        self.listeners = FakeListeners()
        self.file = folder / "pods.json"
        self.pods = Pods(self.file, self.datapath, self.kernel, self.listeners)

    def know(self) -> None:
        workload = node_pb2.Workload(uid="u1", identity=5, addresses=["10.0.0.1"])
        policy = node_pb2.Policy(identity=5)
        self.datapath.apply(
            Delta(
                (
                    make_resource(types.WORKLOAD, "u1", workload.SerializeToString()),
                    make_resource(types.POLICY, "5", policy.SerializeToString()),
                )
            )
        )


async def test_a_pod_is_captured_when_workload_policy_and_listeners_are_there(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.listeners.answer = "warming"
    waiting = asyncio.create_task(world.pods.register(REQUEST, timeout=10))
    await asyncio.sleep(0)
    assert not waiting.done()
    world.know()
    await world.pods.changed()
    await asyncio.sleep(0)
    assert not waiting.done()
    world.listeners.answer = ""
    await world.pods.changed()
    await waiting
    assert world.kernel.pods == {"u1": 5}


async def test_the_reason_is_told_when_time_is_up_and_the_pod_stays_closed(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(PodNotCaptured, match="has not sent its Workload"):
        await world.pods.register(REQUEST, timeout=0.01)
    assert world.kernel.pods == {}
    assert world.kernel.attached == {"u1"}


async def test_asking_again_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.know()
    await world.pods.register(REQUEST, timeout=1)
    writes = len(world.kernel.writes)
    await world.pods.register(REQUEST, timeout=1)
    assert len(world.kernel.writes) == writes


async def test_the_kernel_polices_a_pod_before_envoy_listens_in_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.know()
    order: list[str] = []
    world.kernel.after_write = lambda: order.append(world.kernel.writes[-1].split()[0])
    await world.pods.register(REQUEST, timeout=1)
    assert order == ["attach_netns", "set_pod"]
    assert world.listeners.calls == ["open u1"]


async def test_a_restarted_agent_has_its_pods(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.know()
    await world.pods.register(REQUEST, timeout=1)
    again = World(tmp_path)
    again.know()
    again.pods.restore()
    assert again.kernel.pods == {"u1": 5}
    assert again.listeners.opened == {"u1"}
    await again.pods.register(REQUEST, timeout=1)


async def test_a_pod_whose_namespace_is_another_one_now_is_forgotten(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.know()
    await world.pods.register(REQUEST, timeout=1)
    again = World(tmp_path)
    again.kernel.cookies["netns/u1"] = 8
    again.pods.restore()
    assert again.pods.registered() == {}
    assert again.listeners.opened == set()


async def test_a_new_namespace_under_the_same_uid_gets_new_listeners(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.know()
    await world.pods.register(REQUEST, timeout=1)
    world.kernel.cookies["netns/u1"] = 8
    await world.pods.register(REQUEST, timeout=1)
    assert world.listeners.calls == ["open u1", "close u1", "closed u1", "open u1"]
    order = [w.split()[0] for w in world.kernel.writes if "netns" in w]
    assert order == ["attach_netns", "detach_netns", "ended", "attach_netns"]


async def test_a_pod_that_ended_is_let_go_of_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.know()
    await world.pods.register(REQUEST, timeout=1)
    assert await world.pods.unregister("u1")
    assert world.kernel.pods == {}
    assert world.kernel.attached == set()
    assert world.kernel.writes[-1] == "ended netns/u1"
    assert not await world.pods.unregister("u1")
    again = World(tmp_path)
    again.pods.restore()
    assert again.pods.registered() == {}


async def _ending(world: World) -> asyncio.Task[bool]:
    """Begin to let a pod go, in which Envoy still has listeners."""
    world.know()
    await world.pods.register(REQUEST, timeout=1)
    world.listeners.lets_go.clear()
    ending = asyncio.create_task(world.pods.unregister("u1"))
    await asyncio.sleep(0)
    return ending


async def test_connections_of_a_pod_end_though_nobody_waits_for_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    ending = await _ending(world)
    ending.cancel()
    await asyncio.wait({ending})
    assert world.kernel.writes[-1] == "ended netns/u1"


async def test_a_new_sandbox_keeps_its_connections_while_the_old_one_is_let_go(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    ending = await _ending(world)
    world.kernel.cookies["netns/u1b"] = 8
    await world.pods.add(msgspec.structs.replace(REQUEST, netns="netns/u1b"))
    world.listeners.lets_go.set()
    assert await ending
    assert [one for one in world.kernel.writes if "ended" in one] == ["ended netns/u1"]
    assert set(world.pods.registered()) == {"u1"}


@pytest.mark.parametrize("uid", ["", "../x", "a/b", ".", ".hidden", "a b"])
async def test_a_uid_that_is_no_file_name_is_refused(tmp_path: Path, uid: str) -> None:
    world = World(tmp_path)
    with pytest.raises(PodError, match="uid"):
        await world.pods.register(msgspec.structs.replace(REQUEST, uid=uid), timeout=0)


async def test_a_pod_outside_of_the_policed_cgroup_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PodError, match="cgroup"):
        await World(tmp_path).pods.register(
            msgspec.structs.replace(REQUEST, cgroup="/other"), timeout=0
        )


async def test_a_pod_without_a_namespace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PodError, match="No such file"):
        await World(tmp_path).pods.register(
            msgspec.structs.replace(REQUEST, netns="netns/u2"), timeout=0
        )


async def test_a_damaged_record_of_pods_is_as_none(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.file.write_bytes(b"[{")
    world.pods.restore()
    assert world.pods.registered() == {}


async def test_pods_of_some_namespaces_are_known_and_not_policed(tmp_path: Path) -> None:
    world = World(tmp_path)
    pods = Pods(
        world.file, world.datapath, world.kernel, world.listeners, unpoliced=frozenset({"shop"})
    )
    await pods.register(REQUEST, timeout=0)
    assert world.kernel.pods == {"u1": 0}
    assert world.kernel.attached == set()
    assert world.listeners.opened == set()
    assert await pods.unregister("u1")
    assert world.kernel.pods == {}


async def test_a_namespace_that_is_not_policed_any_more_leaves_nothing_attached(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.know()
    await world.pods.register(REQUEST, timeout=0)
    later = Pods(
        world.file, world.datapath, world.kernel, world.listeners, unpoliced=frozenset({"shop"})
    )
    later.restore()
    assert world.kernel.attached == set()
    assert world.kernel.pods == {"u1": 0}


async def test_the_end_of_an_older_sandbox_does_not_concern_the_newer_one(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.know()
    await world.pods.register(REQUEST, timeout=0)
    assert not await world.pods.unregister("u1", netns="/run/netns/older")
    assert not await world.pods.unregister("u1", netns="")
    assert await world.pods.unregister("u1", netns="netns/u1")


async def test_a_namespace_that_is_gone_may_be_told_without_a_name(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.know()
    await world.pods.register(REQUEST, timeout=0)
    del world.kernel.cookies["netns/u1"]
    assert await world.pods.unregister("u1", netns="")


class Hindered(World):
    """Something listens in the pod where Envoy should."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.in_the_way = "a process listens there"
        self.looks: Counter[str] = Counter()
        self.know()
        self.pods = self.again()

    def again(self) -> Pods:
        return Pods(
            self.file, self.datapath, self.kernel, self.listeners,
            hindrance=self._look,
        )  # fmt: skip

    def _look(self, netns: str) -> str:
        self.looks[netns] += 1
        return self.in_the_way


async def test_envoy_does_not_hear_of_a_pod_where_it_cannot_listen(tmp_path: Path) -> None:
    world = Hindered(tmp_path)
    with pytest.raises(PodNotCaptured, match="a process listens there"):
        await world.pods.register(REQUEST, timeout=0)
    assert world.listeners.opened == set()
    world.in_the_way = ""
    world.pods.review()
    assert world.listeners.opened == {"u1"}
    await world.pods.register(REQUEST, timeout=1)


async def test_a_pod_that_is_waited_for_is_looked_at_again_and_again(tmp_path: Path) -> None:
    """As one whose loopback comes up a moment after the plugin is called."""
    world = Hindered(tmp_path)
    waiting = asyncio.create_task(world.pods.register(REQUEST, timeout=10))
    await asyncio.sleep(0)
    assert not waiting.done()
    world.in_the_way = ""
    await waiting
    assert world.listeners.opened == {"u1"}


async def test_a_pod_that_was_open_is_not_looked_at_when_an_agent_starts(tmp_path: Path) -> None:
    """What listens there is Envoy, of which a new agent knows nothing yet."""
    world = Hindered(tmp_path)
    world.in_the_way = ""
    await world.pods.register(REQUEST, timeout=1)
    world.in_the_way = "somebody listens there"
    world.listeners.opened.clear()
    world.again().restore()
    assert world.listeners.opened == {"u1"}


async def test_a_pod_that_is_open_is_not_looked_at_when_it_is_told_again(tmp_path: Path) -> None:
    world = Hindered(tmp_path)
    world.in_the_way = ""
    await world.pods.register(REQUEST, timeout=1)
    world.in_the_way = "somebody listens there"
    request = msgspec.structs.replace(REQUEST, addresses=("10.0.0.2",))
    await world.pods.add(request)
    assert world.pods.registered()["u1"].request == request
    assert await world.pods.missing("u1") != "somebody listens there"
    world.listeners.opened.clear()
    world.again().restore()
    assert world.listeners.opened == {"u1"}


async def test_who_waits_for_a_pod_looks_at_that_one_alone(tmp_path: Path) -> None:
    world = Hindered(tmp_path)
    for uid in ("u2", "u3"):
        world.kernel.cookies[f"netns/{uid}"] = int(uid[1:])
        other = msgspec.structs.replace(REQUEST, uid=uid, netns=f"netns/{uid}", addresses=())
        await world.pods.add(other)
    with pytest.raises(PodNotCaptured):
        await world.pods.register(REQUEST, timeout=0.2)
    assert world.looks["netns/u1"] > 1
    assert (world.looks["netns/u2"], world.looks["netns/u3"]) == (1, 1)


async def test_a_full_disk_keeps_no_pod_from_being_looked_at(tmp_path: Path) -> None:
    world = Hindered(tmp_path)
    await world.pods.add(REQUEST)
    world.file.unlink()
    world.file.mkdir()
    world.in_the_way = ""
    world.pods.review()
    assert world.listeners.opened == {"u1"}


async def test_a_pod_that_was_hindered_still_is_when_an_agent_starts(tmp_path: Path) -> None:
    world = Hindered(tmp_path)
    await world.pods.add(REQUEST)
    later = world.again()
    later.restore()
    assert world.listeners.opened == set()
    assert await later.missing("u1") == "a process listens there"


async def test_a_review_of_everyone_takes_listeners_away_that_cannot_be(tmp_path: Path) -> None:
    world = Hindered(tmp_path)
    world.in_the_way = ""
    await world.pods.register(REQUEST, timeout=1)
    world.in_the_way = "a process listens there"
    world.pods.review()
    assert world.listeners.opened == {"u1"}
    world.pods.review(everyone=True)
    assert world.listeners.opened == set()
