"""`penstock check` and `penstock sysdump` against a real API server with the chart's objects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.check import Where, check
from penstock.cli.check import seen as looked_at
from penstock.cli.formats import Format
from penstock.cli.sysdump.command import sysdump
from penstock.cli.sysdump.parts import read_archive
from support.chart import NAMESPACE, POOL, rendered, without_crd
from support.kube import KubeApi, path_of

PLANTED = "pl4nted5ecret"
VALUES = POOL | {"gatewayClass": {"create": True, "name": "penstock"}}


@pytest.fixture(scope="module")
def installed(api: KubeApi) -> Generator[KubeApi]:
    """An API server with the chart's objects, and nobody who runs them."""
    for name in (NAMESPACE, "shop"):
        api.namespace(name)
    objects = without_crd(rendered(VALUES))
    for one in objects:
        api.apply(one)
    yield api
    for one in reversed(objects):
        api.delete(one)


@pytest.fixture
def with_agent(installed: KubeApi) -> Generator[KubeApi]:
    """The same with an agent, as far as the API server knows."""
    labels = {"app.kubernetes.io/component": "agent"}
    spec = {
        "nodeName": "n1",
        "serviceAccountName": "penstock-agent",
        "containers": [{"name": "agent", "image": "penstock", "args": ["agent"]}],
    }
    metadata = {"name": "penstock-agent-n1", "namespace": NAMESPACE, "labels": labels}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    installed.apply(pod)
    yield installed
    where = f"{path_of(pod)}?gracePeriodSeconds=0"
    assert installed.request("DELETE", where)[0] == 200


