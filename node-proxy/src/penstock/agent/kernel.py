"""The eBPF datapath, as `datapath.Kernel` and `pods.PodKernel` need it."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import msgspec
import structlog

from penstock.agent.datapath import LocalPod, NodeDatapath
from penstock.agent.lattice import IdentityPolicy
from penstock.agent.node_resources import Service
from penstock.bpf import model
from penstock.bpf.datapath import Datapath
from penstock.bpf.errors import DatapathError
from penstock.bpf.namespaces import netns_cookie
from penstock.bpf.service_table import Frontend, frontends
from penstock.bpf.sockdiag import destroy_connections
from penstock.meta.paths import netns_of
from penstock.runtime.files import replace_link

log = structlog.get_logger(__name__)

IPNetwork = IPv4Network | IPv6Network


class BpfKernel:
    """Writes to the maps, attaches to cgroups and network namespaces."""

    def __init__(self, datapath: Datapath, root: Path, pods_cgroup: Path) -> None:
        """Write to *datapath*; paths of namespaces are relative to *root*."""
        self._datapath = datapath
        self._root = root
        self._pods_cgroup = pods_cgroup
        self._services: dict[str, model.Service] = {}
        self._claims: dict[Frontend, dict[str, None]] = {}
        """Services by where they are reached; the last one is. An address goes over to another
        Service before the one that had it is gone."""
        self._linked: set[str] = set()
        self._held: dict[str, int] = {}
        """File descriptors of pods' network namespaces: by then their paths may mean others."""

    def set_pod(self, pod: LocalPod, identity: int, namespace: str) -> None:
        """Let the pod be judged as *identity*, and be served as one of *namespace*."""
        addresses = [ipaddress.ip_address(address) for address in pod.addresses]
        self._datapath.set_pod(
            model.Pod(
                uid=pod.uid,
                cookie=pod.cookie,
                identity=identity,
                policed=pod.policed,
                namespace=namespace,
                ipv4=next((a for a in addresses if isinstance(a, IPv4Address)), None),
                ipv6=next((a for a in addresses if isinstance(a, IPv6Address)), None),
            )
        )

    def remove_pod(self, uid: str) -> None:
        """Close the pod."""
        self._datapath.remove_pod(uid)

    def set_identity(self, address: str, identity: int) -> None:
        """Say who has *address*."""
        self._datapath.set_identity(ipaddress.ip_address(address), identity)

    def remove_identity(self, address: str) -> None:
        """Let *address* be WORLD."""
        self._datapath.remove_identity(ipaddress.ip_address(address))

    def set_policy(self, identity: int, policy: IdentityPolicy) -> None:
        """Replace the verdicts of *identity*."""
        entries = sorted(
            model.PolicyEntry(m.direction, m.peer, m.port, m.protocol, verdict)
            for m, verdict in policy.entries.items()
        )
        self._datapath.set_policy(
            identity,
            model.PolicyEntries(
                default_ingress=policy.default_ingress,
                default_egress=policy.default_egress,
                entries=tuple(entries),
            ),
        )

    def remove_policy(self, identity: int) -> None:
        """Close *identity*."""
        self._datapath.remove_policy(identity)

    def set_service(self, name: str, service: Service) -> None:
        """Replace a Service port; addresses that it no longer has go."""
        wanted = _service(service)
        old = self._services.get(name)
        self._datapath.set_service(wanted)
        self._services[name] = wanted
        for frontend in frontends(wanted):
            claims = self._claims.setdefault(frontend, {})
            claims.pop(name, None)
            claims[name] = None
        if old is not None:
            self._give_up(name, set(frontends(old)) - set(frontends(wanted)))

    def remove_service(self, name: str) -> None:
        """Forget a Service port."""
        old = self._services.pop(name, None)
        if old is not None:
            self._give_up(name, frontends(old))

    def netns_cookie(self, path: str) -> int:
        """Return the cookie of a network namespace."""
        return netns_cookie(self._root / path)

    def attach_netns(self, uid: str, path: str) -> None:
        """Police what comes into the network namespace."""
        namespace = os.open(self._root / path, os.O_RDONLY | os.O_CLOEXEC)
        self._let_go(uid)
        self._held[uid] = namespace
        self._link(uid, path)
        self._datapath.attach_netns(uid, self._root / path)

    def detach_netns(self, uid: str) -> None:
        """Undo `attach_netns`."""
        self._datapath.detach_netns(uid)
        if uid in self._linked:
            self._linked.discard(uid)
            (self._root / netns_of(uid)).unlink(missing_ok=True)

    def leave_netns(self, uid: str) -> Callable[[], None]:
        """Return what ends the connections that are left in the pod's network namespace."""
        held = self._held.pop(uid, None)

        def end() -> None:
            if held is None:
                return
            try:
                destroy_connections(Path(f"/proc/self/fd/{held}"))
            except DatapathError as error:
                text = "connections of a pod that is gone not ended"
                log.warning(text, uid=uid, cause=str(error))
            finally:
                os.close(held)

        return end

    def _link(self, uid: str, path: str) -> None:
        """Let the pod's listeners find its namespace: for them it is at netns/<uid>."""
        link, target = self._root / netns_of(uid), self._root / path
        if link == target:
            return
        replace_link(link, target)
        self._linked.add(uid)

    def _let_go(self, uid: str) -> None:
        if uid in self._held:
            os.close(self._held.pop(uid))

    def covers(self, cgroup: str) -> bool:
        """Return whether the sockets of processes in *cgroup* are policed."""
        return Path(cgroup).is_relative_to(self._pods_cgroup)

    def forget_others(self, state: NodeDatapath) -> None:
        """Remove what an earlier agent left and *state* does not want; the rest is not touched."""
        for uid in self._datapath.pods().keys() - state.local.keys():
            self._datapath.remove_pod(uid)
        for uid in self._datapath.attached_netns() - state.local.keys():
            self._datapath.detach_netns(uid)
        wanted = {one for service in self._services.values() for one in frontends(service)}
        for frontend in self._datapath.services() - wanted:
            self._datapath.remove_service(_alone(frontend))
        for address in self._datapath.identities():
            if not isinstance(address, IPNetwork) and not state.is_known(str(address)):
                self._datapath.remove_identity(address)
        for identity in self._datapath.policies() - state.policies.keys():
            self._datapath.remove_policy(identity)
        self._datapath.keep_namespaces()

    def _give_up(self, name: str, given: Iterable[Frontend]) -> None:
        """Let a Service not be reached there; who else should be is."""
        for frontend in given:
            claims = self._claims.get(frontend, {})
            claims.pop(name, None)
            if claims:
                heir = self._services[next(reversed(claims))]
                self._datapath.set_service(
                    msgspec.structs.replace(heir, addresses=(frontend.address,))
                )
            else:
                self._claims.pop(frontend, None)
                self._datapath.remove_service(_alone(frontend))


def _alone(frontend: Frontend) -> model.Service:
    """Return a Service with one address, for removal."""
    return model.Service(
        addresses=(frontend.address,),
        port=frontend.port,
        protocol=frontend.protocol,
        proxy=False,
        backends=(),
        clients=frontend.clients,
    )


def _service(service: Service) -> model.Service:
    return model.Service(
        addresses=tuple(map(ipaddress.ip_address, service.addresses)),
        port=service.port,
        protocol=service.protocol,
        proxy=service.proxy,
        backends=tuple(
            model.Backend(ipaddress.ip_address(b.address), b.port, b.weight)
            for b in service.backends
        ),
        clients=service.clients,
        routed=service.routed,
        stay_seconds=service.stay_seconds,
    )
