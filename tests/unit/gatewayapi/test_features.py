"""What GatewayClass and XMesh say in status.supportedFeatures."""

from __future__ import annotations

import pytest

from penstock.gatewayapi.features import (
    CORE,
    MESH,
    MESH_FEATURES,
    SUPPORTED_FEATURES,
    mesh_features,
    supported_features,
)

MOST = 64
"""The CRD's limit."""


@pytest.mark.parametrize(
    ("features", "core"),
    [(SUPPORTED_FEATURES, CORE), (MESH_FEATURES, ("Mesh", "HTTPRoute", "GRPCRoute"))],
)
def test_features_are_in_alphabetical_order_and_each_is_named_once(
    features: tuple[str, ...], core: tuple[str, ...]
) -> None:
    assert list(features) == sorted(set(features))
    assert set(core) <= set(features)
    assert len(features) <= MOST


def test_a_class_says_nothing_of_the_mesh() -> None:
    assert not set(MESH) & set(SUPPORTED_FEATURES)


def test_a_class_says_nothing_of_kinds_that_are_not_there() -> None:
    missing = ("TLSRoute", "ListenerSet")
    found = supported_features(routability=True, of_cluster=True, missing=missing)
    lost = {"ListenerSet", "TLSRoute", "TLSRouteModeMixed", "TLSRouteModeTerminate"}
    assert set(supported_features(routability=True, of_cluster=True)) - set(found) == lost


def test_a_mesh_says_nothing_of_kinds_that_are_not_there() -> None:
    assert mesh_features() == MESH_FEATURES
    found = mesh_features(("HTTPRoute", "TLSRoute"))
    assert found == ("GRPCRoute", "Mesh", "MeshClusterIPMatching", "MeshConsumerRoute")
    assert set(MESH_FEATURES) - set(mesh_features(("GRPCRoute",))) == {"GRPCRoute"}
