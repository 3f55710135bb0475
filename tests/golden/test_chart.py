"""The chart becomes exactly these objects, and gives exactly these rights."""

from __future__ import annotations

import copy
import shutil
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from penstock.compiler.kinds import KINDS, STATUS_KINDS
from penstock.core.decode import decode
from penstock.gatewayapi.mesh import XMesh, is_our_mesh
from penstock.meta.version import VERSION
from penstock.sources.kubernetes.requests import resource_of
from support.chart import (
    CHART,
    NAMESPACE,
    POOL,
    ROOT,
    Right,
    helm,
    rendered,
    rendered_text,
    rights,
    without_crd,
)

GOLDEN = ROOT / "tests" / "golden" / "chart"
KUBERNETES = "1.37"
ACCOUNTS = ("penstock-controller", "penstock-agent", "penstock-envoy")


def compare(name: str, text: str, request: pytest.FixtureRequest) -> None:
    file = GOLDEN / name
    if request.config.getoption("--golden-rewrite"):
        file.write_text(text)
    assert file.read_text() == text, f"{file} differs; `make golden` rewrites it, review the diff"


@pytest.mark.parametrize(("name", "values"), [("default", {}), ("pool", POOL)])
def test_golden_objects(name: str, values: dict[str, Any], request: pytest.FixtureRequest) -> None:
    objects = without_crd(rendered(values))
    compare(f"{name}.yaml", yaml.safe_dump_all(objects, sort_keys=False, width=100), request)


@pytest.mark.parametrize(
    ("values", "names"),
    [({}, ["penstock"]), (POOL, ["shops"]), ({"mesh": {"create": False}}, [])],
)
def test_the_mesh_is_there_where_its_kind_is(values: dict[str, Any], names: list[str]) -> None:
    assert not [one for one in rendered(values) if one["kind"] == "XMesh"]
    known = ("--api-versions", f"{XMesh.api_versions[0]}/{XMesh.kind}")
    ran = helm("template", "penstock", str(CHART), *known, values=values)
    meshes = [one for one in yaml.safe_load_all(ran.stdout) if one and one["kind"] == "XMesh"]
    assert [one["metadata"]["name"] for one in meshes] == names
    for one in meshes:
        read = decode(XMesh, one)
        assert isinstance(read, XMesh)
        assert is_our_mesh(read)


def test_golden_rights(request: pytest.FixtureRequest) -> None:
    objects = rendered()
    listed = {name: [str(one) for one in rights(objects, name)] for name in ACCOUNTS}
    compare("can-i.yaml", yaml.safe_dump(listed, sort_keys=False, width=200), request)


@pytest.mark.parametrize("values", [{}, POOL], ids=["default", "pool"])
def test_objects_are_what_kubernetes_describes(values: dict[str, Any]) -> None:
    for one in rendered(values):
        if one["kind"] not in ("GatewayClass", "CustomResourceDefinition"):
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    elsewhere = tmp_path / "penstock"
    shutil.copytree(CHART, elsewhere)
    ran = helm("template", "penstock", str(elsewhere), "--namespace", NAMESPACE)
    assert ran.stdout == rendered_text() == rendered_text()


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replicas": 2}, "replicas"),
        ({"controller": {"replica": 2}}, "replica"),
        ({"gatewayAddresses": {"mode": "pool"}}, "pool"),
        ({"gatewayAddresses": {"mode": "nodes", "pool": ["192.0.2.0/24"]}}, "pool"),
        ({"gatewayAddresses": {"mode": "pool", "pool": ["192.0.2.1 192.0.2.2"]}}, "pool"),
        ({"gatewayAddresses": {"mode": "dhcp"}}, "mode"),
        ({"gatewayAddresses": {"mode": "loadbalancer", "pool": ["192.0.2.0/24"]}}, "pool"),
        ({"images": {"envoy": {"digest": "sha256:1"}}}, "digest"),
        ({"logLevel": "verbose"}, "logLevel"),
        ({"cniBinDir": "opt/cni/bin"}, "cniBinDir"),
        ({"envoy": {"updateStrategy": {"type": "Recreate"}}}, "type"),
    ],
)
def test_values_that_mean_nothing_are_refused(values: dict[str, Any], complaint: str) -> None:
    ran = helm("template", "penstock", str(CHART), values=values)
    assert ran.returncode != 0
    assert complaint in ran.stderr


def test_controllers_may_read_every_kind_and_write_every_status() -> None:
    allowed = set(rights(rendered(), "penstock-controller"))
    for kind in KINDS:
        group, resource = kind.api_versions[0].rpartition("/")[0], resource_of(kind.kind)
        assert {Right("", verb, group, resource) for verb in ("list", "watch")} <= allowed
        if kind.kind in STATUS_KINDS:
            assert Right("", "get", group, resource) in allowed
            assert Right("", "update", group, resource, "status") in allowed


