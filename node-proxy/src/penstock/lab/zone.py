"""Names of a cluster: which records Services and pods have. Pure.

Source: Kubernetes DNS-Based Service Discovery, schema version 1.1.0.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from penstock.core.kinds import Endpoint, EndpointSlice, Service
from penstock.core.pods import Pod
from penstock.lab.addressing import POD_RANGES
from penstock.lab.dnswire import Rcode, Record, Type
from penstock.lab.podfiles import CLUSTER_DOMAIN
from penstock.meta.names import NamespacedName
from penstock.meta.networks import SERVICE_NETWORKS

_SERVICES = f"svc.{CLUSTER_DOMAIN}"
_PODS = f"pod.{CLUSTER_DOMAIN}"
_REVERSE = ("in-addr.arpa", "ip6.arpa")
_RANGES = tuple(ipaddress.ip_network(text) for text in (*SERVICE_NETWORKS, *POD_RANGES))
_MAX_CHAIN = 8


class Reply(msgspec.Struct, frozen=True):
    """The content of an answer."""

    rcode: Rcode
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()


class Zone(msgspec.Struct, frozen=True):
    """All records, by name and type."""

    records: Mapping[str, Mapping[Type, tuple[Record, ...]]]
    names: frozenset[str]
    """Names with records, and those above them: they exist, even without a record."""

    def answer(self, name: str, kind: int) -> Reply:
        """Return the answer for *name*, which is in lower case, and a type of record.

        Names that are not the cluster's are refused: there is no network to ask.
        """
        if not _is_ours(name):
            return Reply(Rcode.REFUSED)
        if name not in self.names:
            return Reply(Rcode.NXDOMAIN, (), (_SOA,))
        found = self._follow(name, kind)
        return Reply(Rcode.NOERROR, found, () if found else (_SOA,))

    def _follow(self, name: str, kind: int) -> tuple[Record, ...]:
        """Return the records of *name*, and along aliases those of their targets."""
        found: list[Record] = []
        for _ in range(_MAX_CHAIN):
            held = self.records.get(name, {})
            if kind == Type.ANY:
                return tuple(record for group in held.values() for record in group)
            exact = [record for record in held.get(_type(kind), ()) if kind in list(Type)]
            alias = held.get(Type.CNAME, ())
            if exact or not alias or kind == Type.CNAME:
                return (*found, *exact)
            found.append(alias[0])
            name = alias[0].value
        return tuple(found)


def build_zone(
    *,
    services: Iterable[Service],
    slices: Iterable[EndpointSlice],
    pods: Iterable[Pod],
    namespaces: Iterable[str],
) -> Zone:
    """Return the names of a cluster.

    Args:
        services: with their virtual addresses.
        slices: of all Services.
        pods: with addresses in their status.
        namespaces: all that exist; their names exist even when they are empty.
    """
    by_service: defaultdict[NamespacedName, list[EndpointSlice]] = defaultdict(list)
    for one in slices:
        by_service[NamespacedName(one.metadata.namespace, one.service)].append(one)
    records: set[Record] = {
        Record(name=f"dns-version.{CLUSTER_DOMAIN}", type=Type.TXT, value="1.1.0"),
        _SOA,
    }
    for service in services:
        records |= set(_service_records(service, by_service[service.key]))
    for pod in pods:
        records |= set(_pod_records(pod))
    extra = {f"{name}.{domain}" for name in namespaces for domain in (_SERVICES, _PODS)}
    return _index(records, extra)


def service_name(service: Service) -> str:
    """Return the full name of a Service."""
    return f"{service.metadata.name}.{service.metadata.namespace}.{_SERVICES}"


def reverse_name(address: str) -> str:
    """Return the name under which an address is looked up."""
    return ipaddress.ip_address(address).reverse_pointer


def _service_records(service: Service, slices: list[EndpointSlice]) -> Iterator[Record]:
    name = service_name(service)
    if service.spec.type == "ExternalName":
        target = service.spec.external_name.rstrip(".").lower()
        yield Record(name=name, type=Type.CNAME, value=target)
        return
    for address in service.addresses:
        yield _address(name, address)
        yield Record(name=reverse_name(address), type=Type.PTR, value=name)
    if service.headless:
        for one in slices:
            yield from _headless_records(service, one)
        return
    for port in service.spec.ports:
        if port.name:
            yield _srv(name, port.name, port.protocol, port.port, name)


def _headless_records(service: Service, one: EndpointSlice) -> Iterator[Record]:
    name = service_name(service)
    for endpoint in one.endpoints:
        if not _answers(service, endpoint):
            continue
        for address in endpoint.addresses:
            if one.address_type == "FQDN":
                continue
            host = f"{endpoint.hostname or _dashes(address)}.{name}"
            yield _address(name, address)
            yield _address(host, address)
            yield Record(name=reverse_name(address), type=Type.PTR, value=host)
            for port in one.ports:
                if port.name and port.port is not None:
                    yield _srv(name, port.name, port.protocol, port.port, host)


def _answers(service: Service, endpoint: Endpoint) -> bool:
    """Return whether an endpoint is in the answers: ready, or wanted also when it is not."""
    return service.spec.publish_not_ready_addresses or endpoint.conditions.ready is not False


def _pod_records(pod: Pod) -> Iterator[Record]:
    for address in pod.addresses:
        yield _address(f"{_dashes(address)}.{pod.metadata.namespace}.{_PODS}", address)


def _address(name: str, address: str) -> Record:
    kind = Type.AAAA if ":" in address else Type.A
    return Record(name=name, type=kind, value=address)


def _srv(name: str, port: str, protocol: str, number: int, target: str) -> Record:
    """Return an SRV record. Source: RFC 2782; priority and weight as CoreDNS gives them."""
    full = f"_{port}._{protocol.lower()}.{name}"
    return Record(name=full, type=Type.SRV, value=f"0 100 {number} {target}")


def _dashes(address: str) -> str:
    """Return an address as a label: dots or colons become dashes."""
    return address.replace(".", "-").replace(":", "-")


def _is_ours(name: str) -> bool:
    """Return whether the cluster has the last word on *name*."""
    if _is_below(name, CLUSTER_DOMAIN):
        return True
    if not any(_is_below(name, zone) for zone in _REVERSE):
        return False
    address = _from_reverse(name)
    return address is not None and any(address in network for network in _RANGES)


def _from_reverse(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a reverse name stands for, None if it is not a whole one."""
    labels = name.split(".")
    try:
        if name.endswith(f".{_REVERSE[0]}"):
            return ipaddress.IPv4Address(".".join(labels[-3::-1]))
        digits = "".join(labels[-3::-1])
        return ipaddress.IPv6Address(bytes.fromhex(digits)) if len(digits) == 32 else None  # noqa: PLR2004 - hex digits of an IPv6 address
    except ValueError:
        return None


def _is_below(name: str, zone: str) -> bool:
    return name == zone or name.endswith(f".{zone}")


def _type(kind: int) -> Type:
    return Type(kind) if kind in list(Type) else Type.ANY


def _index(records: set[Record], extra: set[str]) -> Zone:
    indexed: defaultdict[str, defaultdict[Type, list[Record]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for record in sorted(records):
        indexed[record.name][record.type].append(record)
    names = {above for name in (*indexed, *extra) for above in _with_parents(name)}
    frozen = {
        name: {kind: tuple(group) for kind, group in groups.items()}
        for name, groups in indexed.items()
    }
    return Zone(frozen, frozenset(names))


def _with_parents(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.partition(".")[2]


_SOA = Record(
    name=CLUSTER_DOMAIN,
    type=Type.SOA,
    value=f"ns.dns.{CLUSTER_DOMAIN} hostmaster.{CLUSTER_DOMAIN} 1 7200 1800 86400 5",
)

EMPTY = Zone({}, frozenset())
