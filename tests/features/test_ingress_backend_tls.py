"""TLS from Ingresses to backends: which resources there are, where, and what changes them."""

from __future__ import annotations

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Reach, Settings
from penstock.core.objects import Broken, Object
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.xds import types
from penstock.xds.resource import Resource
from support import objects
from support.ingress_objects import NGINX, backend, ingress, ingress_class, path, rule
from support.objects import added, endpoint_slice, made, service
from support.pki import Issued, issue, tls_secret_raw

BASE = "gw|shop/one/80"
CHECKED = {
    "backend-protocol": "HTTPS",
    "proxy-ssl-verify": "on",
    "proxy-ssl-secret": "shop/client",
}
AUTHORITY = issue("authority")


def annotated(name: str, host: str, given: dict[str, str], to: str = "one") -> Object | Broken:
    annotations = {NGINX + short: value for short, value in given.items()}
    return ingress(name, rule(host, path("/", to=backend(to))), annotations=annotations)


def client(authority: Issued) -> Object | Broken:
    raw = tls_secret_raw("client", "shop", [issue("client.test")])
    return made(raw | {"stringData": {"ca.crt": authority.pem}})


def compiled(*things: Object | Broken, settings: Settings | None = None) -> Compiler:
    compiler = Compiler(settings)
    for number, name in enumerate(("one", "two"), 1):
        compiler.apply(added([service(name, f"10.96.1.{number}")]))
        compiler.apply(added([endpoint_slice(name, [f"10.244.0.{number}"])]))
    compiler.apply(added([ingress_class(), *things]))
    assert compiler.failures == {}
    return compiler


def found(compiler: Compiler, type_url: str, node: str = "n1") -> dict[str, Resource]:
    return {one.name: one for one in compiler.resources(node) if one.type_url == type_url}


def met(compiler: Compiler) -> dict[str, Resource]:
    clusters = found(compiler, types.CLUSTER)
    return {name: one for name, one in clusters.items() if name.startswith(f"{BASE}|")}


def test_each_way_to_meet_a_service_is_a_cluster_and_endpoints_are_shared() -> None:
    https = {"backend-protocol": "HTTPS"}
    compiler = compiled(
        annotated("a", "a.test", https),
        annotated("b", "b.test", https),
        annotated("c", "c.test", {"backend-protocol": "GRPC"}),
        annotated("d", "d.test", {}),
    )
    ways = [cluster_pb2.Cluster.FromString(one.body) for one in met(compiler).values()]
    assert sorted(one.transport_socket.name for one in ways) == [
        "",
        "envoy.transport_sockets.tls",
    ]
    assert {one.eds_cluster_config.service_name for one in ways} == {BASE}
    assert BASE in found(compiler, types.CLUSTER)
    assert [name for name in found(compiler, types.ENDPOINTS) if name.startswith("gw|")] == [BASE]


def test_clusters_of_others_stay_as_they_are() -> None:
    compiler = compiled(annotated("d", "d.test", {}))
    before = found(compiler, types.CLUSTER)
    compiler.apply(added([annotated("a", "a.test", {"backend-protocol": "HTTPS"})]))
    after = found(compiler, types.CLUSTER)
    assert {name: after[name] for name in before} == before
    compiler.apply(added([annotated("a", "a.test", {})]))
    assert found(compiler, types.CLUSTER) == before


def test_new_authorities_change_the_cluster_and_no_route() -> None:
    compiler = compiled(annotated("a", "a.test", CHECKED), client(AUTHORITY))
    (before,), routes = met(compiler).values(), found(compiler, types.SCOPE)
    compiler.apply(added([client(issue("another"))]))
    (after,) = met(compiler).values()
    assert before.name == after.name
    assert before.version != after.version
    assert found(compiler, types.SCOPE) == routes


def test_the_key_that_is_shown_is_where_the_ingress_is_reached() -> None:
    settings = Settings(reach=Reach.CLUSTER, gateway_pool="198.51.100.0/24")
    nodes = [objects.node(name, f"192.0.2.{number}") for number, name in enumerate("ab", 1)]
    compiler = compiled(
        annotated("a", "a.test", CHECKED), client(AUTHORITY), *nodes, settings=settings
    )
    reached = [node for node in "ab" if found(compiler, types.LISTENER, node)]
    holding = [node for node in "ab" if "tls|shop/client" in found(compiler, types.SECRET, node)]
    assert reached == holding
    compiler.apply(added([annotated("a", "a.test", {"backend-protocol": "HTTPS"})]))
    assert not any(found(compiler, types.SECRET, node) for node in "ab")


def test_weights_of_a_canary_lead_to_the_same_way_of_meeting() -> None:
    canary = {"canary": "true", "canary-weight": "30"}
    compiler = compiled(
        annotated("a", "a.test", {"backend-protocol": "HTTPS"}),
        annotated("canary", "a.test", canary, to="two"),
    )
    (runtime,) = found(compiler, types.RUNTIME).values()
    (own,) = met(compiler)
    assert own.encode() in runtime.body
    assert own.replace("shop/one", "shop/two").encode() in runtime.body
