"""Write the CustomResourceDefinition of CiliumNetworkPolicy from the structs that decode it.

    python policies/crdgen.py            write policies/crds/
    python policies/crdgen.py --check    fail if what is there is not what would be written

The schema says names and types. What a policy means is checked by the controller, which tells it in
the policy's condition Valid; an API server could not say where a field belongs. Unknown fields are
kept: without a misplaced `rules` a policy would allow more than its author meant, so the controller
must see it.
Source: Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions", structural schemas.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec
import yaml

from penstock.core.plan import (
    ChoiceShape,
    Leaf,
    ListShape,
    MapShape,
    Shape,
    StructShape,
    plan_of,
)
from penstock.policy.resources import CiliumNetworkPolicy

OUT = Path(__file__).parent / "crds" / "cilium.io_ciliumnetworkpolicies.yaml"
_HEADER = "# Written by policies/crdgen.py from the structs in penstock.policy.resources.\n"
_SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
}
_INT_OR_STRING = {"x-kubernetes-int-or-string": True}


class UnknownTypeError(Exception):
    """A field has a type that this script cannot express."""


def schema_of(shape: Shape) -> dict[str, Any]:
    """Return the schema of a shape.

    Raises:
        UnknownTypeError: there is no schema for it.
    """
    match shape:
        case StructShape(type=struct):
            return _struct(struct)
        case ListShape(item=inner):
            return {"type": "array", "items": schema_of(inner)}
        case MapShape(value=inner):
            return {"type": "object", "additionalProperties": schema_of(inner)}
        case ChoiceShape(options=options) if {_leaf(one) for one in options} == {int, str}:
            return dict(_INT_OR_STRING)
        case Leaf(type=annotation) if annotation in _SCALARS:
            return dict(_SCALARS[annotation])
        case _:
            raise UnknownTypeError(f"no schema for {shape}")


def _leaf(shape: Shape) -> Any:
    return shape.type if isinstance(shape, Leaf) else shape


def _struct(struct: type[msgspec.Struct]) -> dict[str, Any]:
    fields = plan_of(struct).fields
    required = [name for name, field in fields.items() if field.required]
    schema: dict[str, Any] = {
        "type": "object",
        "description": (inspect.getdoc(struct) or "").split("\n", 1)[0],
        "properties": {name: schema_of(_present(field.shape)) for name, field in fields.items()},
        "x-kubernetes-preserve-unknown-fields": True,
    }
    return schema | ({"required": required} if required else {})


def _present(shape: Shape) -> Shape:
    """Return *shape* without None, which stands for an absent field."""
    if isinstance(shape, Leaf):
        options = [one for one in get_args(shape.type) if one is not type(None)]
        if len(options) == 1 and options[0] in _SCALARS:
            return Leaf(options[0])
    return shape


def _conditions() -> dict[str, Any]:
    texts = ("type", "status", "reason", "message")
    properties: dict[str, Any] = {name: {"type": "string"} for name in texts}
    properties["lastTransitionTime"] = {"type": "string", "format": "date-time"}
    properties["observedGeneration"] = {"type": "integer", "format": "int64"}
    return {
        "type": "array",
        "items": {"type": "object", "properties": properties, "required": ["type", "status"]},
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }


def definition() -> dict[str, Any]:
    """Return the CustomResourceDefinition."""
    kind = CiliumNetworkPolicy
    group, version = kind.api_versions[0].split("/")
    fields = plan_of(kind).fields
    rules = {name: schema_of(fields[name].shape) for name in ("spec", "specs")}
    schema = {
        "type": "object",
        "description": (inspect.getdoc(kind) or "").split("\n", 1)[0],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            **rules,
            "status": {"type": "object", "properties": {"conditions": _conditions()}},
        },
        "required": ["metadata"],
    }
    valid = '.status.conditions[?(@.type=="Valid")].status'
    columns = [
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        {"name": "Valid", "type": "string", "jsonPath": valid},
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"ciliumnetworkpolicies.{group}"},
        "spec": {
            "group": group,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": "ciliumnetworkpolicies",
                "singular": "ciliumnetworkpolicy",
                "shortNames": ["cnp", "ciliumnp"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def text() -> str:
    """Return the file."""

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # the base's signature
            return True

    return _HEADER + yaml.dump(definition(), Dumper=Plain, sort_keys=False, width=100)


def main() -> int:
    """Write the file, or compare it."""
    if "--check" not in sys.argv[1:]:
        OUT.write_text(text())
        return 0
    if OUT.exists() and OUT.read_text() == text():
        return 0
    print(f"{OUT} is out of step with its structs: python policies/crdgen.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
