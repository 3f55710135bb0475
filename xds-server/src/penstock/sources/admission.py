"""What an API server adds to Services on admission: their virtual addresses."""

from __future__ import annotations

import ipaddress

import msgspec

from penstock.core.addresses import StableAllocator
from penstock.core.kinds import Service
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.meta.networks import GATEWAY_NETWORK, SERVICE_NETWORKS
from penstock.meta.problems import Problem

IPV4_NETWORK, IPV6_NETWORK = SERVICE_NETWORKS
IPV4_RESERVED = ("10.96.0.0/24", GATEWAY_NETWORK, "10.111.255.255/32")
"""Left for addresses that are given by hand, as 10.96.0.10 for cluster DNS, and for Gateways."""
IPV6_RESERVED = ("fd96::/120",)


class ServiceAddresses:
    """Virtual addresses of a set of Services; the outcome depends on the set alone.

    Without ipFamilies a Service gets an IPv4 and an IPv6 address; with ipFamilyPolicy SingleStack
    only the first family.
    """

    def __init__(self) -> None:
        """Start without Services."""
        self._allocators = {
            "IPv4": StableAllocator(IPV4_NETWORK, IPV4_RESERVED),
            "IPv6": StableAllocator(IPV6_NETWORK, IPV6_RESERVED),
        }
        self._services: dict[str, Service] = {}
        self._holders: dict[str, list[str]] = {}
        """By given address: names of the Services that ask for it, in order; the first has it."""

    def put(self, service: Service) -> set[ObjectRef]:
        """Take a new or changed Service and return those whose addresses changed, or may have."""
        name = str(service.key)
        old = self._services.get(name)
        if old is not None and old.spec == service.spec:
            self._services[name] = service
            return {service.ref}
        touched = self._drop(name)
        self._services[name] = service
        for address in _given(service):
            touched |= self._hold(address, name)
        for family in self._families(name):
            touched |= self._allocators[family].add(name)
        return _refs(touched | {name})

    def remove(self, key: NamespacedName) -> set[ObjectRef]:
        """Forget a Service and return others whose addresses changed."""
        return _refs(self._drop(str(key)) - {str(key)})

    def admit(self, service: Service) -> Service:
        """Return *service* with its addresses."""
        name = str(service.key)
        addresses = tuple(one for one in _given(service) if self._holders[one][0] == name)
        if not addresses:
            offers = [self._allocators[family].get(name) for family in self._families(name)]
            addresses = tuple(offer for offer in offers if offer is not None)
        if not addresses:
            return service
        spec = msgspec.structs.replace(
            service.spec,
            cluster_ip=addresses[0],
            cluster_ips=addresses,
            ip_families=tuple(_family(address) for address in addresses),
        )
        return msgspec.structs.replace(service, spec=spec)

    def problem(self, service: Service) -> Problem | None:
        """Return what is wrong with the addresses that *service* asks for."""
        name = str(service.key)
        for address in _given(service):
            first = self._holders[address][0]
            if first != name:
                message = f"{address} is the address of Service {first}"
                return Problem("spec.clusterIP", message, "remove the field or choose another one")
        return None

    def _families(self, name: str) -> tuple[str, ...]:
        """Return the families of which the Service needs an address from us."""
        service = self._services.get(name)
        if service is None or service.headless or service.spec.type == "ExternalName":
            return ()
        if any(self._holders[address][0] == name for address in _given(service)):
            return ()
        families = service.spec.ip_families or ("IPv4", "IPv6")
        return families[:1] if service.spec.ip_family_policy == "SingleStack" else families

    def _hold(self, address: str, name: str) -> set[str]:
        """Give *address* to *name*; a later holder of the same address loses it."""
        before = self._holders.get(address, [])
        self._holders[address] = sorted([*before, name])
        touched = set(self._allocators[_family(address)].hold(address))
        for other in before:
            touched |= {other} | self._reconsider(other)
        return touched

    def _drop(self, name: str) -> set[str]:
        service = self._services.pop(name, None)
        if service is None:
            return set()
        touched: set[str] = set()
        for allocator in self._allocators.values():
            touched |= allocator.remove(name)
        for address in _given(service):
            rest = [other for other in self._holders[address] if other != name]
            if rest:
                self._holders[address] = rest
                for other in rest:
                    touched |= {other} | self._reconsider(other)
            else:
                del self._holders[address]
                touched |= self._allocators[_family(address)].release(address)
        return touched

    def _reconsider(self, name: str) -> set[str]:
        """Let *name* have addresses from us or not, after it won or lost a given one."""
        touched: set[str] = set()
        families = self._families(name)
        for family, allocator in self._allocators.items():
            touched |= allocator.add(name) if family in families else allocator.remove(name)
        return touched


def _given(service: Service) -> tuple[str, ...]:
    """Return the addresses that the user wrote, in their canonical form."""
    if service.headless or service.spec.type == "ExternalName":
        return ()
    return tuple(dict.fromkeys(str(ipaddress.ip_address(one)) for one in service.addresses))


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _refs(names: set[str]) -> set[ObjectRef]:
    return {ObjectRef(Service.kind, *name.split("/", 1)) for name in names}
