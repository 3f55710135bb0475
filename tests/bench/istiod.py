"""istiod, as a peer: one controller of it at an API server, and a client of its xDS.

The client is what a sidecar would be: it gets all Services of the mesh.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import grpc.aio

from bench.kube_controller import Sync
from bench.peer_stream import Started, start_of
from bench.processes import running
from penstock.pb.envoy.config.core.v3 import base_pb2
from support.kube import KubeApi, tool

_NAMESPACE = "istio-system"
_XDS = "127.0.0.1:15010"
_OPTIONS = (("grpc.max_receive_message_length", -1),)
_WORDS = (
    *(f"--grpcAddr={_XDS}", "--monitoringAddr=127.0.0.1:15014", "--httpAddr=127.0.0.1:15080"),
    *("--httpsAddr=", "--secureGRPCAddr=", "--registries=Kubernetes"),
    "--log_output_level=default:warn",
)


def program() -> Path:
    """Return the program.

    Raises:
        MissingProgramError: it is not built.
    """
    return tool("istiod", "istio.io/istio", "pilot-discovery")


class Istiod:
    """What it needs to run at an API server."""

    def __init__(self, api: KubeApi, folder: Path, namespace: str) -> None:
        """Make its namespace and its files.

        Args:
            api: where it reads from.
            folder: a new one, of its own.
            namespace: of the pod that the client is.
        """
        folder.mkdir()
        api.namespace(_NAMESPACE)
        self._folder, self._kubeconfig = folder, api.kubeconfig
        (folder / "mesh").write_text("{}")
        self._node = base_pb2.Node(
            id=f"sidecar~192.0.2.9~bench.{namespace}~{namespace}.svc.cluster.local",
            cluster=f"bench.{namespace}",
        )
        self._node.metadata.update({"NAMESPACE": namespace, "CLUSTER_ID": "Kubernetes"})

    async def sync(self) -> Sync:
        """Start it, and return how long it takes until a client has everything."""
        own = {
            "POD_NAMESPACE": _NAMESPACE,
            "POD_NAME": "istiod",
            "INJECTION_WEBHOOK_CONFIG_NAME": "",
            "VALIDATION_WEBHOOK_CONFIG_NAME": "",
        }
        command = [
            *("env", *(f"{name}={value}" for name, value in own.items())),
            *(str(program()), "discovery", f"--kubeconfig={self._kubeconfig}"),
            *(f"--meshConfig={self._folder / 'mesh'}", *_WORDS),
        ]
        started = time.monotonic()
        log = self._folder / "log"
        with running(command, log, self._folder, end=signal.SIGTERM) as process:
            return await start_of(
                Started(process.pid, started),
                lambda: grpc.aio.insecure_channel(_XDS, _OPTIONS),
                self._node,
                lambda _: ["80"],
            )
