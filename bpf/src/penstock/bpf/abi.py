"""Mirror of `bpf/include/penstock/abi.h`; a test compares every size, offset and number.

Addresses are 16 octets in network order, IPv4 as ::ffff:a.b.c.d; ports are in host order.
"""

from __future__ import annotations

import ctypes
import enum
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from penstock.meta import limits, listeners, marks

ABI_VERSION = 2

EGRESS_PORT = listeners.EGRESS_PORT
INGRESS_PORT = listeners.INGRESS_PORT
HBONE_PORT = 15008

MARK_APP_LEG = marks.APP_LEG
MARK_POLICED = marks.POLICED
MARK_POLICED_GATEWAY = marks.POLICED_GATEWAY
MARK_GATEWAY = marks.GATEWAY
MARK_UNREAD = marks.UNREAD

MAX_BACKENDS = 4096
MAX_BACKENDS_JUDGED = limits.BACKENDS_JUDGED_AT_CONNECT
UID_SIZE = 64
COMM_SIZE = 16

NAMESPACE_SIZE = 64

CONFIG_EVENTS_REDIRECTED = 1
POD_UNPOLICED = 1
SERVICE_PROXY = 1
SERVICE_ROUTED = 2
SERVICE_STAY_SHIFT = 8

IPAddress = IPv4Address | IPv6Address

U8 = Annotated[int, ctypes.c_uint8]
U16 = Annotated[int, ctypes.c_uint16]
U32 = Annotated[int, ctypes.c_uint32]
U64 = Annotated[int, ctypes.c_uint64]


class EventKind(enum.IntEnum):
    """What happened."""

    CONNECT_DENIED = 1
    """connect() or sendmsg() of a pod was refused."""
    INBOUND_DROPPED = 2
    """A TCP connection to a pod was refused."""
    DATAGRAM_DROPPED = 3
    """A packet that is not TCP was dropped, in either direction."""
    REDIRECTED = 4
    """A connect() was sent to the egress listener."""
    INBOUND_REDIRECTED = 5
    """A connection was handed to the ingress listener."""
    CONNECT_ROUTED = 6
    """A connect() of a pod was sent where a route says."""


class Reason(enum.IntEnum):
    """Why something was refused."""

    NONE = 0
    DENY_ENTRY = 1
    DEFAULT_DENY = 2
    NO_POLICY = 3
    POLICY_CHANGING = 4
    NO_BACKEND = 5
    BACKENDS_DENIED = 6
    NO_LISTENER = 7
    UNKNOWN_POD = 8
    PROXY_PORT = 9
    NOT_PROXIABLE = 10
    UNREADABLE = 11
    NO_MEMORY = 12
    FOREIGN_ADDRESS = 13
    NOWHERE = 14


class Counter(enum.IntEnum):
    """Index in the map `counters`."""

    EVENTS_LOST = 0
    CONNECTS_DENIED = 1
    CONNECTS_REDIRECTED = 2
    CONNECTS_BALANCED = 3
    DATAGRAMS_BALANCED = 4
    INBOUND_DROPPED = 5
    INBOUND_REDIRECTED = 6
    INBOUND_POLICED = 7
    DATAGRAMS_DROPPED = 8
    LISTENERS_SEEN = 9
    ORIGINAL_DESTINATIONS_READ = 10


class Layout(ctypes.LittleEndianStructure):
    """A struct of abi.h; fields are declared as annotations."""


L = TypeVar("L", bound=Layout)


def layout(cls: type[L]) -> type[L]:
    """Make ctypes fields of the annotations of *cls*."""
    fields: list[tuple[str, Any]] = []
    for name, hint in get_type_hints(cls, include_extras=True).items():
        ctype: Any = get_args(hint)[1] if get_origin(hint) is Annotated else hint
        fields.append((name, ctype))
    cls._fields_ = fields
    return cls


@layout
class Address(Layout):
    """struct address."""

    octets: Annotated[Any, ctypes.c_uint8 * 16]

    @classmethod
    def of(cls, address: IPAddress | None) -> Address:
        """Return *address* as the maps hold it; None is all zeros."""
        if address is None:
            return cls()
        prefix = bytes(10) + b"\xff\xff" if isinstance(address, IPv4Address) else b""
        return cls.from_buffer_copy(prefix + address.packed)

    @property
    def ip(self) -> IPAddress:
        """Return the address, IPv4 where it is one."""
        address = IPv6Address(bytes(self.octets))
        return address.ipv4_mapped or address


