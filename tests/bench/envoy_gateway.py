"""Envoy Gateway, as a peer: one controller of it at an API server, and a client of its xDS.

It reads its certificates from /certs and listens on all addresses, so it runs with a root folder of
its own, and the bench in a network namespace of its own.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import grpc
import grpc.aio
import msgspec
import yaml

from bench.kube_controller import Sync
from bench.peer_stream import Started, start_of
from bench.processes import running
from penstock.pb.envoy.config.core.v3 import base_pb2
from support.kube import KubeApi, tool

CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
_NAMESPACE = "envoy-gateway-system"
_MODULE = "github.com/envoyproxy/gateway"
_XDS = "127.0.0.1:18000"
_OPTIONS = (
    ("grpc.ssl_target_name_override", "envoy-gateway"),
    ("grpc.max_receive_message_length", -1),
)
_CONFIGURATION = {
    "apiVersion": "gateway.envoyproxy.io/v1alpha1",
    "kind": "EnvoyGateway",
    "gateway": {"controllerName": CONTROLLER},
    "provider": {"type": "Kubernetes", "kubernetes": {"leaderElection": {"disable": True}}},
    "logging": {"level": {"default": "warn"}},
}


def program() -> Path:
    """Return the program.

    Raises:
        MissingProgramError: it is not built.
    """
    return tool("envoy-gateway", _MODULE, "envoy-gateway")


class EnvoyGateway:
    """What it needs to run at an API server."""

    def __init__(self, api: KubeApi, root: Path, gateway: str) -> None:
        """Install its CRDs and its certificates, and make *root* its root folder.

        Args:
            api: where it reads from.
            root: a new folder.
            gateway: "namespace/name" of the Gateway that is asked for.
        """
        self._root = root
        self._node = base_pb2.Node(id="bench", cluster=gateway)
        api.install(sorted(tool("envoy-gateway", _MODULE, "crds").glob("*.yaml")))
        api.namespace(_NAMESPACE)
        environment = {**os.environ, "KUBECONFIG": str(api.kubeconfig)}
        command = [str(program()), "certgen", "--disable-topology-injector"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        shutil.copytree(api.folder / "pki", root / "kube" / "pki")
        shutil.copy2(api.kubeconfig, root / "kube" / "kubeconfig")
        (root / "tmp").mkdir()
        (root / "certs").mkdir()
        for name, content in _secret(api, "envoy-gateway").items():
            (root / "certs" / name).write_bytes(content)
        own = _secret(api, "envoy")
        self._credentials = grpc.ssl_channel_credentials(
            own["ca.crt"], own["tls.key"], own["tls.crt"]
        )
        (root / "config.yaml").write_text(yaml.safe_dump(_CONFIGURATION))
        shutil.copy2(program(), root / "envoy-gateway")

    async def sync(self) -> Sync:
        """Start it, and return how long it takes until a client has everything."""
        command = ["chroot", str(self._root), "/envoy-gateway", "server"]
        environment = ["KUBECONFIG=/kube/kubeconfig", f"ENVOY_GATEWAY_NAMESPACE={_NAMESPACE}"]
        command = ["env", *environment, *command, "--config-path", "/config.yaml"]
        log = self._root.parent / "envoy-gateway.log"
        started = time.monotonic()
        with running(command, log, end=signal.SIGTERM) as process:
            return await start_of(
                Started(process.pid, started),
                lambda: grpc.aio.secure_channel(_XDS, self._credentials, _OPTIONS),
                self._node,
                lambda listeners: [one for one in listeners if "ready" not in one],
            )


def _secret(api: KubeApi, name: str) -> dict[str, bytes]:
    status, secret = api.request("GET", f"/api/v1/namespaces/{_NAMESPACE}/secrets/{name}")
    assert status == 200, secret
    data = msgspec.convert(secret["data"], dict[str, str])
    return {key: base64.b64decode(value) for key, value in data.items()}
