"""The CustomResourceDefinition is in step with the structs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def test_every_object_below_spec_keeps_fields_that_it_does_not_know() -> None:
    (file,) = (POLICIES / "crds").glob("*.yaml")
    version = yaml.safe_load(file.read_text())["spec"]["versions"][0]
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    for name in ("spec", "specs"):
        objects = list(objects_in(properties[name]))
        assert len(objects) > 10
        assert all(one["x-kubernetes-preserve-unknown-fields"] for one in objects)
    assert "x-kubernetes-preserve-unknown-fields" not in str(properties["status"])


def objects_in(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schemas of structs; what is a map keeps its keys anyway."""
    if "properties" in schema:
        yield schema
    below = [
        *schema.get("properties", {}).values(),
        schema.get("items"),
        schema.get("additionalProperties"),
    ]
    for one in below:
        if isinstance(one, dict):
            yield from objects_in(one)