@layout
class Endpoint(Layout):
    """struct endpoint."""

    address: Address
    port: U16
    reserved: U16

    @classmethod
    def of(cls, address: IPAddress, port: int) -> Endpoint:
        """Return the endpoint as the maps hold it."""
        return cls(address=Address.of(address), port=port)


@layout
class Index(Layout):
    """A bare __u32: key of an array, an identity, a mark."""

    value: U32


@layout
class Cookie(Layout):
    """A bare __u64: a network namespace's cookie, a counter."""

    value: U64


@layout
class Config(Layout):
    """struct config."""

    host_netns_cookie: U64
    abi_version: U32
    flags: U32
    envoy_cgroup: U64


@layout
class PodValue(Layout):
    """struct pod."""

    identity: U32
    flags: U16
    namespace: U16
    ipv4: Address
    ipv6: Address
    uid: Annotated[bytes, ctypes.c_char * UID_SIZE]


@layout
class IdentityKey(Layout):
    """struct identity_key."""

    prefix_length: U32
    address: Address


@layout
class PolicyDefault(Layout):
    """struct policy_default."""

    revision: U32
    ingress: U8
    egress: U8
    reserved: U16


@layout
class PolicyKey(Layout):
    """struct policy_key."""

    identity: U32
    peer: U32
    port: U16
    protocol: U8
    direction: U8


@layout
class PolicyVerdict(Layout):
    """struct policy_entry."""

    verdict: U32


@layout
class NamespaceName(Layout):
    """struct namespace_name."""

    name: Annotated[bytes, ctypes.c_char * NAMESPACE_SIZE]


@layout
class ServiceKey(Layout):
    """struct service_key."""

    frontend: Endpoint
    protocol: U16
    namespace: U16


@layout
class ServiceValue(Layout):
    """struct service."""

    id: U32
    generation: U32
    count: U32
    total_weight: U32
    flags: U32


@layout
class StayKey(Layout):
    """struct stay_key."""

    netns_cookie: U64
    service: U32
    reserved: U32


@layout
class Stay(Layout):
    """struct stay."""

    last_seen_ns: U64
    backend: Endpoint
    reserved: U32


@layout
class BackendKey(Layout):
    """struct backend_key."""

    service: U32
    generation: U32
    index: U32


@layout
class BackendValue(Layout):
    """struct backend."""

    endpoint: Endpoint
    cumulative_weight: U32


@layout
class Connection(Layout):
    """struct connection."""

    source: Address
    destination: Address
    source_port: U16
    destination_port: U16
    reserved: U32
    netns_cookie: U64


@layout
class DatagramFlow(Layout):
    """struct datagram_flow."""

    last_seen_ns: U64
    direction: U32
    reserved: U32


@layout
class DatagramOriginKey(Layout):
    """struct datagram_origin_key."""

    socket_cookie: U64
    backend: Endpoint
    reserved: U32


@layout
class ConnectState(Layout):
    """struct connect_state."""

    requested: Endpoint
    redirected: U32


@layout
class ListenerKey(Layout):
    """struct listener_key."""

    netns_cookie: U64
    family: U32
    reserved: U32


@layout
class EventRecord(Layout):
    """struct event."""

    timestamp_ns: U64
    netns_cookie: U64
    source: Address
    destination: Address
    requested: Address
    source_identity: U32
    destination_identity: U32
    source_port: U16
    destination_port: U16
    requested_port: U16
    kind: U8
    direction: U8
    protocol: U8
    reason: U8
    reserved: U16
    pid: U32
    comm: Annotated[bytes, ctypes.c_char * COMM_SIZE]


STRUCTS: dict[str, type[Layout]] = {
    "address": Address,
    "endpoint": Endpoint,
    "config": Config,
    "pod": PodValue,
    "identity_key": IdentityKey,
    "policy_default": PolicyDefault,
    "policy_key": PolicyKey,
    "policy_entry": PolicyVerdict,
    "namespace_name": NamespaceName,
    "service_key": ServiceKey,
    "service": ServiceValue,
    "backend_key": BackendKey,
    "backend": BackendValue,
    "stay_key": StayKey,
    "stay": Stay,
    "connection": Connection,
    "datagram_flow": DatagramFlow,
    "datagram_origin_key": DatagramOriginKey,
    "connect_state": ConnectState,
    "listener_key": ListenerKey,
    "event": EventRecord,
}
"""Every struct of abi.h by its name there."""
