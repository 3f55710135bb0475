"""The CustomResourceDefinition is in step with the structs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

POLICIES = Path(__file__).parents[3] / "policies"


def test_file_is_what_the_structs_say() -> None:
    command = [sys.executable, str(POLICIES / "crdgen.py"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("spec.ingress[].fromCIDRSet[].except[]", {"type": "string"}),
        ("spec.ingress[].toPorts[].ports[].endPort", {"type": "integer"}),
        ("specs[].egress[].icmps[].fields[].type", {"x-kubernetes-int-or-string": True}),
        ("spec.enableDefaultDeny.ingress", {"type": "boolean"}),
    ],
)
def test_fields_have_their_types(path: str, schema: dict[str, object]) -> None:
    (file,) = (POLICIES / "crds").glob("*.yaml")
    version = yaml.safe_load(file.read_text())["spec"]["versions"][0]
    found = version["schema"]["openAPIV3Schema"]
    for step in path.split("."):
        name, *items = step.split("[]")
        found = found["properties"][name]
        for _ in items:
            found = found["items"]
    assert found == schema


def test_nothing_is_kept_that_the_schema_does_not_know() -> None:
    (file,) = (POLICIES / "crds").glob("*.yaml")
    assert "preserve-unknown-fields" not in file.read_text()
