"""The datapath of one node: load, attach, fill, watch.

Everything is pinned in a bpffs of its own, so that it goes on without this process:

    maps/<name>      contents survive; a map with another layout is an error
    programs/<name>  for inspection with bpftool
    links/<program>  attachments to the pods' cgroup and to Envoy's
    netns/<uid>      attachment to the network namespace of one pod
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from penstock.bpf import abi, links, sockdiag
from penstock.bpf.abi import Address, Cookie, Index, IPAddress
from penstock.bpf.build import OBJECT
from penstock.bpf.errors import DatapathError
from penstock.bpf.events import CounterTable, EventReader
from penstock.bpf.libbpf import BpfObject, library
from penstock.bpf.maps import BpfMap
from penstock.bpf.model import Pod, PolicyEntries, Service
from penstock.bpf.namespace_table import NamespaceTable
from penstock.bpf.namespaces import netns_cookie
from penstock.bpf.policy_table import PolicyTable
from penstock.bpf.service_table import Frontend, ServiceTable
from penstock.bpf.syscalls import mount_bpffs, unmount_bpffs

POD_PROGRAMS = (
    "pod_socket",
    "pod_sockops",  # before connect: no redirected connection lacks its original destination
    "pod_getpeername4",
    "pod_getpeername6",
    "pod_recvmsg4",
    "pod_recvmsg6",
    "pod_bind4",
    "pod_bind6",
    "pod_connect4",
    "pod_connect6",
    "pod_sendmsg4",
    "pod_sendmsg6",
    "pod_packet_in",
    "pod_packet_out",
)
ENVOY_PROGRAMS = ("envoy_connect4", "envoy_connect6", "envoy_sockops", "envoy_getsockopt")
NETNS_PROGRAM = "pod_inbound"
OWN_NETNS = Path("/proc/self/ns/net")

Prefix = IPv4Address | IPv6Address | IPv4Network | IPv6Network

_LINK_FOLDERS = ("links", "netns")
_FOLDERS = (*_LINK_FOLDERS, "programs", "maps")  # in the order of removal
_IPV4_PREFIX_BITS = 96


class Datapath:
    """The loaded and pinned programs and their maps. Make one with `Datapath.open`."""

    def __init__(self, bpffs: Path, loaded: BpfObject) -> None:
        """Use what `open` has loaded."""
        self._bpffs, self._object = bpffs, loaded
        maps = loaded.maps
        self._config = BpfMap(maps["config"], "config", Index, abi.Config)
        self._pods = BpfMap(maps["pods"], "pods", Cookie, abi.PodValue)
        self._pod_addresses = BpfMap(maps["pod_addresses"], "pod_addresses", Address, Cookie)
        self._identities = BpfMap(maps["identities"], "identities", abi.IdentityKey, Index)
        self._listeners = BpfMap(maps["listeners"], "listeners", abi.ListenerKey, Cookie)
        self._original_destinations = BpfMap(
            maps["original_destinations"], "original_destinations", abi.Connection, abi.Endpoint
        )
        self._policy = PolicyTable(
            BpfMap(maps["policy_defaults"], "policy_defaults", Index, abi.PolicyDefault),
            BpfMap(maps["policy"], "policy", abi.PolicyKey, abi.PolicyVerdict),
        )
        self._namespaces = NamespaceTable(
            BpfMap(maps["namespaces"], "namespaces", abi.NamespaceName, Index),
            self._used_namespaces,
        )
        self._services = ServiceTable(
            BpfMap(maps["services"], "services", abi.ServiceKey, abi.ServiceValue),
            BpfMap(maps["backends"], "backends", abi.BackendKey, abi.BackendValue),
            self._namespaces,
        )
        self._counters = CounterTable(maps["counters"])

    @classmethod
    def open(
        cls, bpffs: Path, *, object_file: Path = OBJECT, host_netns: Path = OWN_NETNS
    ) -> Datapath:
        """Load the programs, or take over what is pinned below *bpffs* and update it in place.

        Links that are pinned run the new programs afterwards; no packet and no connection is
        lost or passes unjudged meanwhile.

        Args:
            bpffs: where to mount a bpffs, or a folder in one; what is pinned there already is
                taken over.
            object_file: the compiled programs.
            host_netns: the node's network namespace: sockets there are not judged, also in the
                pods' cgroup (a pod on the host's network).

        Raises:
            DatapathError: something is missing (`missing_capabilities`), or another version
                has left maps of another layout.
        """
        mount_bpffs(bpffs)
        for folder in _FOLDERS:
            (bpffs / folder).mkdir(mode=0o700, exist_ok=True)
        loaded = BpfObject(object_file, bpffs / "maps")
        try:
            datapath = cls(bpffs, loaded)
            datapath._configure(netns_cookie(host_netns))
            datapath._pin_programs()
            datapath._update_links()
        except BaseException:
            loaded.close()
            raise
        return datapath

    def _configure(self, host: int) -> None:
        config = self._config.get(Index(value=0)) or abi.Config()
        if config.abi_version not in {0, abi.ABI_VERSION}:
            raise DatapathError(
                f"{self._bpffs}: maps of layout {config.abi_version} are pinned, this version has "
                f"{abi.ABI_VERSION}; drain the node, remove them and start again"
            )
        config.abi_version = abi.ABI_VERSION
        config.host_netns_cookie = host
        self._config.put(Index(value=0), config)

    def _pin_programs(self) -> None:
        for name, program in self._object.programs.items():
            pin = self._bpffs / "programs" / name
            pin.unlink(missing_ok=True)
            library().call("bpf_obj_pin", program.fd, os.fsencode(pin), what=f"pin {pin}")

    def _update_links(self) -> None:
        for pin in sorted((self._bpffs / "links").iterdir()):
            if pin.name in self._object.programs:
                links.update(self._object.programs[pin.name], pin)
            else:
                links.detach(pin)  # a program that this version does not have any more
        for pin in sorted((self._bpffs / "netns").iterdir()):
            links.update(self._object.programs[NETNS_PROGRAM], pin)

    def close(self) -> None:
        """Let go of everything; programs, links and maps stay in the kernel."""
        self._object.close()

    @classmethod
    def remove(cls, bpffs: Path) -> None:
        """Detach all that is pinned below *bpffs*, forget the maps and unmount it."""
        for folder in _FOLDERS:
            path = bpffs / folder
            if not path.is_dir():
                continue
            for pin in path.iterdir():
                if folder in _LINK_FOLDERS:
                    links.detach(pin)
                else:
                    pin.unlink()
            path.rmdir()
        unmount_bpffs(bpffs)

    # ---- attachment -------------------------------------------------------------------------

    def attach_pods(self, cgroup: Path) -> None:
        """Attach to the cgroup below which the pods' cgroups are; twice equals once."""
        self._attach(POD_PROGRAMS, cgroup)

    def attached_pods(self) -> bool:
        """Return whether there is a link for every program of the pods' cgroup."""
        return all((self._bpffs / "links" / name).exists() for name in POD_PROGRAMS)

    def attach_envoy(self, cgroup: Path) -> None:
        """Attach to Envoy's cgroup; Envoy must be in it before it opens its listeners.

        The cgroup may lie below the pods': the pods' programs then let Envoy pass. An Envoy in the
        cgroup of an earlier call is like any other process from now on.
        """
        config = self._config.get(Index(value=0)) or abi.Config()
        config.envoy_cgroup = cgroup.stat().st_ino
        self._config.put(Index(value=0), config)
        self._attach(ENVOY_PROGRAMS, cgroup)

    def _attach(self, programs: tuple[str, ...], cgroup: Path) -> None:
        for name in programs:
            links.attach(self._object.programs[name], cgroup, self._bpffs / "links" / name)

    def attach_netns(self, uid: str, netns: Path) -> None:
        """Judge what comes into the network namespace of pod *uid*; twice equals once."""
        links.attach(self._object.programs[NETNS_PROGRAM], netns, self._netns_pin(uid))

    def detach_netns(self, uid: str) -> None:
        """Undo `attach_netns`; nothing happens if it was not attached."""
        links.detach(self._netns_pin(uid))

    def attached_netns(self) -> set[str]:
        """Return the uids of all attached network namespaces."""
        return {_unescape(pin.name) for pin in (self._bpffs / "netns").iterdir()}

    def _netns_pin(self, uid: str) -> Path:
        return self._bpffs / "netns" / _escape(uid)

    # ---- pods and identities ----------------------------------------------------------------

    def set_pod(self, pod: Pod) -> None:
        """Add or replace a pod.

        Raises:
            DatapathError: the uid is too long, or a map is full.
        """
        uid = pod.uid.encode()
        if len(uid) >= abi.UID_SIZE:
            raise DatapathError(f"pod {pod.uid}: a uid has at most {abi.UID_SIZE - 1} bytes")
        old = self._pods.get(Cookie(value=pod.cookie))
        value = abi.PodValue(
            identity=pod.identity,
            flags=0 if pod.policed else abi.POD_UNPOLICED,
            namespace=self._namespaces.number(pod.namespace),
            ipv4=Address.of(pod.ipv4),
            ipv6=Address.of(pod.ipv6),
            uid=uid,
        )
        self._pods.put(Cookie(value=pod.cookie), value)
        for address in _addresses(value):
            self._pod_addresses.put(Address.of(address), Cookie(value=pod.cookie))
        if old is not None:
            self._forget_addresses(pod.cookie, _addresses(old) - _addresses(value))

    def remove_pod(self, pod: str | int) -> None:
        """Remove a pod by uid or cookie: its sockets are refused from now on."""
        for cookie, value in list(self._pods.items()):
            if pod in (cookie.value, value.uid.decode()):
                self._forget_addresses(cookie.value, _addresses(value))
                self._pods.delete(cookie)

    def _forget_addresses(self, cookie: int, addresses: Collection[IPAddress]) -> None:
        """Remove *addresses* unless another pod has taken them over."""
        for address in addresses:
            key = Address.of(address)
            owner = self._pod_addresses.get(key)
            if owner is not None and owner.value == cookie:
                self._pod_addresses.delete(key)

    def pods(self) -> dict[str, Pod]:
        """Return all pods by uid."""
        found: dict[str, Pod] = {}
        for cookie, value in self._pods.items():
            ipv4, ipv6 = value.ipv4.ip, value.ipv6.ip
            uid = value.uid.decode()
            found[uid] = Pod(
                uid=uid,
                cookie=cookie.value,
                identity=value.identity,
                policed=not value.flags & abi.POD_UNPOLICED,
                namespace=self._namespaces.name(value.namespace),
                ipv4=ipv4 if isinstance(ipv4, IPv4Address) else None,
                ipv6=ipv6 if isinstance(ipv6, IPv6Address) and int(ipv6) else None,
            )
        return found

    def set_identity(self, address: Prefix, identity: int) -> None:
        """Say who *address* is; the longest prefix wins, what has none is WORLD."""
        self._identities.put(_identity_key(address), Index(value=identity))

    def remove_identity(self, address: Prefix) -> None:
        """Forget who *address* is."""
        self._identities.delete(_identity_key(address))

    def identities(self) -> dict[IPAddress | IPv4Network | IPv6Network, int]:
        """Return the identity of every address and network that has one."""
        return {_prefix(key): value.value for key, value in self._identities.items()}

    # ---- policy and services ----------------------------------------------------------------

    def set_policy(self, identity: int, policy: PolicyEntries) -> bool:
        """Make *policy* hold for all pods of *identity*; return whether anything had to change.

        Never opens in between what neither the old policy nor the new one allows. Connections that
        exist keep their verdict: see `penstock.bpf.sockdiag`.
        """
        return self._policy.set(identity, policy)

    def remove_policy(self, identity: int) -> None:
        """Forget the policy of *identity*: its pods are closed from now on."""
        self._policy.remove(identity)

    def policies(self) -> set[int]:
        """Return the identities that have a policy."""
        return set(self._policy.identities())

    def set_service(self, service: Service) -> bool:
        """Make *service* hold at its addresses; return whether anything had to change."""
        return self._services.set(service)

    def remove_service(self, service: Service) -> None:
        """Remove the addresses of *service* for its port and protocol; the rest does not matter."""
        self._services.remove(service)

    def services(self) -> set[Frontend]:
        """Return the frontends of everything that `set_service` has set."""
        return set(self._services.frontends())

    def keep_namespaces(self) -> None:
        """Give the numbers of namespaces back that neither pods nor Services have any more."""
        self._namespaces.keep(self._used_namespaces())

    def _used_namespaces(self) -> set[str]:
        pods = {pod.namespace for pod in self.pods().values()}
        return pods | {one.clients for one in self._services.frontends()}

    # ---- what happens -----------------------------------------------------------------------

    def listening(self, cookie: int) -> set[int]:
        """Return the address families for which Envoy's ingress listener is open in a pod."""
        return {
            int(family)
            for family in (socket.AF_INET, socket.AF_INET6)
            if self._listeners.get(abi.ListenerKey(netns_cookie=cookie, family=family)) is not None
        }

    def original_destination(self, cookie: int, leg: sockdiag.Connection) -> tuple[str, int] | None:
        """Return what a pod's connection to its egress listener asked for, None if unknown.

        Args:
            cookie: of the pod's network namespace.
            leg: the connection, as the pod's side of it.
        """
        key = abi.Connection(
            source=Address.of(leg.local),
            destination=Address.of(leg.remote),
            source_port=leg.local_port,
            destination_port=leg.remote_port,
            netns_cookie=cookie,
        )
        found = self._original_destinations.get(key)
        return None if found is None else (str(found.address.ip), found.port)

    def events(self) -> EventReader:
        """Return a reader of events; there should be one at a time."""
        return EventReader(self._object.maps["events"], self._counters)

    def report_redirections(self, *, enabled: bool) -> None:
        """Also report connections that are redirected, not only those that are refused."""
        config = self._config.get(Index(value=0)) or abi.Config()
        config.flags &= ~abi.CONFIG_EVENTS_REDIRECTED
        config.flags |= abi.CONFIG_EVENTS_REDIRECTED if enabled else 0
        self._config.put(Index(value=0), config)

    def counters(self) -> dict[str, int]:
        """Return all counters by name; they grow as long as the maps live."""
        return self._counters.read_all()


