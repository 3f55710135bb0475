"""What an API server knows of Penstock, and with kubectl what its nodes say."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from penstock.cli.checks.observed import Cluster, Json
from penstock.cli.checks.workloads import pods_of
from penstock.cli.sysdump.parts import LARGEST, Part, read_archive
from penstock.cli.sysdump.redact import as_json
from penstock.runtime.clock import SystemClock
from penstock.sources.kubernetes.access import Access
from penstock.sources.kubernetes.connection import ApiServer, UnreachableError

KINDS = (
    "nodes", "pods", "daemonsets", "deployments", "leases", "gatewayclasses", "gateways",
    "httproutes", "grpcroutes", "tlsroutes", "tcproutes", "udproutes", "policies", "services",
    "servicecidrs", "ingresses", "ingressclasses", "listenersets", "referencegrants",
    "backendtlspolicies",
)  # fmt: skip
"""Lists of `observed.LISTS` that are taken; of CRDs only the names, of ConfigMaps only the CA's."""
LOG_LINES = 5000
_LOG_SECONDS = 30.0
_EXEC_SECONDS = 60.0
_COMPONENTS = ("controller", "agent", "envoy")


class Log(msgspec.Struct, frozen=True):
    """The log of one container."""

    pod: str
    container: str
    previous: bool
    """Of the run before the last restart."""

    @property
    def name(self) -> str:
        """Return its path in the archive."""
        return f"logs/{self.pod}/{self.container}{'.previous' if self.previous else ''}.log"

    def target(self, namespace: str) -> str:
        """Return path and query."""
        query = {
            "container": self.container,
            "tailLines": LOG_LINES,
            "limitBytes": LARGEST,
            "timestamps": "true",
        }
        if self.previous:
            query["previous"] = "true"
        return f"/api/v1/namespaces/{namespace}/pods/{self.pod}/log?{urlencode(query)}"


def names(cluster: Cluster) -> list[str]:
    """Return what would be taken from a cluster."""
    kubectl = shutil.which("kubectl") is not None
    nodes = [f"nodes/{_node_of(one)}/…" for one in pods_of(cluster, "agent")] if kubectl else []
    kept = ["objects/configmap-penstock-ca.json", "objects/crds.json"]
    return [
        *(f"objects/{kind}.json" for kind in KINDS),
        *kept,
        *(one.name for one in logs_of(cluster)),
        *nodes,
    ]


def objects(cluster: Cluster) -> Iterator[Part]:
    """Yield the objects of the kinds that concern us; Secrets are not among them."""
    for kind in KINDS:
        listed = cluster[kind]
        value = {"refused": listed.refused} if listed.refused else {"items": listed.items}
        yield Part(f"objects/{kind}.json", as_json(value))
    authority = [
        one for one in cluster["configmaps"].items if one["metadata"]["name"] == "penstock-ca"
    ]
    yield Part("objects/configmap-penstock-ca.json", as_json({"items": authority}))
    crds = [
        {
            "name": one["metadata"]["name"],
            "annotations": one["metadata"].get("annotations") or {},
            "conditions": (one.get("status") or {}).get("conditions") or [],
        }
        for one in cluster["crds"].items
    ]
    yield Part("objects/crds.json", as_json({"items": crds}))


def logs_of(cluster: Cluster) -> list[Log]:
    """Return the logs of our pods."""
    found: list[Log] = []
    for pod in (one for component in _COMPONENTS for one in pods_of(cluster, component)):
        status = pod.get("status") or {}
        every = [
            *(status.get("initContainerStatuses") or []),
            *(status.get("containerStatuses") or []),
        ]
        for one in every:
            name = pod["metadata"]["name"]
            found.append(Log(name, one["name"], previous=False))
            if one.get("restartCount"):
                found.append(Log(name, one["name"], previous=True))
    return found


async def read_logs(access: Access, cluster: Cluster, environment: Mapping[str, str]) -> list[Part]:
    """Return the logs of our pods; a line of text for those that cannot be read."""
    server = ApiServer(access, SystemClock(), environment)
    turn = asyncio.Semaphore(4)
    async with server.session() as session:

        async def read(log: Log) -> Part:
            async with turn:
                try:
                    status, body = await server.fetch(
                        session, log.target(cluster.namespace), _LOG_SECONDS
                    )
                except UnreachableError as error:
                    return Part(f"{log.name}.error.txt", f"{error}\n".encode())
            return Part(log.name if status == HTTPStatus.OK else f"{log.name}.error.txt", body)

        return list(await asyncio.gather(*map(read, logs_of(cluster))))


def node_parts(cluster: Cluster, kubectl: Sequence[str]) -> Iterator[Part]:
    """Yield what each node says of itself, asked by `kubectl exec` in its agent's pod.

    Args:
        cluster: with the pods.
        kubectl: the program and the options that name the cluster.
    """
    for pod in pods_of(cluster, "agent"):
        folder = f"nodes/{_node_of(pod)}"
        words = [
            *kubectl, "-n", cluster.namespace, "exec", pod["metadata"]["name"], "-c", "agent",
            "--", "penstock", "sysdump", "--node", "--file", "-",
        ]  # fmt: skip
        try:
            ran = subprocess.run(
                words,
                capture_output=True,
                timeout=_EXEC_SECONDS,
                check=True,
                stdin=subprocess.DEVNULL,
            )
            yield from _below(folder, read_archive(ran.stdout))
        except subprocess.CalledProcessError as error:
            yield Part(f"{folder}/error.txt", error.stderr)
        except (subprocess.TimeoutExpired, OSError, EOFError, tarfile.TarError) as error:
            yield Part(f"{folder}/error.txt", f"{error}\n".encode())


def kubectl_command(kubeconfig: Path | None, context: str) -> list[str] | None:
    """Return how kubectl asks the same cluster, None without kubectl."""
    program = shutil.which("kubectl")
    if program is None:
        return None
    named = ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
    return [program, *named, *(["--context", context] if context else [])]


def _below(folder: str, parts: Iterable[Part]) -> Iterator[Part]:
    for one in parts:
        yield Part(f"{folder}/{one.name}", one.content)


def _node_of(pod: Json) -> str:
    return str(pod["spec"].get("nodeName") or pod["metadata"]["name"])
