"""Pods that run already, from the API server's list, cgroups and processes in a folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from penstock.agent.datapath import NodeDatapath
from penstock.agent.inventory import STATIC_UID, PodInventory
from penstock.agent.kubepods import Kubepods
from penstock.agent.pods import PodRequest, Pods
from penstock.core.events import Batch, Event, EventType
from penstock.core.objects import ObjectMeta
from penstock.core.pods import Container, Pod, PodIP, PodSpec, PodStatus
from support.fake_kernel import FakeKernel
from support.pod_listeners import FakeListeners

UID = "0a1b2c3d-1111-2222-3333-444455556666"
OTHER = "0a1b2c3d-1111-2222-3333-777755556666"
MACHINE = "5a1fb59e0cde1cd3b4c0f3f5b8b2c0aa"


class Machine:
    """A node of files: cgroups, processes, names of network namespaces."""

    def __init__(self, folder: Path) -> None:
        self.kernel = FakeKernel()
        self.listeners = FakeListeners()
        self.root, self.proc, self.netns = (folder / name for name in ("kubepods", "proc", "netns"))
        for made in (self.root, self.proc, self.netns):
            made.mkdir()
        self.pods = Pods(
            folder / "pods.json", NodeDatapath(self.kernel), self.kernel, self.listeners,
            unpoliced=frozenset({"penstock-system"}),
        )  # fmt: skip
        self.complete = 0
        self.inventory = PodInventory(
            self.pods, Kubepods(self.root), on_complete=self._on_complete,
            netns_folder=self.netns, proc=self.proc,
        )  # fmt: skip

    def _on_complete(self) -> None:
        self.complete += 1

    def start(self, uid: str, name: str, pid: int) -> Path:
        """Run a process in a pod's cgroup, with a network namespace of its own."""
        (self.netns / name).touch()
        container = self.root / "burstable" / f"pod{uid}" / "container"
        container.mkdir(parents=True)
        (container / "cgroup.procs").write_text(f"{pid}\n")
        namespaces = self.proc / str(pid) / "ns"
        namespaces.mkdir(parents=True)
        (namespaces / "net").hardlink_to(self.netns / name)
        self.kernel.cookies[str(self.netns / name)] = pid
        return self.netns / name

    async def tell(self, kind: EventType, *pods: Pod) -> None:
        await self.inventory.take(Batch(tuple(Event(kind, pod) for pod in pods)))


def pod(
    uid: str = UID,
    namespace: str = "shop",
    *,
    host_network: bool = False,
    phase: str = "Running",
    addresses: tuple[str, ...] = ("10.0.0.1",),
    static: str = "",
) -> Pod:
    annotations = {STATIC_UID: static} if static else {}
    return Pod(
        metadata=ObjectMeta(
            name=f"p-{uid[-3:]}", namespace=namespace, uid=uid, annotations=annotations
        ),
        spec=PodSpec(containers=(Container(name="c"),), host_network=host_network),
        status=PodStatus(phase=phase, pod_ips=tuple(PodIP(ip=ip) for ip in addresses)),
    )  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


async def test_a_running_pod_is_registered_with_its_namespace_and_addresses(
    machine: Machine,
) -> None:
    netns = machine.start(UID, "cni-1", 11)
    await machine.tell(EventType.ADDED, pod())
    await machine.inventory.look()
    assert machine.pods.registered()[UID].request == PodRequest(
        uid=UID, namespace="shop", name="p-666", netns=str(netns), addresses=("10.0.0.1",),
    )  # fmt: skip
    assert machine.listeners.opened == {UID}


@pytest.mark.parametrize(
    "unfit",
    [
        pod(host_network=True),
        pod(phase="Succeeded"),
        pod(phase="Failed"),
        pod(phase="Pending", addresses=()),
    ],
)
async def test_pods_without_a_network_of_their_own_are_left_alone(
    machine: Machine, unfit: Pod
) -> None:
    machine.start(UID, "cni-1", 11)
    await machine.tell(EventType.ADDED, unfit)
    await machine.inventory.look()
    assert machine.pods.registered() == {}


