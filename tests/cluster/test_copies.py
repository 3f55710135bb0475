"""RequestMirror on a Service, on real nodes: copies leave from the client's pod, by its policy."""

from __future__ import annotations

import json
from typing import Any

from support.cluster.mesh import Mesh
from support.cluster.traffic import ask_from, echo_pod, echo_service, eventually

PODS = {"client": "n1", "bound": "n1", "web": "n2", "copy": "n2"}


def route(namespace: str) -> dict[str, Any]:
    copy = {"backendRef": {"name": "copy", "port": 80}}
    rule = {
        "filters": [{"type": "RequestMirror", "requestMirror": copy}],
        "backendRefs": [{"name": "web", "port": 80}],
    }
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "web", "port": 80}],
            "rules": [rule],
        },
    }


def policies(namespace: str) -> list[dict[str, Any]]:
    """Return that copy takes /public of the two, and that bound may ask nobody but web."""
    ports = [{"port": "8080", "protocol": "TCP"}]
    callers = {
        "matchExpressions": [{"key": "app", "operator": "In", "values": ["client", "bound"]}]
    }
    dns = {"toPorts": [{"ports": [{"port": "53", "protocol": "ANY"}]}]}
    server = {
        "endpointSelector": {"matchLabels": {"app": "copy"}},
        "ingress": [
            {
                "fromEndpoints": [callers],
                "toPorts": [{"ports": ports, "rules": {"http": [{"path": "/public.*"}]}}],
            }
        ],
    }
    client = {
        "endpointSelector": {"matchLabels": {"app": "bound"}},
        "egress": [{"toEndpoints": [{"matchLabels": {"app": "web"}}]}, dns],
    }
    return [
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        for name, spec in (("server", server), ("client", client))
    ]


def test_copies_are_judged_as_requests_of_the_client(mesh: Mesh, namespace: str) -> None:
    cluster = mesh.cluster
    cluster.apply(
        *(echo_pod(name, namespace, node, {"app": name}) for name, node in PODS.items()),
        echo_service("web", namespace),
        echo_service("copy", namespace),
        route(namespace),
        *policies(namespace),
    )
    cluster.kubectl(
        "-n", namespace, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=90s"
    )
    agent = mesh.pod_on("agent", PODS["client"])

    def copies(client: str, path: str) -> set[str]:
        """Return what became of copies of such requests, after one was made."""
        answer = ask_from(cluster, client, namespace, "GET", f"http://web{path}")
        assert answer.status == 200, answer
        said = mesh.run_in(agent, "observe", "--last", "200", "-o", "json").splitlines()
        return {
            flow["verdict"]
            for flow in map(json.loads, said)
            if (flow["source"]["pod"], flow["path"]) == (client, path)
            and f"{namespace}/copy" in (flow["destination"]["service"], _name(flow["destination"]))
        }

    assert eventually(lambda: copies("client", "/public/1") == {"FORWARDED"})
    assert eventually(lambda: copies("client", "/secret/2") == {"DENIED"})
    assert eventually(lambda: copies("bound", "/public/3") == {"DENIED"})


def _name(peer: dict[str, Any]) -> str:
    return f"{peer['namespace']}/{peer['pod']}"
