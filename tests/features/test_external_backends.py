"""What an XBackend is told of itself, in the words of the CRD that is there."""

from __future__ import annotations

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.statuses import status_of
from penstock.core.objects import Broken, Object
from support import objects


def _crd(version: str) -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": "xbackends.gateway.networking.x-k8s.io",
                "annotations": {"gateway.networking.k8s.io/bundle-version": version},
            },
            "spec": {"group": "gateway.networking.k8s.io"},
        }
    )


OUTSIDE = objects.made(
    {
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
        "kind": "XBackend",
        "metadata": {"name": "outside", "namespace": "shop"},
        "spec": {
            "type": "ExternalHostname",
            "externalHostname": {"hostname": "a.test"},
            "port": {"number": 80},
        },
    }
)


@pytest.mark.parametrize(
    ("version", "member", "ref"),
    [("v1.6.3", "parents", "parentRef"), ("v1.7.0", "ancestors", "ancestorRef")],
)
def test_a_status_has_the_members_of_its_release(version: str, member: str, ref: str) -> None:
    compiler = Compiler()
    route = objects.http_route("r", parent={"name": "front"}, backends=[("outside", 1)])
    beside = [objects.gateway_class(), objects.gateway("front"), route, _crd(version)]
    compiler.apply(objects.added([*beside, OUTSIDE]))
    status = status_of(compiler.db, OUTSIDE, lambda _: None)
    assert status is not None
    ((found,),) = [status[member]]
    assert found[ref]["name"] == "front"
    said = [(one["type"], one["status"]) for one in found["conditions"]]
    assert said == [("Accepted", "True"), ("ResolvedRefs", "True")]


def test_who_nobody_sends_to_is_told_nothing() -> None:
    compiler = Compiler()
    compiler.apply(objects.added([objects.gateway_class(), objects.gateway("front"), OUTSIDE]))
    assert status_of(compiler.db, OUTSIDE, lambda _: None) is None
    assert not [one for one in compiler.resources("n1") if one.name.startswith("host|")]
