"""What lint says of ListenerSets, policies for Services and grants."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.cli.formats import LintFormat
from penstock.cli.lint import lint
from penstock.cli.migrate import migrate_ingress
from penstock.compiler.compile import Compiler
from penstock.compiler.problems import problems_of
from penstock.core.objects import Broken, Object
from support import objects
from support.pki import issue

GROUP = "gateway.networking.k8s.io"
API = f"{GROUP}/v1"
Json = dict[str, Any]


def made(kind: str, spec: Json, api: str = API, name: str = "x", **meta: Any) -> Object | Broken:
    metadata = {"name": name, "namespace": "shop", **meta}
    return objects.made({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec})


def told(thing: Object | Broken, *more: Object | Broken) -> list[str]:
    compiler = Compiler()
    web = objects.service("web", "10.96.0.1")
    compiler.apply(objects.added([objects.gateway_class(), web, *more, thing]))
    assert compiler.failures == {}
    return list(map(str, problems_of(compiler.db, thing)))


def gateway(**more: Any) -> Object | Broken:
    listeners = [{"name": "http", "protocol": "HTTP", "port": 80}]
    return made(
        "Gateway", {"gatewayClassName": "penstock", "listeners": listeners, **more}, name="gw"
    )


OPEN = {"allowedListeners": {"namespaces": {"from": "All"}}}


def listener_set(**listener: Any) -> Object | Broken:
    listeners = [{"name": "l", "protocol": "HTTP", "port": 81, **listener}]
    return made("ListenerSet", {"parentRef": {"name": "gw"}, "listeners": listeners})


def test_a_listener_set_says_why_it_or_a_listener_of_it_is_not_served() -> None:
    assert told(listener_set(), gateway(**OPEN)) == []
    assert told(listener_set()) == [
        "spec.parentRef: Gateway shop/gw does not exist; add the Gateway, or mend the name"
    ]
    assert told(listener_set(), gateway()) == [
        (
            "spec.parentRef: allowedListeners of Gateway shop/gw do not admit this namespace; "
            "its listeners are not served; admit it there"
        )
    ]
    assert told(listener_set(port=80), gateway(**OPEN)) == [
        (
            "spec.listeners[0]: HostnameConflict: port 80 has a listener that goes before and "
            "cannot be told from this one; the listener is not served"
        )
    ]
    tls = {"certificateRefs": [{"name": "none"}]}
    assert told(listener_set(protocol="HTTPS", tls=tls), gateway(**OPEN)) == [
        (
            "spec.listeners[0].tls.certificateRefs[0]: InvalidCertificateRef: "
            "Secret shop/none does not exist; handshakes are refused"
        )
    ]


def tls_policy(*targets: Json, ca: str = "ca", **meta: Any) -> Object | Broken:
    refs = [{"group": "", "kind": "ConfigMap", "name": ca}]
    services = [{"group": "", "kind": "Service", **one} for one in targets]
    validation = {"hostname": "web.test", "caCertificateRefs": refs}
    spec = {"targetRefs": services, "validation": validation}
    return made("BackendTLSPolicy", spec, **{"name": "tls", **meta})


def test_a_policy_of_tls_says_what_of_it_leads_nowhere() -> None:
    metadata = {"name": "ca", "namespace": "shop"}
    ca = objects.made({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
        "data": {"ca.crt": issue("ca.test").pem},
    })  # fmt: skip
    assert told(tls_policy({"name": "web"}), ca) == []
    assert told(tls_policy({"name": "web", "sectionName": "x"}, {"name": "none"}), ca) == [
        f"spec.targetRefs[{index}]: TargetNotFound: {text}; the policy is without effect there"
        for index, text in enumerate(
            (
                "Service shop/web has no port named x; its ports: http",
                "there is no Service shop/none",
            )
        )
    ]
    assert told(tls_policy({"name": "web"}, ca="none"), ca) == [
        (
            "spec.validation.caCertificateRefs[0]: InvalidCACertificateRef: ConfigMap shop/none "
            "does not exist; Gateways answer 503 for the Service until somebody is trusted"
        )
    ]
    older = tls_policy({"name": "web"}, name="a")
    assert told(tls_policy({"name": "web"}, name="b"), ca, older) == [
        (
            "spec.targetRefs[0]: Conflicted: an older policy is for Service shop/web; "
            "the policy is without effect there"
        )
    ]


def test_a_policy_of_traffic_names_the_targets_for_which_it_does_not_hold() -> None:
    refs = [{"group": "", "kind": "Service", "name": name} for name in ("web", "none")]
    policy = made(
        "XBackendTrafficPolicy", {"targetRefs": refs}, "gateway.networking.x-k8s.io/v1alpha1"
    )
    assert told(policy) == [
        (
            "spec.targetRefs[1]: TargetNotFound: there is no Service shop/none; "
            "it is without effect there"
        )
    ]


def test_a_grant_about_kinds_that_there_are_not_permits_nothing_and_says_so() -> None:
    by, to = {"group": GROUP, "namespace": "far"}, {"group": ""}
    spec = {
        "from": [by | {"kind": one} for one in ("HTTPRoute", "HTTPRoutes")],
        "to": [to | {"kind": "Service"}, to | {"kind": "services"}, {"group": "x", "kind": "Y"}],
    }
    assert [one.partition(":")[0] for one in told(made("ReferenceGrant", spec))] == [
        "spec.from[1].kind",
        "spec.to[1].kind",
    ]


def test_who_names_the_wrong_folder_is_told_that_nothing_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lint([tmp_path], LintFormat.TEXT) == 0
    assert f"no Kubernetes object in {tmp_path}" in capsys.readouterr().err
    assert migrate_ingress([tmp_path]) == 0
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", f"no Ingress in {tmp_path}\n")


def test_what_an_ingress_loses_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "nginx.ingress.kubernetes.io/proxy-body-size"
    file = tmp_path / "i.yaml"
    metadata = {"name": "i", "namespace": "shop", "annotations": {name: "8m"}}
    document = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata}
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    rules = [{"host": "a.test", "http": {"paths": [path]}}]
    broken = {**document, "metadata": {"name": "j", "namespace": "shop"}, "spec": {"rules": 7}}
    every = [document | {"spec": {"rules": rules}}, broken]
    file.write_text(yaml.safe_dump_all(every, sort_keys=False))
    assert migrate_ingress([file]) == 1
    lost, wrong = capsys.readouterr().err.splitlines()
    assert lost.startswith(f"{file}:6: Ingress shop/i: metadata.annotations: proxy-body-size")
    assert wrong.startswith(f"{file}:")
    assert "Ingress shop/j: spec.rules: " in wrong


@pytest.mark.parametrize(
    ("annotation", "value", "why"),
    [
        ("limit-connections", "5", "Ingress shop/i is closed: .*are not counted by client"),
        ("rewrite-target", "/$3", r"spec.rules\[0\].http.paths\[0\].path: rewrite-target "),
    ],
)
def test_a_written_route_that_leads_nowhere_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], annotation: str, value: str, why: str
) -> None:
    metadata = {"name": "i", "annotations": {f"nginx.ingress.kubernetes.io/{annotation}": value}}
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    path = {"path": "/(.*)", "pathType": "ImplementationSpecific", "backend": backend}
    document = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata | {"namespace": "shop"},
        "spec": {"rules": [{"host": "a.test", "http": {"paths": [path]}}]},
    }
    file = tmp_path / "i.yaml"
    file.write_text(yaml.safe_dump(document))
    assert migrate_ingress([file]) == 1
    written = capsys.readouterr().out
    comments = [line for line in written.splitlines() if line.startswith("#")]
    assert re.match(f"# {why}", comments[0])
    assert comments[1:] == ["# Rules without backendRefs answer 500."]
    assert [one["kind"] for one in yaml.safe_load_all(written)] == ["Gateway", "HTTPRoute"]


def test_a_service_says_where_it_is_reached_by_kube_proxy_only() -> None:
    ports = {"ports": [{"port": 80}], "clusterIP": "10.96.0.9"}
    hint = "where kube-proxy does not run use type LoadBalancer, or a Gateway"
    assert told(made("Service", {**ports, "type": "LoadBalancer"}, api="v1")) == []
    assert told(made("Service", {**ports, "type": "NodePort"}, api="v1")) == [
        f"spec.type: the ports of nodes are served by kube-proxy, not by Penstock; {hint}"
    ]
    assert told(made("Service", {**ports, "externalIPs": ["192.0.2.1"]}, api="v1")) == [
        f"spec.externalIPs: these addresses are served by kube-proxy, not by Penstock; {hint}"
    ]