async def test_a_pod_in_its_init_containers_is_registered(machine: Machine) -> None:
    machine.start(UID, "cni-1", 11)
    await machine.tell(EventType.ADDED, pod(phase="Pending"))
    await machine.inventory.look()
    assert UID in machine.pods.registered()


async def test_pods_of_penstock_are_known_and_not_policed(machine: Machine) -> None:
    machine.start(UID, "cni-1", 11)
    await machine.tell(EventType.ADDED, pod(namespace="penstock-system"))
    await machine.inventory.look()
    assert not machine.pods.registered()[UID].policed
    assert await machine.pods.missing(UID) == ""
    assert machine.kernel.pods == {UID: 0}
    assert machine.listeners.opened == set()
    assert machine.kernel.attached == set()


async def test_a_pod_whose_process_comes_later_is_found_later(machine: Machine) -> None:
    await machine.tell(EventType.ADDED, pod())
    await machine.inventory.look()
    assert machine.pods.registered() == {}
    machine.start(UID, "cni-1", 11)
    await machine.inventory.look()
    assert UID in machine.pods.registered()


async def test_a_pod_that_is_gone_from_list_and_machine_is_unregistered(machine: Machine) -> None:
    netns = machine.start(UID, "cni-1", 11)
    await machine.tell(EventType.ADDED, pod())
    await machine.inventory.look()
    del machine.kernel.cookies[str(netns)]
    await machine.inventory.look()
    assert UID in machine.pods.registered(), "the list still has it"
    await machine.tell(EventType.DELETED, pod())
    await machine.inventory.look()
    assert machine.pods.registered() == {}


async def test_a_pod_that_has_ended_is_unregistered_while_its_object_stays(
    machine: Machine,
) -> None:
    netns = machine.start(UID, "cni-1", 11)
    await machine.tell(EventType.ADDED, pod())
    await machine.inventory.look()
    await machine.tell(EventType.MODIFIED, pod(phase="Succeeded"))
    await machine.inventory.look()
    assert UID in machine.pods.registered(), "its namespace is still there"
    del machine.kernel.cookies[str(netns)]
    await machine.inventory.look()
    assert machine.pods.registered() == {}


async def test_a_pod_whose_namespace_is_still_there_stays(machine: Machine) -> None:
    machine.start(UID, "cni-1", 11)
    await machine.tell(EventType.ADDED, pod())
    await machine.inventory.look()
    await machine.tell(EventType.DELETED, pod())
    await machine.inventory.look()
    assert UID in machine.pods.registered()


async def test_a_namespace_that_another_pod_has_now_counts_as_gone(machine: Machine) -> None:
    netns = machine.start(UID, "cni-1", 11)
    await machine.tell(EventType.ADDED, pod())
    await machine.inventory.look()
    await machine.tell(EventType.DELETED, pod())
    machine.kernel.cookies[str(netns)] = 99
    await machine.inventory.look()
    assert machine.pods.registered() == {}


async def test_a_static_pod_is_found_by_the_uid_that_the_kubelet_gave_it(machine: Machine) -> None:
    machine.start(MACHINE, "cni-1", 11)
    await machine.tell(EventType.ADDED, pod(static=MACHINE))
    await machine.inventory.look()
    assert UID in machine.pods.registered()
    assert machine.inventory.object_uid(MACHINE) == UID
    assert machine.inventory.object_uid(OTHER) == OTHER


async def test_nothing_is_complete_before_list_and_resources_are_there(machine: Machine) -> None:
    machine.start(UID, "cni-1", 11)
    ready = asyncio.Event()
    running = asyncio.create_task(machine.inventory.run(ready))
    try:
        await asyncio.sleep(0)
        await machine.tell(EventType.ADDED, pod(namespace="penstock-system"))
        await asyncio.sleep(0)
        assert machine.complete == 0
        assert machine.pods.registered() == {}
        ready.set()
        async with asyncio.timeout(30):
            while not machine.complete:  # noqa: ASYNC110 - the fake has no event
                await asyncio.sleep(0.001)
        assert UID in machine.pods.registered()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
