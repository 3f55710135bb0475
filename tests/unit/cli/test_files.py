from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from penstock.cli.compiled import compile_files
from penstock.cli.formats import Format, LintFormat
from penstock.cli.lint import findings_of, lint
from penstock.cli.translate import translate
from penstock.meta.errors import PenstockError
from support.pki import issue, tls_secret_raw

ROOT = Path(__file__).parents[3]
SHOP = ROOT / "examples" / "shop"

MISPLACED = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: orders
  namespace: shop
spec:
  endpointSelector:
    matchLabels:
      app: orders
  ingress:
    - fromEndpoints:
        - matchLabels:
            app: frontend
      toPorts:
        - ports:
            - port: "8080"
              protocol: TCP
      rules:
        http:
          - method: GET
"""
DANGLING = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: orders
  namespace: shop
spec:
  parentRefs:
    - name: none
    - kind: Service
      group: ""
      name: nowhere
  rules:
    - backendRefs:
        - name: nobody
          port: 80
"""
GATEWAY = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: shop
  namespace: shop
spec:
  gatewayClassName: penstock
  listeners:
    - name: http
      protocol: HTTP
      port: 80
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "some.yaml"
    file.write_text(text)
    return file


def test_rules_beside_to_ports_are_an_error_that_names_the_right_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, MISPLACED)
    assert lint([file], LintFormat.TEXT) == 1
    output = capsys.readouterr().out
    expected = "spec.ingress[0].rules: unknown field; belongs inside toPorts[]"
    assert f"{file}:18:7: error: CiliumNetworkPolicy shop/orders: {expected}\n" in output


def test_references_to_nothing_are_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, DANGLING)
    assert lint([file], LintFormat.TEXT) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.removeprefix(f"{file}:").partition(": ")[0] for line in lines] == [
        "8:7",
        "9:7",
        "14:11",
    ]
    assert "Gateway shop/none does not exist" in lines[0]
    assert "Service shop/nowhere does not exist" in lines[1]
    assert "BackendNotFound" in lines[2]


def test_a_gateway_without_its_class_is_a_warning(tmp_path: Path) -> None:
    (found,) = findings_of(compile_files([written(tmp_path, GATEWAY)]))
    assert (found.line, found.severity) == (7, "warning")
    assert found.path == "spec.gatewayClassName"


INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: a
  namespace: shop
  annotations:
    nginx.ingress.kubernetes.io/configuration-snippet: x
spec:
  ingressClassName: nginx
  defaultBackend: {service: {name: b, port: {number: 80}}}
"""
SNIPPET = "configuration-snippet"


def test_objects_of_a_class_that_is_not_in_the_files_are_judged_as_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lint([written(tmp_path, INGRESS)], LintFormat.TEXT) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(SNIPPET in line and ": error: " in line for line in lines)
    assert any("IngressClass nginx is not in these files: taken for ours" in line for line in lines)


def test_of_the_classes_of_the_chart_nothing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ingress = INGRESS.replace("ingressClassName: nginx", "ingressClassName: penstock")
    assert lint([written(tmp_path, f"{GATEWAY}---{ingress}")], LintFormat.TEXT) == 1
    out = capsys.readouterr().out
    assert SNIPPET in out
    assert "Class penstock" not in out


def test_an_ingress_without_a_class_is_judged_by_the_default_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = INGRESS.replace("  ingressClassName: nginx\n", "")
    assert lint([written(tmp_path, text)], LintFormat.TEXT) == 1
    assert SNIPPET in capsys.readouterr().out
    other = """---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata:
  name: others
  annotations: {ingressclass.kubernetes.io/is-default-class: "true"}