def test_controllers_may_read_what_holds_certificates_to_trust() -> None:
    allowed = set(rights(rendered(), "penstock-controller"))
    for group, resource in (("certificates.k8s.io", "clustertrustbundles"), ("", "configmaps")):
        assert {Right("", verb, group, resource) for verb in ("list", "watch")} <= allowed


def test_chart_distribution_and_code_are_of_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["version"] == chart["appVersion"] == project["version"] == VERSION


def test_no_certificate_and_no_secret_is_rendered() -> None:
    text = rendered_text()
    assert "BEGIN" not in text
    assert all(one["kind"] != "Secret" for one in rendered())
    templates = "".join(file.read_text() for file in (CHART / "templates").iterdir())
    for function in ("genCA", "genSignedCert", "genPrivateKey", "rand", "lookup", "now"):
        assert f"{function} " not in templates


def test_controllers_run_without_any_privilege() -> None:
    pod = _pod("penstock-controller")
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    assert "hostNetwork" not in pod
    assert all("hostPath" not in volume for volume in pod["volumes"])


@pytest.mark.parametrize("name", ["penstock-agent", "penstock-envoy"])
def test_nothing_on_nodes_is_privileged(name: str) -> None:
    pod = _pod(name)
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        security = container["securityContext"]
        assert "privileged" not in security
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"]["drop"] == ["ALL"]
        assert "SYS_MODULE" not in security["capabilities"]["add"]
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["priorityClassName"] == "system-node-critical"


def test_envoy_is_in_the_pod_network_and_has_no_token() -> None:
    pod = _pod("penstock-envoy")
    assert "hostNetwork" not in pod
    assert pod["automountServiceAccountToken"] is False


def test_authorities_of_the_system_come_from_a_config_map() -> None:
    given = {"systemAuthorities": {"configMap": "bundle", "key": "all.pem"}}
    (made,) = (one for one in rendered(given) if one["kind"] == "Deployment")
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert "--system-authorities=/etc/penstock/system-authorities/all.pem" in container["args"]
    (volume,) = (one for one in pod["volumes"] if "configMap" in one)
    assert volume["configMap"] == {"name": "bundle"}
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == volume["name"])
    assert (mount["mountPath"], mount["readOnly"]) == ("/etc/penstock/system-authorities", True)


def test_the_policy_crd_survives_the_chart() -> None:
    crd = next(one for one in rendered() if one["kind"] == "CustomResourceDefinition")
    written = yaml.safe_load(
        (ROOT / "policies" / "crds" / "cilium.io_ciliumnetworkpolicies.yaml").read_text()
    )
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert crd["spec"] == written["spec"]


def test_an_upgrade_changes_only_what_its_values_say() -> None:
    before, after = rendered(), rendered({"logLevel": "debug"})
    expected = copy.deepcopy(before)
    for one in expected:
        for container in _containers(one):
            container["args"] = [
                "--log-level=debug" if word == "--log-level=info" else word
                for word in container.get("args", [])
            ]
    assert [_without_empty_args(one) for one in after] == [
        _without_empty_args(one) for one in expected
    ]


def test_selectors_do_not_depend_on_the_release() -> None:
    """A Deployment's selector cannot be changed by an upgrade."""
    for one in rendered():
        selector = one.get("spec", {}).get("selector", {})
        if "matchLabels" in selector:
            assert set(selector["matchLabels"]) == {"app.kubernetes.io/name"}


def test_agents_that_leave_do_nothing_else() -> None:
    pod = _pod("penstock-agent", {"agent": {"leave": True}})
    (first,), (last,) = pod["initContainers"], pod["containers"]
    assert first["args"][0] == "leave"
    assert last["args"][:2] == ["leave", "--stay"]
    assert "readinessProbe" not in last


def _pod(name: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
    found = [
        one
        for one in rendered(values)
        if one["metadata"]["name"] == name and one["kind"] in ("Deployment", "DaemonSet")
    ]
    pod: dict[str, Any] = found[0]["spec"]["template"]["spec"]
    return pod


def _containers(one: dict[str, Any]) -> list[dict[str, Any]]:
    pod = one.get("spec", {}).get("template", {}).get("spec", {})
    return [*pod.get("initContainers", []), *pod.get("containers", [])]


def _without_empty_args(one: dict[str, Any]) -> dict[str, Any]:
    for container in _containers(one):
        container.setdefault("args", [])
    return one
