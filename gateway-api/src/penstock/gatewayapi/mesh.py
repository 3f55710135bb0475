"""The kind XMesh: what Penstock serves of routes on Services is in its status.

Source: Gateway API v1.7 CRD, experimental channel; GEP-3949. Routes on Services are served whether
there is such an object or not.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from penstock.core.objects import ApiStruct, Object
from penstock.gatewayapi.conditions import fails, holds
from penstock.gatewayapi.fields import DomainPrefixedPath, ParametersReference
from penstock.gatewayapi.resources import CONTROLLER_NAME
from penstock.meta.conditions import Condition


class MeshSpec(ApiStruct, frozen=True, kw_only=True):
    """Who implements the mesh."""

    controller_name: DomainPrefixedPath
    description: Annotated[str, Meta(max_length=64)] | None = None
    parameters_ref: ParametersReference | None = None


class XMesh(Object, frozen=True, kw_only=True):
    """A service mesh."""

    api_versions: ClassVar[tuple[str, ...]] = ("gateway.networking.x-k8s.io/v1alpha1",)
    kind: ClassVar[str] = "XMesh"
    namespaced: ClassVar[bool] = False

    spec: MeshSpec


def is_our_mesh(mesh: XMesh) -> bool:
    """Return whether *mesh* names the controller that statuses of routes on Services name, too."""
    return mesh.spec.controller_name == CONTROLLER_NAME


def mesh_conditions(mesh: XMesh) -> tuple[Condition, ...]:
    """Return the conditions of an XMesh that is ours."""
    reference, generation = mesh.spec.parameters_ref, mesh.metadata.generation
    if reference is None:
        return (holds("Accepted", "Accepted", generation),)
    text = f"parametersRef: there are no parameters of kind {reference.kind}; remove the reference"
    return (fails("Accepted", "InvalidParameters", generation, text),)
