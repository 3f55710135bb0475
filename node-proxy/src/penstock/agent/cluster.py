"""What an agent reads from the API server: the Pods of its node, and where controllers are."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from penstock.ads.dial import Controller
from penstock.core.events import Batch, EventType
from penstock.core.kinds import ConfigMap, EndpointSlice
from penstock.core.objects import Object
from penstock.core.pods import Pod
from penstock.meta.clock import Clock
from penstock.meta.names import NamespacedName
from penstock.meta.node_identity import ADS_PORT, JOIN_PORT
from penstock.runtime.files import replace_file
from penstock.sources.kubernetes.access import Access
from penstock.sources.kubernetes.requests import Scope
from penstock.sources.kubernetes.source import KubernetesSource

STAGGER_SECONDS = 2.0
"""Agents that waited for the same controller come to it within this time."""
AUTHORITY, AUTHORITY_KEY = "penstock-ca", "ca.crt"
"""ConfigMap that controllers write, and its key."""

log = structlog.get_logger(__name__)


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
    """The ready endpoints of the controllers' Service, and by which certificates they are known.

    Both are read from the API server: a ConfigMap in a volume would come a minute late.
    """

    def __init__(
        self,
        api: ApiAccess,
        service: NamespacedName,
        clock: Clock,
        *,
        authority: Path | None,
        memory: Path,
    ) -> None:
        """Know none yet; `run` follows the EndpointSlices of *service*.

        Args:
            api: the API server.
            service: of the controllers.
            clock: for waiting.
            authority: file that is to hold the certificates of the ConfigMap in the Service's
                namespace; None reads no ConfigMap.
            memory: file that holds the controllers seen last, for an agent that starts while the
                API server is away.
        """
        slices = Scope(
            namespace=service.namespace, labels=f"{EndpointSlice.SERVICE_LABEL}={service.name}"
        )
        scopes: dict[type[Object], Scope] = {EndpointSlice: slices}
        if authority is not None:
            scopes[ConfigMap] = Scope(
                namespace=service.namespace, fields=f"metadata.name={AUTHORITY}"
            )
        self._source = KubernetesSource(
            api.access,
            tuple(scopes),
            clock,
            random.random,
            environment=api.environment,
            scopes=scopes,
        )
        self._clock = clock
        self._file = authority
        self._memory = memory
        self._remembered = _read_controllers(memory)
        self._listed = False
        self._slices: dict[NamespacedName, EndpointSlice] = {}
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        await self._source.run(self.take)

    async def take(self, batch: Batch) -> None:
        """Take what a source says of the slices and of the ConfigMap."""
        for event in batch.events:
            match event.object:
                case EndpointSlice() as found if event.type is not EventType.DELETED:
                    self._slices[found.key] = found
                case ConfigMap() as found if event.type is not EventType.DELETED:
                    self._keep(found)
                case gone:
                    self._slices.pop(gone.key, None)
        self._listed = True
        self._remember()
        async with self._changed:
            self._changed.notify_all()

    async def controllers(self) -> Sequence[Controller]:
        """Return the controllers that are ready; wait until there is one.

        Those seen last are returned while the API server is away.
        """
        if found := self._found():
            return found
        log.info("waiting for a controller", authority=self._known_by())
        async with self._changed:
            while not (found := self._found()):
                await self._changed.wait()
        await self._clock.sleep(random.random() * STAGGER_SECONDS)  # noqa: S311 - jitter
        return self._found() or found

    def _found(self) -> tuple[Controller, ...]:
        if not self._known_by():
            return ()
        return ready_controllers(self._slices.values()) if self._listed else self._remembered

    def _remember(self) -> None:
        found = ready_controllers(self._slices.values())
        if found and found != self._remembered:
            self._remembered = found
            replace_file(self._memory, msgspec.json.encode(found))

    def _known_by(self) -> str:
        """Return where the certificates are; "" if they are not there yet."""
        if self._file is None:
            return "as told"
        return str(self._file) if self._file.exists() else ""

    def _keep(self, found: ConfigMap) -> None:
        if self._file is not None and (bundle := found.data.get(AUTHORITY_KEY)):
            replace_file(self._file, bundle.encode(), durable=True)


def _read_controllers(path: Path) -> tuple[Controller, ...]:
    """Return what an earlier agent has seen; nothing if it left nothing that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Controller, ...])
    except (OSError, msgspec.MsgspecError):
        return ()


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
