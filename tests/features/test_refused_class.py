"""A GatewayClass that is not accepted: none of its Gateways is served until it is."""

from __future__ import annotations

from penstock.compiler.compile import Compiler
from penstock.compiler.problems import problems_of
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.versions import BUNDLE_VERSION, CLASSES_CRD
from penstock.xds import types
from support import objects
from support.ingress_objects import ingress, ingress_class, path, rule

LISTENER = "gateway/shop/gw/80"
ENTRY = "gateway/~ingress/penstock~/80"


def class_(**spec: object) -> Object | Broken:
    return objects.gateway_api(
        "GatewayClass", "penstock", {"controllerName": objects.CONTROLLER, **spec}, ""
    )


def listeners(compiler: Compiler) -> set[str]:
    found = compiler.resources("n1")
    return {one.name for one in found if one.type_url == types.LISTENER}


def test_gateways_are_closed_while_their_class_is_not_accepted() -> None:
    web = objects.gateway("gw", [{"name": "http", "port": 80, "protocol": "HTTP"}])
    compiler = Compiler()
    compiler.apply(objects.added([class_(), web]))
    assert LISTENER in listeners(compiler)
    parameters = {"group": "", "kind": "ConfigMap", "name": "x", "namespace": "shop"}
    compiler.apply(objects.added([class_(parametersRef=parameters)]))
    assert LISTENER not in listeners(compiler)
    (told,) = (one for one in problems_of(compiler.db, web) if one.path == "spec.gatewayClassName")
    assert "penstock is not accepted" in told.message
    compiler.apply(objects.added([class_()]))
    assert LISTENER in listeners(compiler)


def test_ingresses_do_not_depend_on_classes_of_gateways() -> None:
    old = objects.made(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": "gateways.gateway.networking.k8s.io",
                "annotations": {"gateway.networking.k8s.io/bundle-version": "v1.0.0"},
            },
        }
    )
    compiler = Compiler()
    compiler.apply(objects.added([ingress_class(), ingress("web", rule("a.test", path())), old]))
    assert ENTRY in listeners(compiler)


def _crd(version: str) -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": CLASSES_CRD, "annotations": {BUNDLE_VERSION: version}},
            "spec": {"group": "gateway.networking.k8s.io"},
        }
    )


def test_features_are_texts_where_a_server_refuses_a_status_with_anything_else() -> None:
    ours = class_()
    compiler = Compiler()
    compiler.apply(objects.added([ours, _crd("v1.1.0")]))
    compiler.statuses.follow(ours.ref)
    compiler.statuses.take()
    status = status_of(compiler.db, ours, lambda _: None)
    assert status is not None
    assert "Gateway" in status["supportedFeatures"]
    compiler.apply([Event(EventType.MODIFIED, _crd("v1.2.0"))])
    assert compiler.statuses.take() == (ours.ref,)
    status = status_of(compiler.db, ours, lambda _: None)
    assert status is not None
    assert {"name": "Gateway"} in status["supportedFeatures"]
