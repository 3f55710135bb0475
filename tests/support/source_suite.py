"""What every source must do, whether its objects are files or live in an API server.

A test module subclasses `SourceSuite` and gives it a fixture `store`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from penstock.core.decode import Decoded
from penstock.core.deployments import Deployment
from penstock.core.events import Batch, Event, EventType
from penstock.core.kinds import ConfigMap, Namespace, Service
from penstock.core.objects import Broken
from penstock.meta.names import ObjectRef
from penstock.policy.resources import CiliumNetworkPolicy
from penstock.sources.source import Source

PATIENCE_SECONDS = 60.0
"""Long: it is what a machine takes that does much else."""


class Store(Protocol):
    """Where a test writes objects that the source then sees."""

    source: Source

    async def put(self, raw: dict[str, Any]) -> None:
        """Create or replace one object."""
        ...

    async def remove(self, ref: ObjectRef) -> None:
        """Remove one object."""
        ...


class Recorder:
    """A sink that keeps batches and the objects that result from them."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.objects: dict[ObjectRef, Decoded] = {}
        self._news = asyncio.Condition()

    async def __call__(self, batch: Batch) -> None:
        async with self._news:
            self.batches.append(batch)
            for event in batch.events:
                self._apply(event)
            self._news.notify_all()

    def _apply(self, event: Event) -> None:
        ref = event.object.ref
        if event.type is EventType.DELETED:
            del self.objects[ref]
            return
        assert (ref in self.objects) is (event.type is EventType.MODIFIED)
        self.objects[ref] = event.object

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch.events]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS), self._news:
            await self._news.wait_for(lambda: bool(condition()))


@asynccontextmanager
async def running(source: Source) -> AsyncGenerator[Recorder]:
    """Run *source* into a recorder that has seen the first batch."""
    recorder = Recorder()
    task = asyncio.create_task(source.run(recorder))
    try:
        await recorder.until(lambda: recorder.batches)
        yield recorder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for something that no batch tells.

    A condition may ask a server, which holds the loop up: what is tested has it for as long again.
    """
    time = asyncio.get_running_loop().time
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            began = time()
            if condition():
                return
            await asyncio.sleep(max(0.01, time() - began))


def config_map(name: str, *, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "shop", "labels": labels or {}},
        "data": data,
    }


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}], **spec},
    }


def deployment(name: str, **spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "penstock.dev/echo"}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }


def policy(name: str, port: str) -> dict[str, Any]:
    """Return a policy that every store accepts and that does not decode if *port* is no port."""
    rule = {"toPorts": [{"ports": [{"port": port, "protocol": "TCP"}]}]}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"endpointSelector": {}, "ingress": [rule]},
    }


A = ObjectRef("ConfigMap", "shop", "a")
P = ObjectRef("CiliumNetworkPolicy", "shop", "p")
PORT = "spec.ingress[0].toPorts[0].ports[0].port"
NO_PORT = "99999"


class SourceSuite:
    """Tests over a fixture `store`."""

    async def test_first_batch_is_everything_and_synced(self, store: Store) -> None:
        await store.put(config_map("a"))
        await store.put(service("b"))
        async with running(store.source) as seen:
            assert seen.batches[0].synced
            assert {A, ObjectRef("Service", "shop", "b")} <= set(seen.objects)
            assert {event.type for event in seen.batches[0].events} == {EventType.ADDED}

    async def test_new_changed_and_removed_objects_are_told(self, store: Store) -> None:
        async with running(store.source) as seen:
            await store.put(config_map("a", x="1"))
            await seen.until(lambda: A in seen.objects)
            await store.put(config_map("a", x="2"))
            await seen.until(lambda: _data(seen.objects[A]) == {"x": "2"})
            await store.remove(A)
            await seen.until(lambda: A not in seen.objects)
            told = [event for event in seen.events if event.object.ref == A]
            types = [event.type for event in told]
            assert types == [EventType.ADDED, EventType.MODIFIED, EventType.DELETED]
            assert _data(told[-1].object) == {"x": "2"}

    async def test_metadata_is_complete(self, store: Store) -> None:
        await store.put(config_map("a"))
        async with running(store.source) as seen:
            metadata = seen.objects[A].metadata
            assert metadata.uid
            assert metadata.resource_version
            assert metadata.creation_timestamp

    async def test_uid_stays_and_resource_version_changes_with_each_change(
        self, store: Store
    ) -> None:
        await store.put(config_map("a", x="1"))
        async with running(store.source) as seen:
            before = seen.objects[A].metadata
            await store.put(config_map("a", labels={"l": "1"}, x="1"))
            await seen.until(lambda: seen.objects[A].metadata.labels)
            after = seen.objects[A].metadata
            assert after.uid == before.uid
            assert after.resource_version != before.resource_version

    async def test_generation_counts_changes_of_the_spec_only(self, store: Store) -> None:
        ref = ObjectRef("Deployment", "shop", "d")
        await store.put(deployment("d", replicas=1))
        async with running(store.source) as seen:
            first = seen.objects[ref].metadata.generation
            labelled = deployment("d", replicas=1)
            labelled["metadata"]["labels"] = {"l": "1"}
            await store.put(labelled)
            await seen.until(lambda: seen.objects[ref].metadata.labels)
            assert seen.objects[ref].metadata.generation == first
            await store.put(deployment("d", replicas=2))
            await seen.until(lambda: seen.objects[ref].metadata.generation == first + 1)
            assert isinstance(seen.objects[ref], Deployment)

    async def test_object_that_never_decoded_is_broken(self, store: Store) -> None:
        await store.put(policy("p", NO_PORT))
        async with running(store.source) as seen:
            broken = seen.objects[P]
            assert isinstance(broken, Broken)
            assert [problem.path for problem in broken.problems] == [PORT]
            assert [str(one.ref) for one in store.source.problems()] == [str(P)]

    async def test_object_that_stops_decoding_keeps_its_last_good_version(
        self, store: Store
    ) -> None:
        await store.put(policy("p", "80"))
        async with running(store.source) as seen:
            good = seen.objects[P]
            assert isinstance(good, CiliumNetworkPolicy)
            await store.put(policy("p", NO_PORT))
            await eventually(store.source.problems)
            assert seen.objects[P] is good
            assert [one.last_good for one in store.source.problems()] == [True]
            await store.put(policy("p", "81"))
            await seen.until(lambda: seen.objects[P] != good)
            assert store.source.problems() == ()

    async def test_services_have_addresses(self, store: Store) -> None:
        await store.put(service("b"))
        await store.put(service("headless", clusterIP="None"))
        async with running(store.source) as seen:
            b = seen.objects[ObjectRef("Service", "shop", "b")]
            headless = seen.objects[ObjectRef("Service", "shop", "headless")]
            assert isinstance(b, Service)
            assert isinstance(headless, Service)
            assert b.addresses
            assert headless.addresses == ()

    async def test_cluster_scoped_objects_have_no_namespace(self, store: Store) -> None:
        await store.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        async with running(store.source) as seen:
            shop = seen.objects[ObjectRef("Namespace", "", "shop")]
            assert isinstance(shop, Namespace)
            assert shop.metadata.namespace == ""


def _data(decoded: Decoded) -> dict[str, str]:
    assert isinstance(decoded, ConfigMap)
    return decoded.data
