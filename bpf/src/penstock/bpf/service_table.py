"""Services and their backends in the kernel.

The backends of a new generation are written first, then the service that names the generation, then
the old generation is removed. A program that still holds the old service finds a backend missing
and reads the service again (`service_pick` in `progs/services.h`), so no connection fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from penstock.bpf.abi import (
    MAX_BACKENDS,
    SERVICE_PROXY,
    SERVICE_ROUTED,
    SERVICE_STAY_SHIFT,
    BackendKey,
    BackendValue,
    Endpoint,
    IPAddress,
    ServiceKey,
    ServiceValue,
)
from penstock.bpf.errors import DatapathError
from penstock.bpf.maps import BpfMap
from penstock.bpf.model import Backend, Service
from penstock.bpf.namespace_table import NamespaceTable

_LARGEST_TOTAL = 0xFFFFFFFF


class Frontend(NamedTuple):
    """One virtual address of one port."""

    address: IPAddress
    port: int
    protocol: int
    clients: str = ""
    """Namespace of the pods that it is for; "" is for all others."""


class Known(NamedTuple):
    """What the kernel holds for a frontend."""

    id: int
    generation: int
    flags: int
    backends: tuple[tuple[IPAddress, int, int], ...]
    """Address, port, cumulative weight."""


def cumulate(weights: Sequence[int]) -> list[int]:
    """Return the running sums of *weights*, scaled down where they exceed 32 bits.

    A weight above 0 stays above 0.
    """
    total = sum(weights)
    divisor = total // (_LARGEST_TOTAL - len(weights)) + 1
    sums: list[int] = []
    running = 0
    for weight in weights:
        running += weight if divisor == 1 or not weight else max(1, weight // divisor)
        sums.append(running)
    return sums


class ServiceTable:
    """All services of a node; the only writer of the two maps."""

    def __init__(
        self,
        service_map: BpfMap[ServiceKey, ServiceValue],
        backend_map: BpfMap[BackendKey, BackendValue],
        namespaces: NamespaceTable,
    ) -> None:
        """Read what the maps hold, and remove generations that nothing names."""
        self._services, self._backends = service_map, backend_map
        self._namespaces = namespaces
        self._known: dict[Frontend, Known] = {}
        found: dict[tuple[int, int], dict[int, BackendValue]] = {}
        for key, backend in backend_map.items():
            found.setdefault((key.service, key.generation), {})[key.index] = backend
        for service_key, value in service_map.items():
            endpoint = service_key.frontend
            frontend = Frontend(
                endpoint.address.ip,
                endpoint.port,
                service_key.protocol,
                namespaces.name(service_key.namespace),
            )
            members = found.pop((value.id, value.generation), {})
            self._known[frontend] = Known(
                value.id,
                value.generation,
                value.flags,
                tuple(_triple(members[index]) for index in sorted(members)),
            )
        self._next_id = max((known.id for known in self._known.values()), default=0) + 1
        for (service, generation), members in found.items():
            self._forget(service, generation, members)

    def frontends(self) -> tuple[Frontend, ...]:
        """Return all virtual addresses that are known."""
        return tuple(self._known)

    def set(self, service: Service) -> bool:
        """Make *service* hold; return whether anything had to change.

        Raises:
            DatapathError: too many backends for one address family, or a map is full.
        """
        changed = False
        flags = SERVICE_PROXY * service.proxy | SERVICE_ROUTED * service.routed
        flags |= service.stay_seconds << SERVICE_STAY_SHIFT
        for frontend in frontends(service):
            version = frontend.address.version
            # In order, so that the kernel finds one.
            members = sorted(b for b in service.backends if b.address.version == version)
            changed |= self._set(frontend, members, flags)
        return changed

    def _key(self, frontend: Frontend) -> ServiceKey:
        """Return the key as the map holds it."""
        return ServiceKey(
            frontend=Endpoint.of(frontend.address, frontend.port),
            protocol=frontend.protocol,
            namespace=self._namespaces.number(frontend.clients),
        )

    def _set(self, frontend: Frontend, members: Sequence[Backend], flags: int) -> bool:
        if len(members) > MAX_BACKENDS:
            raise DatapathError(
                f"service {frontend.address} port {frontend.port}: {len(members)} backends, "
                f"{MAX_BACKENDS} is the limit of one service"
            )
        sums = cumulate([member.weight for member in members])
        backends = tuple((m.address, m.port, s) for m, s in zip(members, sums, strict=True))
        old = self._known.get(frontend)
        if old is not None and (old.flags, old.backends) == (flags, backends):
            return False
        key, new = self._key(frontend), Known(*self._name(old), flags, backends)
        self._write_backends(new)
        value = ServiceValue(
            id=new.id,
            generation=new.generation,
            count=len(backends),
            total_weight=sums[-1] if sums else 0,
            flags=flags,
        )
        self._services.put(key, value)
        self._known[frontend] = new
        if old is not None:
            self._forget(old.id, old.generation, range(len(old.backends)))
        return True

    def _name(self, old: Known | None) -> tuple[int, int]:
        """Return id and generation for new content."""
        if old is not None:
            return old.id, (old.generation + 1) & 0xFFFFFFFF
        self._next_id += 1
        return self._next_id - 1, 1

    def _write_backends(self, new: Known) -> None:
        try:
            for index, (address, port, cumulative) in enumerate(new.backends):
                self._backends.put(
                    BackendKey(service=new.id, generation=new.generation, index=index),
                    BackendValue(endpoint=Endpoint.of(address, port), cumulative_weight=cumulative),
                )
        except DatapathError:
            self._forget(new.id, new.generation, range(len(new.backends)))
            raise

    def remove(self, service: Service) -> None:
        """Remove the addresses of *service*; they are ordinary addresses from now on."""
        for frontend in frontends(service):
            self.remove_frontend(frontend)

    def remove_frontend(self, frontend: Frontend) -> None:
        """Remove one virtual address."""
        self._services.delete(self._key(frontend))
        known = self._known.pop(frontend, None)
        if known is not None:
            self._forget(known.id, known.generation, range(len(known.backends)))

    def _forget(self, service: int, generation: int, indexes: Iterable[int]) -> None:
        for index in indexes:
            self._backends.delete(BackendKey(service=service, generation=generation, index=index))


def frontends(service: Service) -> Iterator[Frontend]:
    """Yield where a Service port is reached."""
    for address in service.addresses:
        yield Frontend(address, service.port, service.protocol, service.clients)


def _triple(backend: BackendValue) -> tuple[IPAddress, int, int]:
    endpoint = backend.endpoint
    return endpoint.address.ip, endpoint.port, backend.cumulative_weight
