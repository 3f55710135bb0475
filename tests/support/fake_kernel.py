"""A datapath in memory that calls a function after each write."""

from __future__ import annotations

from collections.abc import Callable

from penstock.agent.datapath import LocalPod
from penstock.agent.lattice import CLOSED, IdentityPolicy, Match, judge
from penstock.agent.node_resources import Service
from penstock.ir.policy import Direction, Reserved, Verdict


class FakeKernel:
    def __init__(self) -> None:
        self.pods: dict[str, int] = {}
        self.namespaces: dict[str, str] = {}
        self.identities: dict[str, int] = {}
        self.policies: dict[int, IdentityPolicy] = {}
        self.services: dict[str, Service] = {}
        self.writes: list[str] = []
        self.after_write: Callable[[], None] = lambda: None
        self.cookies: dict[str, int] = {}
        self.attached: set[str] = set()
        self.paths: dict[str, str] = {}
        """Of the network namespaces that are held."""

    def set_pod(self, pod: LocalPod, identity: int, namespace: str) -> None:
        self.pods[pod.uid] = identity
        self.namespaces[pod.uid] = namespace
        self._wrote(f"set_pod {pod.uid} {identity}")

    def remove_pod(self, uid: str) -> None:
        del self.pods[uid]
        self._wrote(f"remove_pod {uid}")

    def set_identity(self, address: str, identity: int) -> None:
        self.identities[address] = identity
        self._wrote(f"set_identity {address} {identity}")

    def remove_identity(self, address: str) -> None:
        del self.identities[address]
        self._wrote(f"remove_identity {address}")

    def set_policy(self, identity: int, policy: IdentityPolicy) -> None:
        self.policies[identity] = policy
        self._wrote(f"set_policy {identity}")

    def remove_policy(self, identity: int) -> None:
        del self.policies[identity]
        self._wrote(f"remove_policy {identity}")

    def set_service(self, name: str, service: Service) -> None:
        self.services[name] = service
        self._wrote(f"set_service {name}")

    def remove_service(self, name: str) -> None:
        del self.services[name]
        self._wrote(f"remove_service {name}")

    def netns_cookie(self, path: str) -> int:
        if path not in self.cookies:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.cookies[path]

    def attach_netns(self, uid: str, path: str) -> None:
        self.attached.add(uid)
        self.paths[uid] = path
        self._wrote(f"attach_netns {uid} {path}")

    def leave_netns(self, uid: str) -> Callable[[], None]:
        path = self.paths.pop(uid, "")
        return lambda: self._wrote(f"ended {path}")

    def detach_netns(self, uid: str) -> None:
        self.attached.discard(uid)
        self._wrote(f"detach_netns {uid}")

    def covers(self, cgroup: str) -> bool:
        return cgroup.startswith("/pods/")

    def verdict(self, uid: str, direction: Direction, address: str, port: int) -> Verdict:
        """What the programs would say of a connection between a local pod and an address."""
        if uid not in self.pods:
            return Verdict.DENY
        peer = self.identities.get(address, int(Reserved.WORLD))
        policy = self.policies.get(self.pods[uid], CLOSED)
        return judge(policy, Match(direction, peer, port, 6))

    def _wrote(self, what: str) -> None:
        self.writes.append(what)
        self.after_write()
