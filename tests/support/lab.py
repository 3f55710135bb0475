"""Objects and doubles for tests of the lab."""

from __future__ import annotations

from typing import Any, TypeVar

from penstock.core.decode import decode
from penstock.core.deployments import Deployment
from penstock.core.kinds import ConfigMap, Secret, Service
from penstock.core.objects import Object
from penstock.core.pods import Pod
from penstock.lab.agent_client import AgentUnavailableError, PodRegistration

K = TypeVar("K", bound=Object)


def made(kind: type[K], name: str, body: dict[str, Any], namespace: str = "shop") -> K:
    """Return a decoded object; fail on problems."""
    meta: dict[str, Any] = {"name": name}
    if kind.namespaced:
        meta["namespace"] = namespace
    header = {"apiVersion": kind.api_versions[0], "kind": kind.kind, "metadata": meta}
    decoded = decode(kind, header | body)
    assert isinstance(decoded, kind), decoded
    return decoded


def container(name: str = "app", **fields: Any) -> dict[str, Any]:
    """Return a container that sleeps unless a command is given."""
    return {"name": name, "image": "penstock.dev/client", **fields}


def pod_spec(*containers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a pod's spec with short grace."""
    some = list(containers) or [container()]
    return {"containers": some, "terminationGracePeriodSeconds": 1, **fields}


def deployment(
    name: str,
    *containers: dict[str, Any],
    replicas: int = 1,
    strategy: dict[str, Any] | None = None,
    **fields: Any,
) -> Deployment:
    """Return a Deployment whose pods have the label app=<name>."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod_spec(*containers, **fields)}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    if strategy is not None:
        spec["strategy"] = strategy
    return made(Deployment, name, {"spec": spec})


def pod(name: str, *containers: dict[str, Any], labels: Any = None, **fields: Any) -> Pod:
    """Return a bare pod."""
    found = made(Pod, name, {"spec": pod_spec(*containers, **fields)})
    if not labels:
        return found
    body = {"metadata": {"name": name, "namespace": "shop", "labels": labels}}
    return made(Pod, name, body | {"spec": pod_spec(*containers, **fields)})


def service(name: str, *ports: dict[str, Any], app: str = "", **spec: Any) -> Service:
    """Return a Service that selects app=<app or name>."""
    body = {"selector": {"app": app or name}, "ports": list(ports), **spec}
    return made(Service, name, {"spec": body})


def config_map(name: str, **data: str) -> ConfigMap:
    """Return a ConfigMap."""
    return made(ConfigMap, name, {"data": data})


def secret(name: str, **data: str) -> Secret:
    """Return a Secret."""
    return made(Secret, name, {"stringData": data})


class FakeAgent:
    """An agent that captures pods at once, or not at all while `away`."""

    def __init__(self) -> None:
        self.away = False
        self.pods: dict[str, PodRegistration] = {}
        self.calls: list[str] = []

    async def put_pod(self, pod: PodRegistration) -> None:
        self._check()
        self.calls.append(f"PUT {pod.name}")
        self.pods[pod.uid] = pod

    async def delete_pod(self, uid: str) -> None:
        self._check()
        gone = self.pods.pop(uid, None)
        self.calls.append(f"DELETE {gone.name if gone else uid}")

    async def close(self) -> None:
        self.calls.append("close")

    def _check(self) -> None:
        if self.away:
            raise AgentUnavailableError("the agent is away")
