"""A controller with the rights that the chart gives it, and nothing more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from penstock.ads.dial import fixed_controllers
from penstock.ads.join import JoinClient
from penstock.meta.back_off import BackOff
from penstock.runtime.clock import SystemClock
from support.chart import rendered
from support.controllers import on_network
from support.kube import KubeApi, gateway_api_crds, path_of, policy_crds
from support.nodes import running
from support.penstock_process import eventually as soon
from support.real_envoy import eventually
from support.source_suite import NO_PORT, policy

NAMESPACE = "penstock-system"
PATIENCE = 60.0
RIGHTS = frozenset({"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ServiceAccount"})


def token(api: KubeApi, account: str, **spec: Any) -> str:
    """Return a token of a service account."""
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    status, said = api.request("POST", path, body)
    assert status == 201, said
    return str(said["status"]["token"])


def kubeconfig(api: KubeApi, account: str, folder: Path) -> Path:
    """Return a kubeconfig with which somebody is a service account."""
    known = json.loads(api.kubeconfig.read_text())
    authority = str(api.pki.folder / "ca.crt")
    known["clusters"][0]["cluster"]["certificate-authority"] = authority
    known["users"] = [{"name": "admin", "user": {"token": token(api, account)}}]
    path = folder / "kubeconfig"
    path.write_text(json.dumps(known))
    return path


def agent_token(api: KubeApi) -> str:
    """Return what the kubelet gives the agent on n1."""
    containers = [{"name": "agent", "image": "agent"}]
    spec = {"nodeName": "n1", "serviceAccountName": "penstock-agent", "containers": containers}
    metadata = {"name": "agent-n1", "namespace": NAMESPACE}
    pod = api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "agent-n1"}
    reference["uid"] = pod["metadata"]["uid"]
    return token(api, "penstock-agent", audiences=["penstock"], boundObjectRef=reference)


def _a_gateway_gets_its_objects_and_loses_them(api: KubeApi) -> None:
    group = "gateway.networking.k8s.io/v1"
    spec = {"controllerName": "penstock.dev/gateway-controller"}
    api.apply(
        {"apiVersion": group, "kind": "GatewayClass", "metadata": {"name": "c"}, "spec": spec}
    )
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    api.apply(node)
    status = {
        "addresses": [{"type": "InternalIP", "address": "198.51.100.7"}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    merge = "application/merge-patch+json"
    assert api.request("PATCH", f"{path_of(node)}/status", {"status": status}, merge)[0] == 200
    gateway: dict[str, Any] = {
        "apiVersion": group,
        "kind": "Gateway",
        "metadata": {"name": "g", "namespace": "shop"},
        "spec": {
            "gatewayClassName": "c",
            "listeners": [{"name": "web", "port": 80, "protocol": "HTTP"}],
        },
    }
    api.apply(gateway)
    paths = (
        "/api/v1/namespaces/shop/services",
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
    )

    def found() -> list[dict[str, Any]]:
        return [one for path in paths for one in api.request("GET", path)[1]["items"]]

    assert soon(lambda: len(found()) == 2, PATIENCE), found()
    listeners = [{"name": "web", "port": 81, "protocol": "HTTP"}]
    api.apply({**gateway, "spec": {**gateway["spec"], "listeners": listeners}})

    def ports() -> list[int]:
        return [port["port"] for one in found() for port in one.get("spec", one)["ports"]]

    assert soon(lambda: ports() == [81, 81], PATIENCE), found()
    api.delete(gateway)
    assert soon(lambda: not found(), PATIENCE), found()
    api.delete(node)


async def test_the_rights_of_the_chart_are_enough(bare_api: KubeApi, tmp_path: Path) -> None:
    api = bare_api
    api.install([*gateway_api_crds(), *policy_crds()])
    for name in ("shop", NAMESPACE):
        api.namespace(name)
    for raw in rendered():
        if raw["kind"] in RIGHTS:
            api.apply(raw)
    api.apply(policy("p", NO_PORT))
    config = kubeconfig(api, "penstock-controller", tmp_path)
    options = ("--kubeconfig", str(config), "--lease-namespace", NAMESPACE)
    with on_network(tmp_path / "one", *options) as one:
        assert soon(one.ready, PATIENCE), one.log.read_text()

        def written() -> dict[str, Any]:
            status: dict[str, Any] = api.request("GET", path_of(policy("p", NO_PORT)))[1]["status"]
            return status

        def events() -> list[str]:
            path = "/apis/events.k8s.io/v1/namespaces/shop/events"
            return [one["reason"] for one in api.request("GET", path)[1]["items"]]

        assert soon(lambda: events() == ["Invalid"], PATIENCE), one.log.read_text()
        assert written()["conditions"][0]["type"] == "Valid"
        bundle = f"/api/v1/namespaces/{NAMESPACE}/configmaps/penstock-ca"
        (tmp_path / "ca.crt").write_text(api.request("GET", bundle)[1]["data"]["ca.crt"])
        (tmp_path / "token").write_text(agent_token(api))
        node = JoinClient(
            "n1",
            ca_file=tmp_path / "ca.crt",
            token_file=tmp_path / "token",
            controllers=fixed_controllers(one.place),
            clock=SystemClock(),
            random=lambda: 0.5,
            back_off=BackOff(first=0.1, longest=0.5),
        )
        async with running(node.run()):
            await eventually(lambda: node.ends is not None, PATIENCE)
        _a_gateway_gets_its_objects_and_loses_them(api)
        said = one.log.read_text()
        assert "by=system:serviceaccount:penstock-system:penstock-agent" in said
        assert "RBAC" not in said
        assert "forbidden" not in said
