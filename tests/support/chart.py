"""The chart, rendered by the real helm, and the rights that it gives."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from support.kube import MissingProgramError, tool

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "penstock"
NAMESPACE = "penstock-system"
Json = dict[str, Any]

POOL: Json = {
    "logLevel": "debug",
    "k8sServiceHost": "192.0.2.1",
    "k8sServicePort": "6443",
    "gatewayAddresses": {"mode": "pool", "pool": ["192.0.2.128/26", "192.0.2.100-192.0.2.110"]},
    "gatewaySecretNamespaces": ["shop"],
    "cniBinDir": "/usr/lib/cni",
    "gatewayClass": {"create": False},
    "mesh": {"name": "shops"},
    "policyCrd": {"install": False},
    "images": {"pullSecrets": ["mirror"], "penstock": {"digest": f"sha256:{'0' * 64}"}},
    "controller": {"replicas": 3, "tolerations": [{"operator": "Exists"}]},
    "agent": {"extraCapabilities": ["SYS_RESOURCE"]},
    "envoy": {"concurrency": 2, "updateStrategy": {"type": "RollingUpdate"}},
}
"""Values that differ from the chart's own, and what each of them changes."""


class Right(NamedTuple):
    """One thing that somebody may do; "" stands for everywhere, the core group, the object itself,
    and every name."""

    namespace: str
    verb: str
    group: str
    resource: str
    subresource: str = ""
    name: str = ""

    def __str__(self) -> str:
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        of = f".{self.group}" if self.group else ""
        name = f" {self.name}" if self.name else ""
        where = f"in {self.namespace}" if self.namespace else "everywhere"
        return f"{self.verb} {resource}{of}{name} {where}"


def helm(*words: str, values: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm; a test that needs it is skipped where it is not built."""
    try:
        program = tool("helm", "helm.sh/helm/v4", "helm")
    except MissingProgramError as error:
        pytest.skip(str(error))
    return subprocess.run(
        [program, *words, *(["--values", "-"] if values else [])],
        input=json.dumps(values) if values else None,
        capture_output=True,
        text=True,
        check=False,
    )


def rendered_text(values: Mapping[str, Any] | None = None) -> str:
    """Return what `helm template` says."""
    ran = helm("template", "penstock", str(CHART), "--namespace", NAMESPACE, values=values)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def rendered(values: Mapping[str, Any] | None = None) -> list[Json]:
    """Return the chart's objects."""
    return [one for one in yaml.safe_load_all(rendered_text(values)) if one]


def without_crd(objects: Sequence[Json]) -> list[Json]:
    return [one for one in objects if one["kind"] != "CustomResourceDefinition"]


def rights(objects: Sequence[Json], account: str) -> list[Right]:
    """Return everything that RBAC objects allow a ServiceAccount of the chart."""
    roles = {(one["kind"], one["metadata"]["name"]): one.get("rules") or [] for one in objects}
    found: set[Right] = set()
    for binding in objects:
        if binding["kind"] not in ("ClusterRoleBinding", "RoleBinding"):
            continue
        subjects = {(one["namespace"], one["name"]) for one in binding["subjects"]}
        if (NAMESPACE, account) in subjects:
            namespace = binding["metadata"].get("namespace", "")
            reference = binding["roleRef"]
            for rule in roles[reference["kind"], reference["name"]]:
                found.update(_of_rule(rule, namespace))
    return sorted(found)


def _of_rule(rule: Json, namespace: str) -> Iterator[Right]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames", [""]):
                    main, _, sub = resource.partition("/")
                    yield Right(namespace, verb, group, main, sub, name)