def found(api: KubeApi, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    status = check(Where(kubeconfig=api.kubeconfig), Format.JSON, quiet=False)
    said = json.loads(capsys.readouterr().out)
    return status, {one["id"]: one for one in said["findings"]}


def test_a_chart_that_nobody_runs_is_told_with_next_steps(
    installed: KubeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    status, by_id = found(installed, capsys)
    assert status == 1
    verdicts = {id_: one["verdict"] for id_, one in by_id.items()}
    assert verdicts | {
        "PC-API-001": "ok", "PC-CRD-001": "ok", "PC-CRD-002": "ok", "PC-RBA-001": "ok",
        "PC-CTL-001": "fail", "PC-CTL-003": "fail", "PC-CRT-001": "fail", "PC-GWC-001": "fail",
        "PC-GWA-001": "ok",
    } == verdicts  # fmt: skip
    assert all(one["hint"] for one in by_id.values() if one["verdict"] in ("warn", "fail"))


def test_missing_rights_are_named(installed: KubeApi, capsys: pytest.CaptureFixture[str]) -> None:
    role = next(
        one
        for one in rendered(VALUES)
        if one["kind"] == "ClusterRole" and one["metadata"]["name"] == "penstock-agent"
    )
    installed.delete(role)
    try:
        _, by_id = found(installed, capsys)
    finally:
        installed.apply(role)
    assert by_id["PC-RBA-001"]["verdict"] == "fail"
    assert "penstock-agent list pods" in by_id["PC-RBA-001"]["found"]


def test_controllers_that_are_scaled_to_none_are_told_with_the_command(
    installed: KubeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    (deployment,) = (one for one in rendered(VALUES) if one["kind"] == "Deployment")
    installed.apply(deployment | {"spec": deployment["spec"] | {"replicas": 0}})
    try:
        _, by_id = found(installed, capsys)
    finally:
        installed.apply(deployment)
    line = by_id["PC-CTL-001"]
    assert line["found"] == f"Deployment penstock-controller in {NAMESPACE} has 0 replicas"
    assert line["hint"] == f"kubectl -n {NAMESPACE} scale deploy/penstock-controller --replicas=2"


def test_what_others_have_to_serve_is_told(
    installed: KubeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    for one in _of_others():
        installed.apply(one)
    try:
        _, by_id = found(installed, capsys)
    finally:
        for one in _of_others():
            installed.delete(one)
    assert by_id["PC-KPX-001"]["verdict"] == "warn"
    assert by_id["PC-NPL-001"]["found"].endswith("shop/closed")
    node_port, external = "node port 30080 of shop/a", "external IP 192.0.2.7 of shop/b"
    assert by_id["PC-SVC-001"]["found"] == f"Penstock does not answer at {node_port}; {external}"


def test_ingresses_are_judged_by_what_they_say(
    with_agent: KubeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    every = [
        _ingress("a", "typo"), _ingress("b", "penstock"),
        _ingress("c", "penstock", **{"nginx.ingress.kubernetes.io/server-snippet": "deny all;"}),
    ]  # fmt: skip
    for one in every:
        with_agent.apply(one)
    try:
        _, by_id = found(with_agent, capsys)
    finally:
        for one in every:
            with_agent.delete(one)
    line = by_id["PC-ING-001"]
    assert line["verdict"] == "warn"
    said = line["found"].split("; ")
    assert said[:2] == ["shop/a: IngressClass typo does not exist", "shop/b: it has no address"]
    assert said[2].startswith("shop/c: metadata.annotations")


def test_a_policy_that_a_node_lacks_is_told_and_all_of_them_if_asked_for(
    with_agent: KubeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "in force on 1 of 2 nodes; not yet on n1"
    policies = [_policy(f"p{index}", said) for index in range(5)]
    for one in policies:
        with_agent.apply(one)
        path, status = f"{path_of(one)}/status", {"status": one["status"]}
        assert with_agent.request("PATCH", path, status, "application/merge-patch+json")[0] == 200
    try:
        check(Where(kubeconfig=with_agent.kubeconfig), Format.TABLE, quiet=True)
        short = capsys.readouterr().out
        check(Where(kubeconfig=with_agent.kubeconfig), Format.TABLE, quiet=True, every=True)
        long = capsys.readouterr().out
    finally:
        for one in policies:
            with_agent.delete(one)
    assert f"shop/p0: DataPlaneAcked Unknown: {said}" in short
    assert "shop/p4" not in short
    assert f"- shop/p4: DataPlaneAcked Unknown: {said}" in long


def test_without_gateway_api_the_next_step_is_told(
    bare_api: KubeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    status, by_id = found(bare_api, capsys)
    assert status == 1
    assert by_id["PC-CRD-001"]["verdict"] == "fail"
    assert "kubectl apply --server-side" in by_id["PC-CRD-001"]["hint"]
    assert by_id["PC-CTL-001"]["verdict"] == "fail"
    assert "PC-RBA-001" not in by_id


def test_a_kind_that_is_not_served_is_absent(bare_api: KubeApi) -> None:
    seen = asyncio.run(looked_at(Where(kubeconfig=bare_api.kubeconfig)))
    assert seen["gatewayclasses"].absent
    assert not seen["pods"].absent


def test_a_server_that_is_away_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    context = {"name": "a", "context": {"cluster": "a", "user": "a"}}
    cluster = {"name": "a", "cluster": {"server": "https://127.0.0.1:1"}}
    content = {"current-context": "a", "contexts": [context], "clusters": [cluster]}
    kubeconfig.write_text(json.dumps(content | {"users": [{"name": "a", "user": {}}]}))
    assert check(Where(kubeconfig=kubeconfig), Format.TABLE, quiet=False) == 1
    out = capsys.readouterr().out
    assert "PC-API-001  fail" in out
    assert "--kubeconfig" in out


def test_nothing_planted_is_in_a_dump(
    installed: KubeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without kubectl
    for one in _planted():
        installed.apply(one)
    out = tmp_path / "dump.tar.gz"
    try:
        assert sysdump(Where(kubeconfig=installed.kubeconfig), out, dry_run=False) == 0
    finally:
        for one in _planted():
            installed.delete(one)
    parts = {one.name: one.content.decode() for one in read_archive(out.read_bytes())}
    assert [name for name, content in parts.items() if PLANTED in content] == []
    assert "planted" in parts["objects/httproutes.json"]
    assert '"PC-API-001"' in parts["check.json"]
    assert not any("secrets" in name for name in parts)


def _of_others() -> list[dict[str, Any]]:
    shop = {"namespace": "shop"}
    http = {"port": 80, "protocol": "TCP"}
    return [
        {
            "apiVersion": "v1", "kind": "Service", "metadata": shop | {"name": "a"},
            "spec": {"type": "NodePort", "ports": [http | {"nodePort": 30080}]},
        },
        {
            "apiVersion": "v1", "kind": "Service", "metadata": shop | {"name": "b"},
            "spec": {"ports": [http], "externalIPs": ["192.0.2.7"]},
        },
        {
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": shop | {"name": "closed"}, "spec": {"podSelector": {}},
        },
    ]  # fmt: skip


def _policy(name: str, said: str) -> dict[str, Any]:
    at = "2026-05-01T00:00:00Z"
    condition = {"type": "Valid", "status": "True", "lastTransitionTime": at}
    lacks = {"type": "DataPlaneAcked", "status": "Unknown", "message": said, "reason": "Pending"}
    return {
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"}, "spec": {"endpointSelector": {}},
        "status": {"conditions": [condition, condition | lacks]},
    }  # fmt: skip


def _planted() -> list[dict[str, Any]]:
    shop = {"name": "planted", "namespace": "shop"}
    modifier = {"set": [{"name": "x-key", "value": PLANTED}]}
    query = {"type": "Exact", "name": "q", "value": PLANTED}
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": shop, "stringData": {"k": PLANTED}},
        {
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "penstock-ca", "namespace": NAMESPACE},
            "stringData": {"tls.key": PLANTED},
        },
        {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "planted", "namespace": NAMESPACE,
                "annotations": {"note": f"Authorization: Bearer {PLANTED}"},
            },
            "spec": {"containers": [
                {"name": "a", "image": "a", "env": [{"name": "TOKEN", "value": PLANTED}]},
            ]},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": shop,
            "spec": {"parentRefs": [{"name": "shop"}], "rules": [{
                "matches": [{"queryParams": [query], "headers": [query | {"name": "x-a"}]}],
                "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": modifier}],
            }]},
        },
        {
            "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": shop,
            "spec": {"endpointSelector": {}, "ingress": [{"toPorts": [{
                "ports": [{"port": "80", "protocol": "TCP"}],
                "rules": {"http": [{"headers": [f"x-token: {PLANTED}"]}]},
            }]}]},
        },
    ]  # fmt: skip


def _ingress(name: str, class_: str, **annotations: str) -> dict[str, Any]:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
        "spec": {"ingressClassName": class_, "defaultBackend": backend},
    }