spec: {controller: others.test/ingress}
"""
    assert lint([written(tmp_path, text + other)], LintFormat.TEXT) == 0
    assert SNIPPET not in capsys.readouterr().out


@pytest.mark.parametrize("example", ["shop", "gateway", "https"])
def test_examples_are_clean(example: str) -> None:
    assert findings_of(compile_files([ROOT / "examples" / example])) == []


def test_a_certificate_that_cannot_serve_is_named_at_its_reference(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = ROOT / "tests" / "golden" / "gateway-https" / "in"
    assert lint([folder], LintFormat.TEXT) == 0
    lines = capsys.readouterr().out.splitlines()
    (found,) = [line for line in lines if "listeners[9]" in line]
    place, _, text = found.partition(": warning: Gateway shop/front: ")
    assert place == f"{folder / 'gateway.yaml'}:63:31"
    assert text == (
        "spec.listeners[9].tls.certificateRefs[0]: InvalidCertificateRef: Secret shop/mismatched: "
        "tls.key is not the key of tls.crt; handshakes are refused"
    )


def test_a_certificate_that_is_expired_is_told(tmp_path: Path) -> None:
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    one = issue("shop.test", begin=past, end=past + dt.timedelta(days=90))
    file = written(tmp_path, yaml.safe_dump(tls_secret_raw("shop-tls", "shop", [one])))
    compiled = compile_files([ROOT / "examples" / "https" / "gateway.yaml", file])
    compiled.compiler.tell_time(int(dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()))
    found = [finding for finding in findings_of(compiled) if "shop-tls" in finding.message]
    assert [one.path for one in found] == [
        "spec.listeners[1].tls.certificateRefs",
        "spec.listeners[2].tls.certificateRefs",
    ]
    assert "the certificate expired at 2020-03-31T00:00:00Z" in found[0].message


def test_options_of_tls_that_nobody_reads_are_told(tmp_path: Path) -> None:
    text = (ROOT / "examples" / "https" / "gateway.yaml").read_text()
    text = text.replace(
        "      tls:\n", "      tls:\n        options: {a.test/version: TLSv1.3}\n", 1
    )
    certificate = ROOT / "examples" / "https" / "certificate.yaml"
    (found,) = findings_of(compile_files([written(tmp_path, text), certificate]))
    assert (found.path, found.severity) == ("spec.listeners[1].tls.options", "warning")
    assert "a.test/version" in found.message


@pytest.mark.parametrize("form", [Format.JSON, Format.YAML, Format.TABLE])
def test_keys_are_not_translated(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    assert translate(ROOT / "examples" / "https", form) == 0
    output = capsys.readouterr().out
    assert "tls|shop/shop-tls" in output
    assert "PRIVATE" not in output


def test_sarif_has_the_place_and_the_level(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, MISPLACED)
    lint([file], LintFormat.SARIF)
    log = msgspec.json.decode(capsys.readouterr().out)
    assert log["version"] == "2.1.0"
    results = log["runs"][0]["results"]
    (error,) = [one for one in results if one["level"] == "error"]
    place = error["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == str(file)
    assert place["region"] == {"startLine": 18, "startColumn": 7}


def test_json_counts_the_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lint([written(tmp_path, MISPLACED)], LintFormat.JSON)
    answer = msgspec.json.decode(capsys.readouterr().out)
    assert answer["errors"] == 1
    assert set(answer["findings"][0]) == {
        "file", "line", "column", "severity", "object", "path", "message", "hint",
    }  # fmt: skip


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PenstockError, match="no such file or folder"):
        lint([tmp_path / "none"], LintFormat.TEXT)


def test_translate_names_the_nodes_there_are() -> None:
    with pytest.raises(PenstockError, match="there is no node 'other'; there are: lab"):
        translate(SHOP, Format.JSON, "other")


def test_translate_shows_messages_inside_messages(capsys: pytest.CaptureFixture[str]) -> None:
    assert translate(SHOP, Format.JSON) == 0
    output = msgspec.json.decode(capsys.readouterr().out)
    types = {one["type"] for one in output["resources"]}
    assert {"Listener", "Cluster", "ScopedRouteConfiguration", "Policy", "Workload"} <= types
    (rules,) = [
        one
        for one in output["resources"]
        if one["type"] == "TypedExtensionConfig" and one["name"] == "in|shop/orders-v1/80"
    ]
    assert rules["resource"]["typedConfig"]["@type"].endswith("rbac.v3.RBAC")
    assert "CiliumNetworkPolicy shop/orders spec.ingress[0].toPorts[0]" in rules["origins"]


def test_translate_gives_the_same_bytes_in_every_process() -> None:
    def once(seed: str) -> bytes:
        command = [sys.executable, "-m", "penstock.cli", "translate", "-f", str(SHOP)]
        return subprocess.run(
            command, env=environment() | {"PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout

    assert once("1") == once("2")


def environment() -> dict[str, str]:
    """Let a child process find the packages that this one has."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
