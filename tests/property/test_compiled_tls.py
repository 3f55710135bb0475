"""What holds for HTTPS listeners whatever objects there are: keys, server names, hosts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.envoy.scope import gateway_key
from penstock.envoy.tls import MISDIRECTED, via
from penstock.gatewayapi.hostname import ANY, covers, specificity
from penstock.gatewayapi.resources import Gateway
from penstock.meta.names import NamespacedName
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from penstock.pb.envoy.config.route.v3 import route_components_pb2, scoped_route_pb2
from penstock.pb.envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from penstock.xds import types
from penstock.xds.resource import Resource
from penstock.xds.snapshot import Snapshot
from support import objects, populated, populated_backends
from support.pki import tls_secret_raw
from support.populated import Things
from support.populated_backends import NODES

Chain = listener_components_pb2.FilterChain
IN_A_CLUSTER = (
    Settings(reach=Reach.CLUSTER, gateway_pool=populated.POOL),
    Settings(reach=Reach.CLUSTER, addressing=Addressing.NODES),
)
HOSTS = ("a.test", "b.test", "c.test", "x.a.test", "y.x.a.test", "test", "elsewhere")


def compiled(things: Things) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added(things))
    assert compiler.failures == {}
    return compiler


def bodies(compiler: Compiler, type_url: str) -> dict[str, bytes]:
    found = (one for node in NODES for one in compiler.resources(node))
    return {one.name: one.body for one in found if one.type_url == type_url}


def chains(compiler: Compiler) -> list[Chain]:
    body = bodies(compiler, types.LISTENER).get("gateway/shop/gw/443")
    return list(listener_pb2.Listener.FromString(body).filter_chains) if body else []


def secrets_of(chain: Chain) -> Iterator[str]:
    if chain.HasField("transport_socket"):
        config = chain.transport_socket.typed_config.value
        context = tls_pb2.DownstreamTlsContext.FromString(config).common_tls_context
        yield from (one.name for one in context.tls_certificate_sds_secret_configs)


def shown(compiler: Compiler) -> set[str]:
    """Return the certificates that are shown to endpoints."""
    return {one for node in NODES for one in shown_by(compiler.resources(node))}


def shown_by(resources: Iterable[Resource]) -> set[str]:
    """Return the certificates that the Clusters among *resources* show."""
    found: set[str] = set()
    for resource in resources:
        if resource.type_url != types.CLUSTER:
            continue
        made = cluster_pb2.Cluster.FromString(resource.body)
        sockets = [
            made.transport_socket,
            *(one.transport_socket for one in made.transport_socket_matches),
        ]
        for one in sockets:
            if one.typed_config.type_url.endswith(".UpstreamTlsContext"):
                context = tls_pb2.UpstreamTlsContext.FromString(one.typed_config.value)
                configs = context.common_tls_context.tls_certificate_sds_secret_configs
                found.update(each.name for each in configs)
    return found


@given(populated.clusters())
@settings(max_examples=60, deadline=None)
def test_a_node_has_the_keys_of_its_listeners_and_no_others(things: Things) -> None:
    compiler = compiled(things)
    served = {name for chain in chains(compiler) for name in secrets_of(chain)}
    assert set(bodies(compiler, types.SECRET)) == served | shown(compiler)


@given(populated.clusters(), st.sampled_from(IN_A_CLUSTER))
@settings(max_examples=100, deadline=None)
def test_no_node_of_a_cluster_waits_for_a_key_that_another_has(
    things: Things, chosen: Settings
) -> None:
    compiler = Compiler(chosen)
    nodes = (*NODES, "lost")
    there = [objects.node(name, f"192.0.2.{100 + n}") for n, name in enumerate(NODES)]
    lost = objects.node("lost", "192.0.2.200", ready=False)
    compiler.apply(objects.added([*things, *there, lost]))
    assert compiler.failures == {}
    for node in nodes:
        resources = compiler.resources(node)
        ended = {
            name
            for one in resources
            if one.type_url == types.LISTENER
            for chain in listener_pb2.Listener.FromString(one.body).filter_chains
            for name in secrets_of(chain)
        }
        keys = {one.name for one in resources if one.type_url == types.SECRET}
        assert ended | shown_by(resources) <= keys
        if chosen.addressing is Addressing.POOL:
            assert Snapshot(resources).problems() == ()


@given(populated.clusters())
@settings(max_examples=60, deadline=None)
def test_a_key_of_another_namespace_takes_a_grant(things: Things) -> None:
    compiler = compiled(things)
    grants = compiler.db.grants.snapshot().values()
    for name in bodies(compiler, types.SECRET):
        secret = NamespacedName(*name.removeprefix("tls|").split("/"))
        assert secret.namespace == "shop" or any(
            source.kind == "Gateway" and target.name in (None, secret.name)
            for grant in grants
            for source in grant.spec.from_
            for target in grant.spec.to
        )


@given(populated.clusters())
@settings(max_examples=60, deadline=None)
def test_every_listener_has_a_chain_that_serves_or_refuses(things: Things) -> None:
    compiler = compiled(things)
    ended_here = [chain for chain in chains(compiler) if "|" not in chain.name]
    found = {chain.name: tuple(chain.filter_chain_match.server_names) for chain in ended_here}
    assert found == {
        name: () if hostname == ANY else (hostname,) for name, hostname in _listeners(compiler)
    }
    for chain in ended_here:
        has_certificate = any(secrets_of(chain))
        names = [one.name for one in chain.filters]
        assert ("envoy.filters.network.http_connection_manager" in names) is has_certificate


@given(populated.clusters(), st.sampled_from(HOSTS), st.sampled_from(HOSTS))
@settings(max_examples=120, deadline=None)
def test_a_request_is_misdirected_where_another_listener_owns_its_host(
    things: Things, server_name: str, host: str
) -> None:
    compiler = compiled(things)
    listeners = _listeners(compiler)
    taken_by, owner = _narrowest(listeners, server_name), _narrowest(listeners, host)
    if taken_by is None:
        return
    misdirected = _first_answer(compiler, host, taken_by) == MISDIRECTED
    assert misdirected is (owner not in (None, taken_by))


def _listeners(compiler: Compiler) -> list[tuple[str, str]]:
    """Return (name, hostname or ANY) of the HTTPS listeners, if they are ours and open anywhere."""
    gateways = compiler.db.gateways.snapshot().values()
    classes = compiler.db.gateway_classes.snapshot().values()
    ours = any(one.spec.controller_name == objects.CONTROLLER for one in classes)
    return [
        (one.name, one.hostname or ANY)
        for gateway in gateways
        if ours and _opens(gateway)
        for one in gateway.spec.listeners
        if one.protocol == "HTTPS"
    ]


def _opens(gateway: Gateway) -> bool:
    """Return whether there is an address for it: those of the cluster alone are none of ours."""
    asked = gateway.spec.addresses
    return not asked or any(not one.routability for one in asked)


def _narrowest(listeners: list[tuple[str, str]], host: str) -> str | None:
    covering = [one for one in listeners if covers(one[1], host)]
    return max(covering, key=lambda one: specificity(one[1]), default=(None, ""))[0]


def _first_answer(compiler: Compiler, host: str, listener: str) -> int:
    """Return what the first route that may match says at once, 0 if nothing, as Envoy looks."""
    scopes = bodies(compiler, types.SCOPE)
    exact = scopes.get(gateway_key("shop/gw/443", host))
    body = exact or scopes.get(gateway_key("shop/gw/443", ANY))
    if body is None:
        return 0
    hosts = scoped_route_pb2.ScopedRouteConfiguration.FromString(body).route_configuration
    by_domain = {one.domains[0]: one for one in hosts.virtual_hosts}
    matching = [domain for domain in by_domain if covers(domain, host)]
    if not matching:
        return 0
    chosen = by_domain[max(matching, key=specificity)]
    return _status(chosen.routes[0], listener) if chosen.routes else 0


def _status(route: route_components_pb2.Route, listener: str) -> int:
    (one,) = route.match.headers if route.name == "misdirected" else (None,)
    if one is None or via(listener).endswith(one.string_match.suffix):
        return 0
    return route.direct_response.status


@pytest.mark.parametrize("controller", [objects.CONTROLLER, "x.test/other"])
def test_only_gateways_of_ours_show_a_certificate(controller: str) -> None:
    """A Cluster waits for its key, so where the key does not go there is no such Cluster."""
    one = populated_backends.CERTIFICATES[0]
    tls = {
        "mode": "ClientAndServer",
        "validation": {"hostname": "a.test", "caCertificateRefs": [populated_backends.AUTHORITY]},
        "clientCertificateRef": {"name": "s0"},
    }
    authority = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"ca.crt": one.pem}}
    compiler = compiled(
        [
            objects.gateway_class(controller=controller),
            objects.gateway("gw"),
            objects.xbackend("picked", {"app": "front"}, tls=tls),
            objects.http_route("g1", parent={"name": "gw"}, backends=[("picked", 1)]),
            objects.made(authority | {"metadata": {"name": "ca", "namespace": "shop"}}),
            objects.made(tls_secret_raw("s0", "shop", [one], one.key_pem)),
        ]
    )
    expected = {"tls|shop/s0"} if controller == objects.CONTROLLER else set[str]()
    assert shown(compiler) == set(bodies(compiler, types.SECRET)) == expected
