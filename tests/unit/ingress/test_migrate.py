"""Ingresses as YAML of the Gateway API: what is written compiles to equal routes."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.backend_tls_policy import BackendTLSPolicy
from penstock.gatewayapi.resources import Gateway, HTTPRoute
from penstock.gatewayapi.stream_resources import TLSRoute
from penstock.ingress.derived import derived
from penstock.ingress.migrate import Migrated, migrate, written
from penstock.ingress.resources import Ingress, IngressClass
from penstock.meta.names import NamespacedName
from penstock.pb.envoy.config.route.v3 import scoped_route_pb2
from penstock.xds import types
from support.ingress_objects import NGINX, backend, ingress, ingress_class, path, rule
from support.objects import added, endpoint_slice, gateway_class, made, service
from support.pki import issue, tls_secret_raw

SERVICES = [
    one
    for number, name in enumerate(("one", "two"), 1)
    for one in (
        service(name, f"10.96.1.{number}"),
        endpoint_slice(name, [f"10.244.0.{number}"]),
    )
]
CANARY = {"canary": "true", "canary-by-header": "x-canary", "canary-weight": "20"}


def annotated(**given: str) -> dict[str, str]:
    return {NGINX + name.replace("_", "-"): value for name, value in given.items()}


def migrated(*ingresses: Object | Broken) -> Migrated:
    class_ = ingress_class()
    assert isinstance(class_, IngressClass)
    ours = [one for one in ingresses if isinstance(one, Ingress)]
    compiler = Compiler()
    compiler.apply(added(SERVICES))
    return migrate(derived(ours, {"penstock": class_}, compiler.db.services.get).values())


def routes(*objects: Object | Broken) -> dict[str, list[Any]]:
    """Return the routes by port and host, without the names of what they come from."""
    compiler = Compiler()
    compiler.apply(added([*SERVICES, *objects]))
    assert compiler.failures == {}
    found: dict[str, list[Any]] = {}
    for one in compiler.resources("n1"):
        if one.type_url == types.SCOPE and one.name.startswith("gw|"):
            scope = scoped_route_pb2.ScopedRouteConfiguration.FromString(one.body)
            for host in scope.route_configuration.virtual_hosts:
                place = one.name.split("/", 2)[2] + host.name
                found[place] = [_nameless(route) for route in host.routes]
    return found


def _nameless(route: Any) -> bytes:
    route.name = ""
    if route.route.weighted_clusters.runtime_key_prefix:
        route.route.weighted_clusters.runtime_key_prefix = "weights"
    for header in route.match.headers:
        if header.name == "x-penstock-scope":
            header.ClearField("string_match")
    return bytes(route.SerializeToString(deterministic=True))


def test_what_is_written_compiles_to_equal_routes() -> None:
    captured = path("/shop(/|$)(.*)", "ImplementationSpecific", backend("two", "http"))
    ingresses = [
        ingress(
            "site",
            rule("a.test", path("/e", "Exact"), path("/p"), path("/lost", to=backend("none"))),
            rule("b.test", path("/")),
            defaultBackend=backend("two"),
            tls=[{"hosts": ["a.test"], "secretName": "cert"}],
        ),
        ingress(
            "canary", rule("b.test", path("/", to=backend("two"))), annotations=annotated(**CANARY)
        ),
        ingress("rewritten", rule("c.test", captured), annotations=annotated(rewrite_target="/$2")),
        ingress("cors", rule("d.test", path()), annotations=annotated(enable_cors="true")),
        ingress("closed", rule("e.test", path()), annotations=annotated(auth_url="http://x")),
    ]
    secret = made(tls_secret_raw("cert", "shop", [issue("a.test")]))
    again = [made(written(one)) for one in migrated(*ingresses).objects]
    assert not [one for one in again if isinstance(one, Broken)]
    as_ingresses = routes(ingress_class(), secret, *ingresses)
    assert len(as_ingresses) >= 6
    assert routes(gateway_class(), secret, *again) == as_ingresses


def test_what_has_no_equal_is_listed() -> None:
    one = ingress("x", rule("*.a.test", path()), annotations=annotated(proxy_read_timeout="9"))
    texts = [problem.message for _, problem in migrated(one).lost]
    assert len(texts) == 2
    assert "one label" in texts[0]
    assert "no equal" in texts[1]


@pytest.mark.parametrize(
    "given",
    [
        {"auth_url": "http://two.shop.svc/check"},
        {"whitelist_source_range": "10.0.0.0/8"},
        {"denylist_source_range": "10.0.0.0/8"},
    ],
)
def test_what_would_be_open_is_not_written(given: dict[str, str]) -> None:
    guarded = ingress("guarded", rule("a.test", path()), annotations=annotated(**given))
    found = migrated(guarded, ingress("plain", rule("b.test", path())))
    written_routes = [one for one in found.objects if isinstance(one, HTTPRoute)]
    assert [one.spec.hostnames for one in written_routes] == [("b.test",)]
    (lost,) = [problem for ref, problem in found.lost if ref == guarded.ref]
    assert "ExternalAuth" in lost.hint


def test_a_limit_of_bodies_is_listed_and_the_route_is_written() -> None:
    one = ingress("x", rule("a.test", path()), annotations=annotated(proxy_body_size="8m"))
    found = migrated(one)
    assert [problem.message for _, problem in found.lost] == ["proxy-body-size has no equal"]
    assert any(isinstance(each, HTTPRoute) for each in found.objects)


def test_limits_of_clients_are_listed_and_the_route_is_written() -> None:
    found = migrated(ingress("x", rule("a.test", path()), annotations=annotated(limit_rps="8")))
    (lost,) = (problem for _, problem in found.lost)
    assert lost.message == "limit-rps and limit-rpm have no equal"
    assert any(isinstance(each, HTTPRoute) for each in found.objects)


def test_tls_that_is_passed_on_is_written_as_a_tlsroute() -> None:
    one = ingress(
        "x",
        rule("a.test", path()),
        rule("b.test", path("/only")),
        annotations=annotated(ssl_passthrough="true"),
    )
    found = migrated(one)
    (made_,) = (each for each in found.objects if isinstance(each, TLSRoute))
    again = made(written(made_))
    assert isinstance(again, TLSRoute)
    assert again.spec.hostnames == ("a.test",)
    gateway = next(each for each in found.objects if isinstance(each, Gateway))
    modes = {each.hostname: each.tls.mode for each in gateway.spec.listeners if each.tls}
    assert modes == {"a.test": "Passthrough", "b.test": "Passthrough"}
    assert [problem.path for _, problem in found.lost] == ["spec.rules[1]"]


def test_tls_towards_backends_is_written_as_policies_that_refuse_until_somebody_is_believed() -> (
    None
):
    given = {
        "backend_protocol": "GRPCS",
        "proxy_ssl_secret": "shop/ca",
        "proxy_ssl_name": "in.test",
    }
    one = ingress("x", rule("a.test", path(), path("/b")), annotations=annotated(**given))
    found = migrated(one)
    (policy,) = (each for each in found.objects if isinstance(each, BackendTLSPolicy))
    again = made(written(policy))
    assert isinstance(again, BackendTLSPolicy)
    assert again.services == (NamespacedName("shop", "one"),)
    assert again.spec.validation.hostname == "in.test"
    assert [each.name for each in again.authorities] == ["x-authorities"]
    texts = [problem.message for _, problem in found.lost]
    assert ["x-authorities" in text for text in texts].count(True) == 1
    assert any("HTTP/2" in text for text in texts)
    assert any("Secret shop/ca" in text for text in texts)


def test_certificates_of_other_namespaces_come_with_a_grant() -> None:
    tls = [{"hosts": ["b.test"], "secretName": "cert"}]
    first = ingress("a", rule("a.test", path()))
    later = "2026-02-01T00:00:00Z"
    other = ingress("b", rule("b.test", path()), namespace="other", created=later, tls=tls)
    found = {one.kind: one for one in migrated(first, other).objects}
    assert found["ReferenceGrant"].metadata.namespace == "other"
    assert found["Gateway"].metadata.namespace == "shop"
