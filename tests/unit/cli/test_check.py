"""What `penstock check` says about clusters and nodes in all kinds of states."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from penstock.cli.check import Where, check, show
from penstock.cli.checks import addresses, machine
from penstock.cli.checks import ingresses as ingress_checks
from penstock.cli.checks import platform as platform_checks
from penstock.cli.checks import served as served_checks
from penstock.cli.checks import services as service_checks
from penstock.cli.checks import workloads as workload_checks
from penstock.cli.checks.addresses import gateway_addresses
from penstock.cli.checks.finding import Check, Finding, Verdict
from penstock.cli.checks.ingresses import ingresses
from penstock.cli.checks.machine import chain, of_status
from penstock.cli.checks.observed import Cluster, Listed
from penstock.cli.checks.platform import platform
from penstock.cli.checks.served import served
from penstock.cli.checks.services import services
from penstock.cli.checks.workloads import workloads
from penstock.cli.formats import Format
from penstock.compiler.kinds import KINDS
from penstock.meta.paths import RunPaths
from penstock.meta.version import VERSION
from penstock.sources.kubernetes.requests import resource_of

NOW = datetime(2026, 5, 1, tzinfo=UTC)
NAMESPACE = "penstock-system"
Json = dict[str, Any]
GATEWAY_KINDS = ("gatewayclasses", "gateways", "httproutes", "referencegrants")
ALL_GATEWAY_KINDS = tuple(
    resource_of(kind.kind)
    for kind in KINDS
    if kind.api_versions[0].startswith("gateway.networking.k8s.io/")
)
ROUTE_LISTS = ("httproutes", "grpcroutes", "tlsroutes", "tcproutes", "udproutes")
CLASS = {
    "metadata": {"name": "penstock"},
    "spec": {"controllerName": "penstock.dev/gateway-controller"},
    "status": {"conditions": [{"type": "Accepted", "status": "True"}]},
}


def crd(plural: str, group: str = "gateway.networking.k8s.io", version: str = "v1.7.0") -> Json:
    return {
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {
                "gateway.networking.k8s.io/bundle-version": version,
                "gateway.networking.k8s.io/channel": "standard",
            },
        },
        "spec": {"group": group, "names": {"plural": plural}},
    }


def pod(component: str, node: str, *, ready: bool = True, image: str = "i:1") -> Json:
    waiting = {"waiting": {"reason": "ImagePullBackOff"}}
    return {
        "metadata": {
            "name": f"penstock-{component}-{node}",
            "labels": {
                "app.kubernetes.io/component": component,
                "app.kubernetes.io/version": VERSION,
            },
        },
        "spec": {
            "nodeName": node,
            "containers": [{"image": image, "args": ["--cni-conf-dir=/host/cni/conf"]}],
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [
                {"name": component, "state": {"running": {}} if ready else waiting}
            ],
        },
    }


def node(name: str, address: str, pods: str) -> Json:
    return {
        "metadata": {"name": name},
        "spec": {"podCIDRs": [pods]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }


def deployment(addresses: str, replicas: int = 2) -> Json:
    container = {"args": ["controller", f"--gateway-addresses={addresses}"]}
    name = "penstock-controller"
    return {
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name}},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [container]}}},
    }


def authority(until: datetime) -> Json:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(until - timedelta(days=365))
        .not_valid_after(until)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM).decode()
    return {"metadata": {"name": "penstock-ca"}, "data": {"ca.crt": pem}}


def lease(holder: str = "one", age: float = 2.0) -> Json:
    renewed = (NOW - timedelta(seconds=age)).isoformat()
    return {
        "metadata": {"name": "penstock-status"},
        "spec": {"holderIdentity": holder, "renewTime": renewed},
    }


def condition(type_: str, status: str, message: str = "", reason: str = "") -> Json:
    return {"type": type_, "status": status, "message": message, "reason": reason}


def route(*conditions: Json, controller: str = "penstock.dev/gateway-controller") -> Json:
    parents = [{"controllerName": controller, "conditions": list(conditions)}]
    status = {"parents": parents if conditions else []}
    return {"metadata": {"name": "r", "namespace": "s"}, "status": status}


def policy(*conditions: Json) -> Json:
    return {
        "metadata": {"name": "p", "namespace": "s"},
        "status": {"conditions": list(conditions)},
    }


def service(name: str, type_: str, node_port: int = 0, **labels: str) -> Json:
    ports = [{"port": 80} | ({"nodePort": node_port} if node_port else {})]
    return {
        "metadata": {"name": name, "namespace": "s", "labels": labels},
        "spec": {"type": type_, "clusterIP": "10.96.0.9", "ports": ports},
    }


def ingress_class(name: str, controller: str, **annotations: str) -> Json:
    return {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"controller": controller},
    }


def ingress(
    class_: str | None = "penstock", *, at: str = "192.0.2.130", path: str = "/", **annotations: str
) -> Json:
    named = {} if class_ is None else {"ingressClassName": class_}
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": path, "pathType": "ImplementationSpecific", "backend": backend}]
    status = {"loadBalancer": {"ingress": [{"ip": at}]} if at else {}}
    nginx = {
        f"nginx.ingress.kubernetes.io/{k.replace('_', '-')}": v for k, v in annotations.items()
    }
    return {
        "metadata": {"name": "i", "namespace": "s", "annotations": nginx, "managedFields": [{}]},
        "spec": {**named, "rules": [{"host": "a.test", "http": {"paths": paths}}]},
        "status": status,
    }


def cluster(**changed: Any) -> Cluster:
    """A cluster in which all is well; lists by name replace its own, "_" stands for "-"."""
    crds = [*map(crd, ALL_GATEWAY_KINDS), crd("ciliumnetworkpolicies", "cilium.io")]
    lists: dict[str, Any] = {
        "crds": crds,
        "nodes": [
            node("n1", "192.0.2.11", "10.244.1.0/24"),
            node("n2", "192.0.2.12", "10.244.2.0/24"),
        ],
        "pods": [pod(part, on) for part in ("controller", "agent", "envoy") for on in ("n1", "n2")],
        "deployments": [deployment("pool:192.0.2.128/26")],
        "leases": [lease()],
        "configmaps": [authority(NOW + timedelta(days=300))],
        "kube-system": [],
        "servicecidrs": [{"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}}],
        "gatewayclasses": [CLASS],
        "gateways": [],
        **{name: [] for name in ROUTE_LISTS},
        "policies": [],
        "networkpolicies": [],
        "ingresses": [],
        "ingressclasses": [ingress_class("penstock", "penstock.dev/ingress-controller")],
        "services": [],
    }
    lists |= {name.replace("_", "-"): value for name, value in changed.items() if name != "rights"}
    return Cluster(
        server="https://192.0.2.1:6443",
        namespace=NAMESPACE,
        version="v1.37.2",
        lists={
            name: value if isinstance(value, Listed) else Listed(tuple(value))
            for name, value in lists.items()
        },
        rights=changed.get("rights", {"penstock-agent list pods": True}),
    )


def judged(seen: Cluster) -> dict[str, Finding]:
    found = [
        *platform(seen), *services(seen), *workloads(seen, VERSION, NOW),
        *gateway_addresses(seen), *served(seen), *ingresses(seen),
    ]  # fmt: skip
    assert len({one.id for one in found}) == len(found)
    return {one.id: one for one in found}


def test_a_cluster_in_which_all_is_well_is_ok() -> None:
    found = judged(cluster())
    assert {id_: one.found for id_, one in found.items() if one.verdict is not Verdict.OK} == {}
    assert len(found) == 19


FORBIDDEN = Listed(refused="pods is forbidden")
NOT_YET = "in force on 1 of 2 nodes; not yet on n1"
LEAVING = pod("agent", "n1") | {"spec": {"nodeName": "n1", "containers": [{"args": ["leave"]}]}}
EXTERNAL = service("e", "ClusterIP")
EXTERNAL["spec"]["externalIPs"] = ["192.0.2.7"]
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
OTHER_PROXY = {"service.kubernetes.io/service-proxy-name": "penstock"}


@pytest.mark.parametrize(
    ("changed", "id_", "verdict", "said"),
    [
        ({"crds": [crd("ciliumnetworkpolicies", "cilium.io")]}, "PC-CRD-001", "fail", "missing"),
        ({"crds": [crd(one, version="v0.8.0") for one in GATEWAY_KINDS]},
         "PC-CRD-001", "fail", "v0.8.0"),
        ({"crds": [crd(one) for one in ALL_GATEWAY_KINDS if one != "grpcroutes"]},
         "PC-CRD-001", "warn", "missing, so not served: grpcroutes"),
        ({"crds": [crd("gateways", version="v1.6.3"), *map(crd, ALL_GATEWAY_KINDS)]},
         "PC-CRD-001", "ok", "v1.7.0"),
        ({"crds": [*map(crd, GATEWAY_KINDS[:3]), crd("referencegrants", version="v1.6.3")]},
         "PC-CRD-001", "warn", "v1.6.3, v1.7.0"),
        ({"crds": [*map(crd, GATEWAY_KINDS)]}, "PC-CRD-002", "fail", "no policy"),
        ({"crds": FORBIDDEN}, "PC-CRD-001", "skip", "forbidden"),
        ({"rights": {"penstock-agent list pods": False}}, "PC-RBA-001", "fail", "list pods"),
        ({"rights": {}}, "PC-RBA-001", "skip", "may not ask"),
        ({"kube_system": [{"metadata": {"name": "kube-proxy"}}]}, "PC-KPX-001", "warn", "runs"),
        ({"pods": []}, "PC-KPX-001", "warn", "nobody serves Services yet"),
        ({"pods": [LEAVING]}, "PC-KPX-001", "warn", "nobody serves Services yet"),
        ({"pods": FORBIDDEN}, "PC-KPX-001", "skip", "not known: pods is forbidden"),
        ({"kube_system": FORBIDDEN}, "PC-KPX-001", "skip", "cannot be read"),
        ({"services": [service("a", "NodePort", 30080)]},
         "PC-SVC-001", "warn", "not answer at node port 30080 of s/a"),
        ({"services": [EXTERNAL]}, "PC-SVC-001", "warn", "not answer at external IP 192.0.2.7 of"),
        ({"services": FORBIDDEN}, "PC-SVC-001", "skip", "forbidden"),
        ({"pods": [], "deployments": []}, "PC-CTL-001", "fail", "none in penstock-system"),
        ({"pods": []}, "PC-CTL-001", "fail",
         "Deployment penstock-controller in penstock-system has none of the 2 pods that it wants"),
        ({"pods": [], "deployments": [deployment("nodes", 0)]}, "PC-CTL-001", "fail",
         "Deployment penstock-controller in penstock-system has 0 replicas"),
        ({"pods": [pod("controller", "n1")]}, "PC-CTL-001", "warn",
         "1 of 2 ready; Deployment penstock-controller lacks 1 of its pods"),
        ({"pods": [pod("controller", "n1", ready=False)], "deployments": [deployment("nodes", 1)]},
         "PC-CTL-001", "fail", "0 of 1 ready; penstock-controller-n1: ImagePullBackOff"),
        ({"pods": [pod("controller", "n1", ready=False), pod("controller", "n2")]},
         "PC-CTL-001", "warn", "1 of 2 ready"),
        ({"pods": [pod("controller", "n1"), pod("controller", "n1")]},
         "PC-CTL-002", "warn", "all on n1"),
        ({"pods": FORBIDDEN}, "PC-CTL-001", "skip", "forbidden"),
        ({"leases": []}, "PC-CTL-003", "fail", "nobody"),
        ({"leases": [lease(age=100.0)]}, "PC-CTL-003", "warn", "100 s ago"),
        ({"pods": [pod("agent", "n1")]}, "PC-AGT-001", "fail", "1 of 2 nodes; n2: no pod"),
        ({"pods": [LEAVING]}, "PC-AGT-001", "fail", "enforced or served on n1: agents leave"),
        *(({"pods": pods}, id_, "skip", "no agent serves or enforces anything")
          for pods in ([LEAVING], [pod("controller", "n1")])
          for id_ in ("PC-POL-001", "PC-RTE-001", "PC-ING-001", "PC-GWA-002")),
        ({"pods": [pod("envoy", "n1"), pod("envoy", "n2", ready=False)]},
         "PC-ENV-001", "fail", "penstock-envoy-n2: ImagePullBackOff"),
        ({"pods": [pod("agent", "n1"), pod("agent", "n2", image="i:2")]},
         "PC-VER-001", "warn", "i:2"),
        ({"configmaps": []}, "PC-CRT-001", "fail", "missing"),
        ({"configmaps": [authority(NOW + timedelta(days=3))]}, "PC-CRT-001", "warn", "3 days left"),
        ({"configmaps": [authority(NOW - timedelta(days=3))]}, "PC-CRT-001", "fail", "nobody"),
        ({"configmaps": [{"metadata": {"name": "penstock-ca"}, "data": {"ca.crt": "x"}}]},
         "PC-CRT-001", "fail", "ca.crt"),
        ({"gatewayclasses": []}, "PC-GWC-001", "fail", "none has controllerName"),
        ({"gatewayclasses": [CLASS | {"status": {}}]}, "PC-GWC-001", "fail", "not accepted"),
        ({"deployments": []}, "PC-GWA-001", "skip", "not there"),
        ({"deployments": [deployment("nodes")]}, "PC-GWA-001", "ok", "of the nodes"),
        ({"deployments": [deployment("pool:10.244.2.0/28")]}, "PC-GWA-001", "fail", "pods of n2"),
        ({"deployments": [deployment("pool:192.0.2.8/29")]}, "PC-GWA-001", "fail", "node n1"),
        ({"deployments": [deployment("pool:192.0.2.9-192.0.2.11")]},
         "PC-GWA-001", "fail", "node n1"),
        ({"deployments": [deployment("pool:10.96.1.0/24")]}, "PC-GWA-001", "fail", "Services"),
        ({"deployments": [deployment("pool:x")]}, "PC-GWA-001", "fail", "x"),
        ({"gateways": [{"metadata": {"name": "a", "namespace": "b"},
                        "spec": {"gatewayClassName": "penstock"}}]},
         "PC-GWA-002", "warn", "b/a: not programmed"),
        ({"gateways": [{"metadata": {"name": "a", "namespace": "b"},
                        "spec": {"gatewayClassName": "others"}}]},
         "PC-GWA-002", "ok", "0 programmed"),
        ({"httproutes": [route(condition("Accepted", "True"))]},
         "PC-RTE-001", "ok", "1 in force"),
        ({"httproutes": [route(condition("Accepted", "False", "no listener x"))]},
         "PC-RTE-001", "warn", "HTTPRoute s/r: Accepted False: no listener x"),
        ({"grpcroutes": [route(condition("PartiallyInvalid", "True", "Dropped Rule 0"))]},
         "PC-RTE-001", "warn", "GRPCRoute s/r: PartiallyInvalid True: Dropped Rule 0"),
        ({"httproutes": [route(condition("DataPlaneAcked", "Unknown", NOT_YET, "Pending"))]},
         "PC-RTE-001", "warn", f"HTTPRoute s/r: DataPlaneAcked Unknown: {NOT_YET}"),
        ({"httproutes": [route(condition("DataPlaneAcked", "False", "bad regex", "Rejected"))]},
         "PC-RTE-001", "warn", "HTTPRoute s/r: DataPlaneAcked False: bad regex"),
        ({"httproutes": [route(condition("Accepted", "Unknown", "", "Pending"))]},
         "PC-RTE-001", "ok", "1 in force"),
        ({"httproutes": [route(condition("DataPlaneAcked", "Unknown", NOT_YET, "Pending"),
                               condition("Accepted", "False", "no listener x"))]},
         "PC-RTE-001", "warn", "HTTPRoute s/r: Accepted False: no listener x"),
        ({"httproutes": [route(condition("Accepted", "False"), controller="other.test/c")]},
         "PC-RTE-001", "ok", "0 in force"),
        ({"httproutes": [route()]}, "PC-RTE-001", "warn", "no parent is"),
        ({"tcproutes": Listed(refused="not served", absent=True)}, "PC-RTE-001", "ok", "0 in"),
        ({"httproutes": FORBIDDEN}, "PC-RTE-001", "skip", "forbidden"),
        ({"policies": [policy(condition("Valid", "True"))]}, "PC-POL-001", "ok", "1 in force"),
        ({"policies": [policy(condition("Valid", "False", "toFQDNs: is not supported"))]},
         "PC-POL-001", "warn", "s/p: Valid False: toFQDNs"),
        ({"policies": [policy(condition("Valid", "True"),
                              condition("DataPlaneAcked", "Unknown", NOT_YET, "Pending"))]},
         "PC-POL-001", "warn", f"s/p: DataPlaneAcked Unknown: {NOT_YET}"),
        ({"policies": [policy(condition("Valid", "True"),
                              condition("DataPlaneAcked", "True", "in force on 2 of 2 nodes"))]},
         "PC-POL-001", "ok", "1 in force"),
        ({"networkpolicies": [policy()]}, "PC-NPL-001", "warn", "does not enforce them"),
        ({"networkpolicies": FORBIDDEN}, "PC-NPL-001", "skip", "forbidden"),
        ({"ingresses": [ingress()]}, "PC-ING-001", "ok", "1 served as written"),
        ({"ingresses": [ingress("other")], "ingressclasses": [ingress_class("other", "o.test/c")]},
         "PC-ING-001", "ok", "0 served as written"),
        ({"ingresses": [ingress("typo")]},
         "PC-ING-001", "warn", "s/i: IngressClass typo does not exist"),
        ({"ingresses": [ingress(None)]}, "PC-ING-001", "warn", "s/i: it names no class, and there"),
        ({"ingresses": [ingress(None)],
          "ingressclasses": [ingress_class("penstock", "penstock.dev/ingress-controller",
                                           **{DEFAULT_CLASS: "true"})]},
         "PC-ING-001", "ok", "1 served as written"),
        ({"ingresses": [ingress(at="")]}, "PC-ING-001", "warn", "s/i: it has no address"),
        ({"ingresses": [ingress(server_snippet="deny all;")]},
         "PC-ING-001", "warn", "server-snippet"),
        ({"ingresses": [ingress() | {"spec": {"ingressClassName": "penstock", "rules": 7}}]},
         "PC-ING-001", "warn", "s/i: spec.rules: "),
        ({"ingresses": FORBIDDEN}, "PC-ING-001", "skip", "forbidden"),
        ({"policies": Listed(refused="x", absent=True)}, "PC-POL-001", "ok", "none"),
        ({"policies": FORBIDDEN}, "PC-POL-001", "skip", "forbidden"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(changed: Json, id_: str, verdict: str, said: str) -> None:
    one = judged(cluster(**changed))[id_]
    assert (one.verdict, said in one.found) == (Verdict(verdict), True), one
    assert one.hint or one.verdict in (Verdict.OK, Verdict.SKIP)


@pytest.mark.parametrize(
    ("reason", "phase", "hint"),
    [
        ("CrashLoopBackOff", "Running", "logs penstock-controller-n2 --previous"),
        ("ImagePullBackOff", "Pending", "describe pod penstock-controller-n2"),
        ("", "Pending", "describe pod penstock-controller-n2"),
        ("", "Running", "logs penstock-controller-n2"),
    ],
)
def test_the_next_step_is_about_the_pod_that_is_not_ready(
    reason: str, phase: str, hint: str
) -> None:
    lame = pod("controller", "n2", ready=False)
    lame["status"]["phase"] = phase
    lame["status"]["containerStatuses"][0]["state"] = (
        {"waiting": {"reason": reason}} if reason else {"running": {}}
    )
    found = judged(cluster(pods=[pod("controller", "n1"), lame]))["PC-CTL-001"]
    assert found.hint == f"kubectl -n {NAMESPACE} {hint}"


def test_an_agent_that_runs_and_is_not_ready_can_be_asked_why() -> None:
    lame = pod("agent", "n1", ready=False)
    lame["status"]["containerStatuses"][0]["state"] = {"running": {}}
    hint = judged(cluster(pods=[lame, pod("agent", "n2")]))["PC-AGT-001"].hint
    assert "logs penstock-agent-n1; on the node: " in hint
    assert hint.endswith("exec PENSTOCK-AGENT-POD -- penstock check --node")


def nothing_of_ours(**changed: Any) -> Cluster:
    """A cluster in which nobody has installed the chart."""
    gone: dict[str, Any] = {"deployments": [], "daemonsets": [], "pods": [], "services": []}
    return cluster(**gone | {"rights": {"penstock-agent list pods": False}} | changed)


def test_where_nothing_is_installed_that_is_told_and_nothing_that_follows_from_it() -> None:
    found = judged(nothing_of_ours())
    assert [*found] == ["PC-API-001", "PC-CRD-001", "PC-KPX-001", "PC-CTL-001"]
    assert "not installed in penstock-system" in found["PC-CTL-001"].found
    assert "helm install" in found["PC-CTL-001"].hint
    assert found["PC-KPX-001"].verdict is Verdict.WARN
    assert "helm install" in found["PC-KPX-001"].hint


def test_an_installation_in_another_namespace_is_found() -> None:
    ours = {"metadata": {"name": "penstock-controller", "namespace": "mesh"}, "spec": {}}
    found = judged(nothing_of_ours(services=[ours]))
    assert "-n mesh" in found["PC-CTL-001"].hint
    assert "-n mesh" in found["PC-KPX-001"].hint


def test_controllers_that_are_scaled_to_none_are_to_be_scaled_up() -> None:
    found = judged(cluster(pods=[], deployments=[deployment("nodes", 0)]))["PC-CTL-001"]
    wanted = "kubectl -n penstock-system scale deploy/penstock-controller --replicas=2"
    assert found.hint == wanted


@pytest.mark.parametrize(
    "services",
    [
        [service("a", "LoadBalancer", 30080)],
        [service("a", "ClusterIP"), service("b", "ExternalName")],
        [service("a", "NodePort", 30080, **OTHER_PROXY)],
    ],
)
def test_services_that_need_no_kube_proxy_are_no_line(services: list[Json]) -> None:
    assert "PC-SVC-001" not in judged(cluster(services=services))


def test_where_kube_proxy_runs_node_ports_are_its_task() -> None:
    proxy = [{"metadata": {"name": "kube-proxy"}}]
    found = judged(cluster(services=[service("a", "NodePort", 30080)], kube_system=proxy))
    assert "PC-SVC-001" not in found


@pytest.mark.parametrize(
    ("one", "step", "other"),
    [
        (condition("Valid", "False"), "penstock lint", "penstock check --node"),
        (condition("DataPlaneAcked", "Unknown"), "penstock check --node", "penstock lint"),
    ],
)
def test_what_nodes_lack_is_looked_for_on_nodes_and_what_is_wrong_in_files(
    one: Json, step: str, other: str
) -> None:
    hint = judged(cluster(policies=[policy(one)]))["PC-POL-001"].hint
    assert step in hint
    assert other not in hint


def test_what_a_line_only_counts_is_named_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    bad = [route(condition("Accepted", "False", f"no listener {index}")) for index in range(5)]
    found = judged(cluster(httproutes=bad))["PC-RTE-001"]
    show([found])
    said = capsys.readouterr().out
    assert "no listener 2 and 2 more" in said
    assert "→ --all names all 5" in said
    assert "no listener 4" not in said
    show([found], every=True)
    said = capsys.readouterr().out
    assert "--all" not in said
    assert [line.strip() for line in said.splitlines()[2:]] == [
        f"- HTTPRoute s/r: Accepted False: no listener {index}" for index in range(5)
    ]


def test_a_line_that_names_all_asks_for_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    bad = [route(condition("Accepted", "False", f"no listener {index}")) for index in range(3)]
    show([judged(cluster(httproutes=bad))["PC-RTE-001"]])
    assert "--all" not in capsys.readouterr().out


def test_of_many_missing_rights_a_few_are_named() -> None:
    rights = {f"penstock-controller list kind{index}": False for index in range(9)}
    found = judged(cluster(rights=rights))["PC-RBA-001"]
    assert found.found.endswith("list kind2 and 6 more")
    assert found.every == tuple(sorted(rights))


def test_an_old_kubernetes_is_told() -> None:
    old = Cluster(server="https://a", namespace=NAMESPACE, version="v1.24.0")
    assert next(platform(old)).verdict is Verdict.FAIL


def test_of_a_server_that_does_not_answer_nothing_else_is_said() -> None:
    away = Cluster(server="https://a", namespace=NAMESPACE, unreachable="refused")
    (found,) = platform(away)
    assert (found.id, found.verdict) == ("PC-API-001", Verdict.FAIL)


GOOD_STATUS: Json = {
    "node": "n1",
    "controller_connected": True,
    "envoy_connected": True,
    "envoy": {"state": "running"},
    "pods": [{"name": "a", "identity": 70000}, {"name": "b", "identity": None, "policed": False}],
    "resources": {"Cluster": {"intended": 3, "acked": 3, "rejected": 0}},
    "failures": {},
}


@pytest.mark.parametrize(
    ("changed", "id_", "verdict"),
    [
        ({}, "", ""),
        ({"controller_connected": False}, "PC-NOD-002", "warn"),
        ({"envoy_connected": False}, "PC-NOD-003", "fail"),
        ({"failures": {"pod a": "E2BIG"}}, "PC-NOD-004", "fail"),
        ({"resources": {"Cluster": {"rejected": 1}}}, "PC-NOD-005", "fail"),
        ({"pods": [{"name": "a", "identity": None}]}, "PC-NOD-001", "warn"),
    ],
)
def test_what_an_agent_says_is_judged(changed: Json, id_: str, verdict: str) -> None:
    found = [one for one in of_status(GOOD_STATUS | changed) if one.verdict is not Verdict.OK]
    assert [(one.id, str(one.verdict)) for one in found] == ([(id_, verdict)] if id_ else [])


@pytest.mark.parametrize(
    ("files", "verdict"),
    [
        ({}, "fail"),
        ({"10-a.conflist": {"plugins": [{"type": "bridge"}, {"type": "penstock-cni"}]}}, "ok"),
        ({"10-a.conflist": {"plugins": [{"type": "penstock-cni"}, {"type": "bridge"}]}}, "fail"),
        ({"05-b.conf": {"type": "bridge"},
          "10-a.conflist": {"plugins": [{"type": "penstock-cni"}]}}, "fail"),
    ],
)  # fmt: skip
def test_the_configuration_that_is_used_ends_with_our_plugin(
    tmp_path: Path, files: dict[str, Json], verdict: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert chain(tmp_path).verdict is Verdict(verdict)


def test_a_node_without_an_agent_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = Where(node=True, paths=RunPaths(tmp_path), cni_folder=tmp_path)
    assert check(where, Format.JSON, quiet=True) == 1
    said = json.loads(capsys.readouterr().out)
    by_id = {one["id"]: one for one in said["findings"]}
    assert by_id["PC-NOD-001"]["verdict"] == "fail"
    assert by_id["PC-NOD-001"]["hint"]


def test_without_a_cluster_the_machine_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    check(Where(), Format.TABLE, quiet=False)
    assert "PC-KRN-001  ok" in capsys.readouterr().out


def test_every_id_is_documented_and_unique() -> None:
    modules = (
        addresses, ingress_checks, machine, platform_checks, served_checks, service_checks,
        workload_checks,
    )  # fmt: skip
    checks = [value for one in modules for value in vars(one).values() if isinstance(value, Check)]
    ids = [one.id for one in checks]
    assert len(set(ids)) == len(ids)
    text = (Path(__file__).parents[3] / "docs" / "install.md").read_text()
    for id_ in ids:
        area, _, number = id_.rpartition("-")
        assert area in text
        assert any(form in text for form in (id_, f"-{number}", "001 … -005")), id_