def _addresses(pod: abi.PodValue) -> set[IPAddress]:
    return {address for address in (pod.ipv4.ip, pod.ipv6.ip) if int(address)}


def _identity_key(prefix: Prefix) -> abi.IdentityKey:
    address = prefix if isinstance(prefix, IPAddress) else prefix.network_address
    bits = prefix.max_prefixlen if isinstance(prefix, IPAddress) else prefix.prefixlen
    if address.version == 4:  # noqa: PLR2004 - an IP version
        bits += _IPV4_PREFIX_BITS
    return abi.IdentityKey(prefix_length=bits, address=Address.of(address))


def _prefix(key: abi.IdentityKey) -> IPAddress | IPv4Network | IPv6Network:
    address = key.address.ip
    if isinstance(address, IPv4Address):
        bits = key.prefix_length - _IPV4_PREFIX_BITS
        return address if bits == address.max_prefixlen else IPv4Network((address, bits))
    bits = key.prefix_length
    return address if bits == address.max_prefixlen else IPv6Network((address, bits))


def _escape(uid: str) -> str:
    """Return *uid* as a file name of a bpffs, which allows no dots."""
    return uid.replace("%", "%25").replace(".", "%2E").replace("/", "%2F")


def _unescape(name: str) -> str:
    return name.replace("%2F", "/").replace("%2E", ".").replace("%25", "%")
