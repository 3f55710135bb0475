"""What an agent reads from the API server: the Pods of its node, and where controllers are."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from penstock.ads.dial import Controller
from penstock.core.events import Batch, EventType
from penstock.core.kinds import EndpointSlice
from penstock.core.pods import Pod
from penstock.meta.clock import Clock
from penstock.meta.names import NamespacedName
from penstock.meta.node_identity import ADS_PORT, JOIN_PORT
from penstock.sources.kubernetes.access import Access
from penstock.sources.kubernetes.requests import Scope
from penstock.sources.kubernetes.source import KubernetesSource

FIRST_ANSWER_SECONDS = 5.0
"""How long a question for controllers waits for the first list of them."""


class ApiAccess(msgspec.Struct, frozen=True):
    """How to reach the API server."""

    access: Access
    environment: Mapping[str, str]
    """What a credential plugin is started with."""


def pods_of(node: str, api: ApiAccess, clock: Clock) -> KubernetesSource:
    """Return a source of the Pods that are bound to *node*."""
    return KubernetesSource(
        api.access,
        (Pod,),
        clock,
        random.random,
        environment=api.environment,
        scopes={Pod: Scope(fields=f"spec.nodeName={node}")},
    )


class ControllerFinder:
    """The ready endpoints of the controllers' Service."""

    def __init__(self, api: ApiAccess, service: NamespacedName, clock: Clock) -> None:
        """Know none yet; `run` follows the EndpointSlices of *service*."""
        scope = Scope(
            namespace=service.namespace, labels=f"{EndpointSlice.SERVICE_LABEL}={service.name}"
        )
        self._source = KubernetesSource(
            api.access,
            (EndpointSlice,),
            clock,
            random.random,
            environment=api.environment,
            scopes={EndpointSlice: scope},
        )
        self._slices: dict[NamespacedName, EndpointSlice] = {}
        self._listed = asyncio.Event()

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        await self._source.run(self.take)

    async def take(self, batch: Batch) -> None:
        """Take what a source says of the slices."""
        for event in batch.events:
            if event.type is EventType.DELETED:
                self._slices.pop(event.object.key, None)
            elif isinstance(event.object, EndpointSlice):
                self._slices[event.object.key] = event.object
        self._listed.set()

    async def controllers(self) -> Sequence[Controller]:
        """Return the controllers that are ready; those seen last while the API server is away."""
        if not self._listed.is_set():
            try:
                async with asyncio.timeout(FIRST_ANSWER_SECONDS):
                    await self._listed.wait()
            except TimeoutError:
                return ()
        return ready_controllers(self._slices.values())


def ready_controllers(slices: Iterable[EndpointSlice]) -> tuple[Controller, ...]:
    """Return the endpoints that are ready, sorted; ports are found by their names."""
    found: set[tuple[str, int, int]] = set()
    for one in slices:
        ports = {port.name: port.port for port in one.ports if port.port is not None}
        ads, join = ports.get("ads", ADS_PORT), ports.get("join", JOIN_PORT)
        for endpoint in one.endpoints:
            if endpoint.conditions.ready is not False:
                found.update((address, ads, join) for address in endpoint.addresses)
    return tuple(Controller(host=host, ads=ads, join=join) for host, ads, join in sorted(found))
