"""HTTPS at a Gateway on real nodes, with Secrets of the real API server."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from support.cluster.mesh import Mesh
from support.cluster.traffic import PATIENCE, echo_pod, eventually
from support.pki import Issued, issue, tls_secret_raw

API = "gateway.networking.k8s.io/v1"
_ASK = """
import http.client, ssl, sys
address, trusted = sys.argv[1:]
class At(http.client.HTTPSConnection):
    def connect(self):
        self.host, name = address, self.host
        http.client.HTTPConnection.connect(self)
        self.sock = self._context.wrap_socket(self.sock, server_hostname=name)
try:
    asked = At("a.test", context=ssl.create_default_context(cadata=trusted), timeout=5)
    asked.request("GET", "/")
    print(asked.getresponse().status)
except (OSError, http.client.HTTPException):
    print(0)
"""


def ask(mesh: Mesh, address: str, trusted: Issued) -> int:
    """Return the status of a request from outside that trusts one certificate, 0 for none."""
    words = mesh.cluster.in_control_netns(sys.executable, "-c", _ASK, address, trusted.pem)
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def world(namespace: str, certificates: str) -> list[dict[str, Any]]:
    """Return a Gateway that serves with a Secret of another namespace, and what is behind it."""
    reference = {"name": "cert", "namespace": certificates}
    listener = {
        "name": "https",
        "port": 443,
        "protocol": "HTTPS",
        "hostname": "a.test",
        "tls": {"certificateRefs": [reference]},
    }
    rule = {"backendRefs": [{"name": "echo", "port": 80}]}
    return [
        {
            "apiVersion": API,
            "kind": "Gateway",
            "metadata": {"name": "gw", "namespace": namespace},
            "spec": {"gatewayClassName": "penstock", "listeners": [listener]},
        },
        {
            "apiVersion": API,
            "kind": "HTTPRoute",
            "metadata": {"name": "echo", "namespace": namespace},
            "spec": {"parentRefs": [{"name": "gw"}], "rules": [rule]},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "echo", "namespace": namespace},
            "spec": {"selector": {"app": "echo"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
        echo_pod("echo", namespace, "n1", {"app": "echo"}),
    ]


def grant(namespace: str, source: str) -> dict[str, Any]:
    spec = {
        "from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": source}],
        "to": [{"group": "", "kind": "Secret", "name": "cert"}],
    }
    metadata = {"name": "gateways", "namespace": namespace}
    return {"apiVersion": API, "kind": "ReferenceGrant", "metadata": metadata, "spec": spec}


def listener(mesh: Mesh, namespace: str) -> dict[str, str]:
    """Return type → reason of the listener's conditions."""
    status = mesh.cluster.get("-n", namespace, "gateway", "gw").get("status") or {}
    return {
        one["type"]: one["reason"]
        for each in status.get("listeners", [])
        for one in each["conditions"]
    }


def test_a_secret_of_another_namespace_serves_while_it_is_granted(
    mesh: Mesh, namespace: str
) -> None:
    cluster, certificates = mesh.cluster, f"{namespace}-c"
    cluster.make_namespace(certificates)
    first, second = issue("a.test"), issue("a.test")
    try:
        cluster.apply(tls_secret_raw("cert", certificates, [first]))
        for one in world(namespace, certificates):
            cluster.apply(one)
        assert eventually(
            lambda: listener(mesh, namespace).get("ResolvedRefs") == "RefNotPermitted"
        )

        cluster.apply(grant(certificates, namespace))
        assert eventually(lambda: listener(mesh, namespace).get("Programmed") == "Programmed")
        status = cluster.get("-n", namespace, "gateway", "gw")["status"]
        address = status["addresses"][0]["value"]
        assert eventually(lambda: ask(mesh, address, first) == 200, PATIENCE)

        cluster.apply(tls_secret_raw("cert", certificates, [second]))
        assert eventually(lambda: ask(mesh, address, second) == 200, PATIENCE)
        assert ask(mesh, address, first) == 0

        cluster.kubectl("-n", certificates, "delete", "referencegrant", "gateways")
        assert eventually(lambda: ask(mesh, address, second) == 0, PATIENCE)
        assert eventually(lambda: listener(mesh, namespace).get("Programmed") == "Invalid")
    finally:
        cluster.kubectl("delete", "namespace", certificates, "--wait=false")
