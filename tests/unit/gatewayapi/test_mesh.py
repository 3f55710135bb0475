"""XMeshes: whose they are, and their statuses."""

from __future__ import annotations

from typing import Any

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Settings
from penstock.compiler.statuses import status_of
from penstock.core.decode import decode
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.features import MESH_FEATURES
from penstock.gatewayapi.mesh import XMesh, is_our_mesh, mesh_conditions
from support.gateway_objects import Json, raw


def mesh(controller: str = "penstock.dev/gateway-controller", **spec: Any) -> Object | Broken:
    body: Json = {**raw("XMesh", "m", generation=2), "spec": {"controllerName": controller, **spec}}
    return decode(XMesh, body | {"apiVersion": XMesh.api_versions[0]})


def ours(**spec: Any) -> XMesh:
    found = mesh(**spec)
    assert isinstance(found, XMesh)
    return found


def test_only_meshes_with_our_controller_name_are_ours() -> None:
    assert is_our_mesh(ours())
    theirs = mesh("other.test/controller")
    assert isinstance(theirs, XMesh)
    assert not is_our_mesh(theirs)
    assert status_of(Compiler(Settings()).db, theirs, lambda _: None) is None


def test_mesh_without_parameters_is_accepted() -> None:
    (accepted,) = mesh_conditions(ours(description="the mesh"))
    assert (accepted.status, accepted.reason) == (True, "Accepted")
    assert accepted.observed_generation == 2


def test_mesh_with_parameters_is_not_accepted() -> None:
    reference = {"group": "a.test", "kind": "Parameters", "name": "p"}
    (accepted,) = mesh_conditions(ours(parametersRef=reference))
    assert (accepted.status, accepted.reason) == (False, "InvalidParameters")
    assert "Parameters" in accepted.message


def test_controller_name_without_domain_is_no_mesh() -> None:
    assert isinstance(mesh("penstock"), Broken)


def test_status_lists_what_is_served_on_services() -> None:
    status = status_of(Compiler(Settings()).db, ours(), lambda _: None)
    assert status is not None
    assert [one["name"] for one in status["supportedFeatures"]] == list(MESH_FEATURES)
    (accepted,) = status["conditions"]
    assert (accepted["type"], accepted["status"]) == ("Accepted", "True")
