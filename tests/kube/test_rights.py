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
        said = one.log.read_text()
        assert "by=system:serviceaccount:penstock-system:penstock-agent" in said
        assert "RBAC" not in said
        assert "forbidden" not in said
