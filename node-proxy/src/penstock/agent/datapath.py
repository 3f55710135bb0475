"""What the kernel should enforce, kept equal to the node.v1 resources and the local pods.

Every change is a batch, put into the kernel in an order such that at no moment a connection is
allowed that neither the state before nor the state after the batch allows:

1. pods whose identity changes are closed;
2. policies; while addresses change hands too, the stricter of old and new first;
3. identities of addresses;
4. policies as they should be;
5. pods: identity and Policy known, else they stay closed;
6. services, last: what they lead to is known by then.

Removals are the other way round: services first. Source: design of the datapath, "policy first".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol

import msgspec
import structlog

from penstock.agent.address_owners import AddressOwners
from penstock.agent.lattice import CLOSED, IdentityPolicy, Match, judge, meet
from penstock.agent.node_resources import (
    Address,
    Content,
    Peer,
    Policy,
    Service,
    Workload,
    canonical,
    decode,
)
from penstock.ir.policy import TCP, Direction, Reserved, Verdict
from penstock.meta.errors import PenstockError
from penstock.xds import types
from penstock.xds.snapshot import Delta

log = structlog.get_logger(__name__)

_SERVICE_PARTS = 4
"""Of the name of a Service for all: what follows is the namespace that another one is for."""
_NOBODY = 0
"""As whom a pod is known to the kernel that is not policed."""


class LocalPod(msgspec.Struct, frozen=True, kw_only=True):
    """A pod on this node whose network namespace we hold."""

    uid: str
    cookie: int
    """Cookie of the network namespace (SO_NETNS_COOKIE)."""
    addresses: tuple[str, ...]
    policed: bool = True
    """False: neither judged nor redirected, but served by Services."""


class Kernel(Protocol):
    """The maps of the datapath, one call for each entry; each call is atomic."""

    def set_pod(self, pod: LocalPod, identity: int, namespace: str) -> None:
        """Let the pod be judged as *identity*, and be served as one of *namespace*."""
        ...

    def remove_pod(self, uid: str) -> None:
        """Close the pod."""
        ...

    def set_identity(self, address: str, identity: int) -> None:
        """Say who has *address*."""
        ...

    def remove_identity(self, address: str) -> None:
        """Let *address* be WORLD."""
        ...

    def set_policy(self, identity: int, policy: IdentityPolicy) -> None:
        """Replace the verdicts of *identity* as a whole."""
        ...

    def remove_policy(self, identity: int) -> None:
        """Close *identity*."""
        ...

    def set_service(self, name: str, service: Service) -> None:
        """Replace a Service port as a whole."""
        ...

    def remove_service(self, name: str) -> None:
        """Forget a Service port."""
        ...


class Placed(NamedTuple):
    """A local pod and as whom the kernel knows it."""

    pod: LocalPod
    identity: int
    namespace: str = ""
    """Of one that is judged."""


class Affected(msgspec.Struct, frozen=True):
    """Whose open connections may have another verdict now."""

    pods: frozenset[str] = frozenset()
    """Uids of local pods of which any connection may be."""
    addresses: frozenset[str] = frozenset()
    """Addresses that changed from one identity to another: connections of all pods with them."""
    unproxied: bool = False
    """A Service does not lead to Envoy any more: connections to all egress listeners."""


class NodeDatapath:
    """The node.v1 resources and local pods, and what of them the kernel has been told."""

    def __init__(self, kernel: Kernel) -> None:
        """Start with an empty state; the kernel's maps are taken to be empty or outdated."""
        self._kernel = kernel
        self.workloads: dict[str, Workload] = {}
        self.peers: dict[str, Peer] = {}
        self.policies: dict[int, Policy] = {}
        self.services: dict[str, Service] = {}
        self.addresses: dict[str, Address] = {}
        """What this node answers for, by name; the kernel's maps do not know of it."""
        self.local: dict[str, LocalPod] = {}
        self.failures: dict[str, str] = {}
        """What the kernel refused, and why."""
        self._vips: dict[tuple[str, int], dict[str, str]] = {}
        """Names of Services, by resources: of several protocols, or one that takes over."""
        self._owners = AddressOwners(self.local)
        self._identities: dict[str, int] = {}
        self._enforced: dict[int, IdentityPolicy] = {}
        self._pods: dict[str, Placed] = {}
        self._services: dict[str, Service] = {}

    def identity_of(self, address: str) -> int:
        """Return who has *address*; WORLD if nobody is known to have it."""
        return self._identities.get(canonical(address), int(Reserved.WORLD))

    def is_known(self, address: str) -> bool:
        """Return whether somebody is known to have *address*."""
        return canonical(address) in self._owners

    def workload_at(self, address: str) -> Workload | None:
        """Return the workload that has *address*."""
        return self.workloads.get(self._owners.uid(canonical(address)))

    def service_at(self, address: str, port: int) -> str:
        """Return "namespace/name" of the Service with this virtual IP and port, or ""."""
        return next(reversed(self._vips.get((address, port), {}).values()), "")

    def redirects(self, identity: int, address: str, port: int, *, namespace: str = "") -> bool:
        """Return whether a TCP connect to *address* is led to Envoy.

        Args:
            identity: of the pod.
            address: what it connects to.
            port: of that.
            namespace: of the pod.
        """
        name = self.service_at(address, port)
        service = self._service_for(f"{name}/{port}/tcp/{namespace}") if name else None
        if service is not None and service.proxy:
            return True
        ends = [(b.address, b.port) for b in service.backends] if service else [(address, port)]
        policy = self.verdicts(identity)
        peers = ((self.identity_of(at), to) for at, to in ends)
        return any(
            judge(policy, Match(Direction.EGRESS, peer, to, TCP)) is Verdict.PROXY
            for peer, to in peers
        )

    def verdicts(self, identity: int) -> IdentityPolicy:
        """Return what the kernel enforces for *identity*."""
        return self._enforced.get(identity, CLOSED)

    def enforced_identity(self, uid: str) -> int | None:
        """Return as whom the kernel judges a local pod; None if it is closed or not judged."""
        held = self._pods.get(uid)
        return held.identity if held and held.pod.policed else None

    def namespace_of(self, uid: str) -> str:
        """Return of which namespace a local pod is for the kernel; "" if of none."""
        held = self._pods.get(uid)
        return held.namespace if held else ""

    def missing(self, uid: str) -> str:
        """Return why a local pod is still closed; "" if it is not."""
        pod = self.local.get(uid)
        if pod is not None and not pod.policed:
            return "" if uid in self._pods else self.failures.get(f"pod {uid}", "it is not there")
        workload = self.workloads.get(uid)
        if workload is None:
            return "the controller has not sent its Workload"
        if workload.identity not in self.policies:
            return f"the controller has not sent the Policy of its identity {workload.identity}"
        if uid in self._pods:
            return ""
        refused = self.failures.get(f"pod {uid}") or self.failures.get(
            f"policy {workload.identity}"
        )
        return refused or "it is not registered"

    def retry(self) -> Affected:
        """Write again what the kernel refused."""
        return self._converge(
            _Touched(
                pods=set(self.local),
                policies=self.policies.keys() | self._enforced.keys(),
                addresses={*self._owners.addresses, *self._identities},
                services=set(self.services),
            )
        )

    def set_host_addresses(self, addresses: Iterable[str]) -> Affected:
        """Say which addresses are the node's own: they are HOST, whoever else claims them."""
        touched = self._owners.set_host(set(map(canonical, addresses)))
        return self._converge(_Touched(addresses=touched))

    def add_pod(self, pod: LocalPod) -> Affected:
        """Enforce for a pod of this node from now on."""
        touched = _Touched(pods={pod.uid})
        self.local[pod.uid] = pod
        self._claim_own(pod.uid, touched)
        return self._converge(touched)

    def remove_pod(self, uid: str) -> Affected:
        """Stop to enforce for a pod that is gone."""
        touched = _Touched(pods={uid})
        self.local.pop(uid, None)
        self._claim_own(uid, touched)
        return self._converge(touched)

    def apply(self, delta: Delta) -> Affected:
        """Take resources of `types.NODE_TYPES`; others are passed over.

        Raises:
            google.protobuf.message.DecodeError: a resource is damaged; nothing was changed.
        """
        decoded = [(resource, decode(resource)) for resource in delta.upserts]
        touched = _Touched()
        for key in delta.removals:
            self._forget(key.type_url, key.name, touched)
        for resource, content in decoded:
            self._learn(resource.name, content, touched)
        return self._converge(touched)

    def _forget(self, type_url: str, name: str, touched: _Touched) -> None:
        if type_url == types.WORKLOAD:
            self._place(name, None, touched)
        elif type_url == types.PEER:
            touched.addresses |= self._owners.claim(name, self.peers.pop(name, None), None)
        elif type_url == types.POLICY:
            self.policies.pop(int(name), None)
            touched.policies.add(int(name))
        elif type_url == types.SERVICE:
            self._list_vips(name, self.services.pop(name, None), None)
            touched.services.add(name)
        elif type_url == types.ADDRESS:
            self.addresses.pop(name, None)

    def _learn(self, name: str, content: Content | None, touched: _Touched) -> None:
        match content:
            case Workload():
                self._place(name, content, touched)
            case Peer():
                touched.addresses |= self._owners.claim(name, self.peers.get(name), content)
                self.peers[name] = content
            case Policy():
                self.policies[int(name)] = content
                touched.policies.add(int(name))
            case Service():
                self._list_vips(name, self.services.get(name), content)
                self.services[name] = content
                touched.services.add(name)
            case Address():
                self.addresses[name] = content
            case None:
                pass

    def _list_vips(self, name: str, old: Service | None, new: Service | None) -> None:
        # Those for one namespace are at the addresses of those for all.
        if old is not None and not old.clients:
            for place in {(address, old.port) for address in old.addresses}:
                self._vips[place].pop(name)
                if not self._vips[place]:
                    del self._vips[place]
        if new is not None and not new.clients:
            for address in new.addresses:
                self._vips.setdefault((address, new.port), {})[name] = f"{new.namespace}/{new.name}"

    def _place(self, uid: str, workload: Workload | None, touched: _Touched) -> None:
        """Note who a workload is."""
        touched.pods.add(uid)
        old = self.workloads.pop(uid, None)
        if workload is not None:
            self.workloads[uid] = workload
        touched.addresses |= self._owners.claim(uid, old, workload)
        self._claim_own(uid, touched)

    def _claim_own(self, uid: str, touched: _Touched) -> None:
        """Let a local pod have the addresses it was registered with: they are known here first."""
        pod, workload = self.local.get(uid), self.workloads.get(uid)
        claim = (
            Peer(addresses=pod.addresses, identity=workload.identity) if pod and workload else None
        )
        touched.addresses |= self._owners.claim_own(uid, claim)

    def _converge(self, touched: _Touched) -> Affected:
        """Put what was touched into the kernel, in the order of the module's docstring."""
        policies = {i for i in touched.policies if self._wanted(i) != self._enforced.get(i)}
        pods = {uid for uid in touched.pods | self._pods_of(policies) if self._moves(uid)}
        owners, known = self._owners, self._identities
        addresses = {a for a in touched.addresses if owners.identity(a) != known.get(a)}
        changed = frozenset(a for a in addresses if a in known and a in owners)
        proxied = {name for name in touched.services if self._is_proxied(name)}
        self._drop_services(touched.services)
        self._close_pods(pods)
        if addresses:
            self._tighten(policies)
        self._set_policies(policies, final=not addresses)
        self._set_identities(addresses)
        self._set_policies(policies, final=True)
        self._open_pods(pods)
        self._set_services(touched.services)
        unproxied = not all(self._is_proxied(name) for name in proxied)
        return Affected(frozenset(self._pods_of(policies) | pods), changed, unproxied)

    def _is_proxied(self, name: str) -> bool:
        service = self._service_for(name)
        return service is not None and service.proxy

    def _service_for(self, name: str) -> Service | None:
        """Return the Service *name*, or the one for all if there is none for a namespace."""
        for_all = "/".join(name.split("/", _SERVICE_PARTS)[:_SERVICE_PARTS])
        return self._services.get(name) or self._services.get(for_all)

    def _wanted(self, identity: int) -> IdentityPolicy | None:
        policy = self.policies.get(identity)
        return policy.verdicts if policy else None

    def _pods_of(self, identities: AbstractSet[int]) -> set[str]:
        if not identities:
            return set()
        return {
            uid for uid in self.local
            if (workload := self.workloads.get(uid)) and workload.identity in identities
        }  # fmt: skip

    def _target(self, uid: str) -> Placed | None:
        """Return the pod and as whom it should be judged; None if it must be closed."""
        pod, workload = self.local.get(uid), self.workloads.get(uid)
        if pod is not None and not pod.policed:
            return Placed(pod, _NOBODY)
        if pod is None or workload is None or workload.identity not in self.policies:
            return None
        return Placed(pod, workload.identity, workload.namespace)

    def _moves(self, uid: str) -> bool:
        return self._target(uid) != self._pods.get(uid)

    def _write(self, what: str, write: Callable[..., object], *arguments: object) -> bool:
        """Write one entry; of one that the kernel refuses the old value stays, others go on."""
        try:
            write(*arguments)
        except PenstockError as error:
            self.failures[what] = str(error)
            log.error("kernel refused", what=what, error=str(error))  # noqa: TRY400 - the text says it all
            return False
        self.failures.pop(what, None)
        return True

    def _drop_services(self, names: AbstractSet[str]) -> None:
        for name in sorted(names - self.services.keys()):
            if self._services.pop(name, None) is not None:
                self._write(f"service {name}", self._kernel.remove_service, name)

    def _close_pods(self, uids: Iterable[str]) -> None:
        for uid in sorted(uids):
            if self._pods.pop(uid, None) is not None:
                self._write(f"pod {uid}", self._kernel.remove_pod, uid)

    def _tighten(self, identities: Iterable[int]) -> None:
        for identity in sorted(identities):
            old, new = self._enforced.get(identity), self._wanted(identity)
            if old is not None and new is not None:
                self._enforce(identity, meet(old, new))

    def _set_policies(self, identities: Iterable[int], *, final: bool) -> None:
        """Close those that are gone; when *final*, also set the others as they should be."""
        for identity in sorted(identities):
            new = self._wanted(identity)
            if new is None:
                if self._enforced.pop(identity, None) is not None:
                    self._write(f"policy {identity}", self._kernel.remove_policy, identity)
            elif final:
                self._enforce(identity, new)

    def _enforce(self, identity: int, policy: IdentityPolicy) -> None:
        if self._enforced.get(identity) == policy:
            return
        if self._write(f"policy {identity}", self._kernel.set_policy, identity, policy):
            self._enforced[identity] = policy

    def _set_identities(self, addresses: Iterable[str]) -> None:
        for address in sorted(addresses):
            identity = self._owners.identity(address)
            what = f"address {address}"
            if identity is None:
                self._identities.pop(address, None)
                self._write(what, self._kernel.remove_identity, address)
            elif self._write(what, self._kernel.set_identity, address, identity):
                self._identities[address] = identity

    def _open_pods(self, uids: Iterable[str]) -> None:
        for uid in sorted(uids):
            target = self._target(uid)
            if target is None or (target.pod.policed and target.identity not in self._enforced):
                continue
            if self._write(f"pod {uid}", self._kernel.set_pod, *target):
                self._pods[uid] = target

    def _set_services(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            service = self.services.get(name)
            if service is None or self._services.get(name) == service:
                continue
            if self._write(f"service {name}", self._kernel.set_service, name, service):
                self._services[name] = service


class _Touched(msgspec.Struct):
    """What a batch may have changed."""

    pods: set[str] = msgspec.field(default_factory=set)
    policies: set[int] = msgspec.field(default_factory=set)
    addresses: set[str] = msgspec.field(default_factory=set)
    services: set[str] = msgspec.field(default_factory=set)
