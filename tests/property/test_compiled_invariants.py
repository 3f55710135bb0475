"""What holds for every set of objects: nothing that is made of them opens anything by accident."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.compile import Compiler
from penstock.compiler.gateway_ports import GatewayPort
from penstock.core.objects import Broken, Object
from penstock.envoy import cluster as clusters
from penstock.envoy import scope as scopes
from penstock.envoy import session
from penstock.envoy.cluster import APP_CLUSTER, Role
from penstock.envoy.copies import COPIES
from penstock.envoy.guards import PLACES
from penstock.envoy.listener import HOST_FILTER, RBAC_FILTER
from penstock.envoy.route import INVALID_CLUSTER
from penstock.ir.policy import TCP
from penstock.ir.route import ServicePort
from penstock.meta.marks import GATEWAY, POLICED, POLICED_GATEWAY, UNREAD
from penstock.meta.names import NamespacedName
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.rbac.v3 import rbac_pb2
from penstock.pb.envoy.config.route.v3 import route_components_pb2, scoped_route_pb2
from penstock.pb.envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from penstock.pb.envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as options_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName
from penstock.xds.snapshot import Snapshot
from support import objects, populated
from support.populated_backends import NODES

SO_MARK = 36

SESSION_FILTERS = {session.SCRIPT_FILTER, session.STATE_FILTER}


def _compiled(given_: list[Object | Broken]) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added(given_))
    assert compiler.failures == {}
    return compiler


def _all(compiler: Compiler) -> list[tuple[str, Resource]]:
    return [(node, one) for node in NODES for one in compiler.resources(node)]


def _inside(message: Message) -> Iterator[Message]:
    """Yield *message* and every message in it, those in an Any decoded."""
    if isinstance(message, Any):
        name = message.type_url.rpartition("/")[2]
        descriptor = descriptor_pool.Default().FindMessageTypeByName(name)
        yield from _inside(message_factory.GetMessageClass(descriptor).FromString(message.value))
        return
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            found = [value[key] for key in value]
        else:
            found = list(value) if field.is_repeated else [value]
        for one in found:
            if isinstance(one, Message):
                yield from _inside(one)


def _message(resource: Resource) -> Message:
    return next(_inside(Any(type_url=resource.type_url, value=resource.body)))


BEFORE_ROUTING = "penstock.listener."
"""How the names of places begin at which is asked before there is a route."""


@given(populated.clusters())
@settings(max_examples=30, deadline=None)
def test_the_mark_policed_stands_exactly_where_both_filters_stand(
    given_: list[Object | Broken],
) -> None:
    for _, resource in _all(_compiled(given_)):
        if resource.type_url != types.CLUSTER:
            continue
        made = cluster_pb2.Cluster.FromString(resource.body)
        role, _, target = made.name.partition("|")
        marks = [
            option.int_value & 0xFFFFFFFF
            for option in made.upstream_bind_config.socket_options
            if option.name == SO_MARK
        ]
        codec = "envoy.filters.http.upstream_codec"
        both = [f"eg|{target}", f"in|{target}", codec]
        outside = ["penstock.refused", codec]
        expected = {
            "mesh": both,
            "gw": both,
            "host": outside,
            "mesh-host": [f"eg|{target.replace('/', '/~')}", *outside],
            "traces": outside if target.endswith("/~outside") else [],
        }
        unread = [UNREAD] if target else []
        privileged = {"mesh": [POLICED], "gw": [POLICED_GATEWAY], "sni": unread}
        without = [] if role in {APP_CLUSTER, COPIES, "mesh-host"} else [GATEWAY]
        assert marks == privileged.get(role, without)
        assert _upstream_filters(made) == expected.get(role, [])


def _upstream_filters(cluster: cluster_pb2.Cluster) -> list[str]:
    if cluster.name.partition("|")[0] in {"stream", "sni"}:  # nothing is looked at, nor judged here
        assert not cluster.typed_extension_protocol_options
        return []
    (packed,) = cluster.typed_extension_protocol_options.values()
    options = options_pb2.HttpProtocolOptions.FromString(packed.value)
    for one in options.http_filters:
        if one.HasField("config_discovery"):
            # A default would be in force until the rules come.
            assert not one.config_discovery.HasField("default_config")
            assert not one.config_discovery.apply_default_config_without_warming
        assert not one.is_optional
        assert not one.disabled
    return [one.name for one in options.http_filters]


@given(populated.clusters())
@settings(max_examples=30, deadline=None)
def test_no_filter_of_policy_is_ever_open(given_: list[Object | Broken]) -> None:
    for _, resource in _all(_compiled(given_)):
        for message in _inside(_message(resource)):
            if isinstance(message, http_rbac_pb2.RBACPerRoute):
                assert message.HasField("rbac")
            elif isinstance(message, http_rbac_pb2.RBAC):
                assert message.HasField("rules")
                assert not message.HasField("shadow_rules")
                assert message.rules.action == rbac_pb2.RBAC.ALLOW
            elif isinstance(message, hcm_pb2.HttpFilter):
                assert not message.disabled
                assert not message.is_optional
            elif isinstance(message, rbac_pb2.Policy):
                assert message.permissions
                assert message.principals
            if isinstance(message, route_components_pb2.FilterConfig):
                assert message.disabled
                assert resource.name.startswith("gw|")


@given(populated.clusters())
@settings(max_examples=30, deadline=None)
def test_only_the_filter_of_hosts_and_misdirected_requests_are_switched_off(
    given_: list[Object | Broken],
) -> None:
    for _, resource in _all(_compiled(given_)):
        if resource.type_url != types.SCOPE:
            continue
        made = scoped_route_pb2.ScopedRouteConfiguration.FromString(resource.body)
        names = set(made.route_configuration.typed_per_filter_config)
        role = resource.name.partition("|")[0]
        allowed = {"gw": {HOST_FILTER}, "eg": {RBAC_FILTER}, "in": {RBAC_FILTER}, "sni": set[str]()}
        assert names <= allowed[role]
        assert role != "in" or names == {RBAC_FILTER}
        for host in made.route_configuration.virtual_hosts:
            asked = set(host.typed_per_filter_config)
            assert asked == {f"{BEFORE_ROUTING}{index}" for index in range(len(asked))}
            assert not asked or role == "gw"
            for one in host.routes:
                weighted = one.route.weighted_clusters.clusters
                given_here = [
                    one.typed_per_filter_config,
                    *(w.typed_per_filter_config for w in weighted),
                ]
                others = asked if one.name == "misdirected" else SESSION_FILTERS
                if any(
                    each.header.value == "%RESPONSE_FLAGS%" for each in one.response_headers_to_add
                ):
                    others = others | {PLACES[-1]}  # answers beyond a budget of retries
                assert {name for each in given_here for name in each} <= others
            # What is without a route would not be asked about.
            assert not asked or host.routes[-1].name == "not-found"


@given(populated.clusters())
@settings(max_examples=30, deadline=None)
def test_every_cluster_of_a_route_is_needed_and_there(given_: list[Object | Broken]) -> None:
    compiler = _compiled(given_)
    for node in NODES:
        snapshot = Snapshot(compiler.resources(node))
        assert snapshot.problems() == ()
        for resource in snapshot.of_type(types.SCOPE).values():
            for name in set(_routed(resource)) - {INVALID_CLUSTER}:
                assert ResourceName(types.CLUSTER, name) in resource.needs
                role, _, target = name.partition("|")
                judged_by = {
                    "mesh": [f"eg|{target}", f"in|{target}"],
                    "gw": [f"eg|{target}", f"in|{target}"],
                    "mesh-host": [f"eg|{target.replace('/', '/~')}"],
                }
                for other in judged_by.get(role, []):
                    assert ResourceName(types.EXTENSION, other) in resource.needs
                assert role in {APP_CLUSTER, "host", "sni", *judged_by}


def _routed(resource: Resource) -> Iterator[str]:
    made = scoped_route_pb2.ScopedRouteConfiguration.FromString(resource.body)
    for host in made.route_configuration.virtual_hosts:
        for one in host.routes:
            action = one.route
            if action.cluster:
                yield action.cluster
            yield from (each.name for each in action.weighted_clusters.clusters)
            yield from (to for copy in action.request_mirror_policies for _, to in [_copied(copy)])


def _copied(copy: route_components_pb2.RouteAction.RequestMirrorPolicy) -> tuple[str, str]:
    """Return who sends a copy and to which cluster, after nothing that a client wrote is left."""
    written: dict[str, str] = {}
    removed: set[str] = set()
    for mutation in copy.request_headers_mutations:
        header = mutation.append.header
        if mutation.remove:
            removed.add(mutation.remove)
        else:
            assert header.key in removed
            written[header.key] = header.value
    return written["x-penstock-copy-identity"], written["x-penstock-copy-cluster"]


@given(populated.clusters())
@settings(max_examples=30, deadline=None)
def test_a_copy_is_sent_by_whom_the_listener_says_and_gets_to_its_listener(
    given_: list[Object | Broken],
) -> None:
    compiler = _compiled(given_)
    for node in NODES:
        resources = compiler.resources(node)
        held = {one.key for one in resources}
        for one in resources:
            if one.type_url != types.SCOPE:
                continue
            made = scoped_route_pb2.ScopedRouteConfiguration.FromString(one.body)
            for host in made.route_configuration.virtual_hosts:
                for copy in (c for r in host.routes for c in r.route.request_mirror_policies):
                    assert _copied(copy)[0] == "%FILTER_STATE(penstock.identity:PLAIN)%"
                    assert ResourceName(types.CLUSTER, copy.cluster) in one.needs
                    assert ResourceName(types.LISTENER, COPIES) in held


@given(populated.clusters())
@settings(max_examples=30, deadline=None)
def test_a_service_leads_to_envoy_exactly_where_its_addresses_have_scopes(
    given_: list[Object | Broken],
) -> None:
    compiler = _compiled(given_)
    held = {one.key for one in compiler.resources("")}
    found = [
        (one, service)
        for one in compiler.resources("")
        if one.type_url == types.SERVICE
        for service in (node_pb2.Service.FromString(one.body),)
        if service.protocol == TCP
    ]
    # What is for the clients of one namespace is at the same addresses.
    led = {(one.namespace, one.name, one.port) for _, one in found if one.proxy}
    for one, service in found:
        wanted = {
            ResourceName(types.SCOPE, scopes.egress_key(scopes.destination(address, service.port)))
            for address in service.addresses
        }
        is_led = (service.namespace, service.name, service.port) in led
        assert wanted & held == (wanted if is_led else set())
        by_server_name = {
            ResourceName(types.SCOPE, f"sni|{scopes.destination(address, service.port)}")
            for address in service.addresses
        }
        asked = wanted | (by_server_name & held)
        assert one.needs == (asked if service.proxy else frozenset())


@given(populated.clusters())
@settings(max_examples=30, deadline=None)
def test_a_verdict_that_sends_to_envoy_finds_a_scope_there(given_: list[Object | Broken]) -> None:
    compiler = _compiled(given_)
    for node in NODES:
        snapshot = Snapshot(compiler.resources(node))
        scope_names = set(snapshot.of_type(types.SCOPE))
        for resource in snapshot.of_type(types.WORKLOAD).values():
            pod = node_pb2.Workload.FromString(resource.body)
            policy = node_pb2.Policy.FromString(
                snapshot.of_type(types.POLICY)[str(pod.identity)].body
            )
            ports = {
                entry.port
                for entry in policy.entries
                if entry.verdict == node_pb2.VERDICT_PROXY
                and entry.direction == node_pb2.DIRECTION_INGRESS
            }
            wanted = {
                scopes.inbound_key(scopes.destination(address, port))
                for address in pod.addresses
                for port in ports
            }
            assert wanted <= scope_names or pod.node != node


# Names

labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,6}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=3).map(".".join)
targets = st.builds(
    ServicePort, st.builds(NamespacedName, labels, names), st.sampled_from([1, 8, 80, 8080, 808])
)
ports = st.builds(GatewayPort, st.builds(NamespacedName, labels, names), st.integers(1, 65535))
addresses = st.ip_addresses().map(str)


@given(st.lists(st.tuples(st.sampled_from(Role), targets), unique=True, max_size=30))
def test_names_of_clusters_and_rules_are_never_shared(
    given_: list[tuple[Role, ServicePort]],
) -> None:
    assert len({clusters.cluster_name(*one) for one in given_}) == len(given_)
    once = {target for _, target in given_}
    rules = [
        name
        for target in once
        for name in (clusters.egress_rules_name(target), clusters.ingress_rules_name(target))
    ]
    assert len(set(rules)) == 2 * len(once)


keys = st.one_of(
    st.tuples(st.just("eg"), st.just(""), addresses, st.integers(1, 65535)),
    st.tuples(st.just("in"), st.just(""), addresses, st.integers(1, 65535)),
    st.tuples(st.just("gw"), ports.map(str), st.just("*") | names, st.just(0)),
)


@given(st.lists(keys, unique=True, max_size=30))
def test_keys_of_scopes_are_never_shared(given_: list[tuple[str, str, str, int]]) -> None:
    def made(kind: str, first: str, second: str, port: int) -> str:
        if kind == "gw":
            return scopes.gateway_key(first, second)
        at = scopes.destination(second, port)
        return scopes.inbound_key(at) if kind == "in" else scopes.egress_key(at)

    assert len({made(*one) for one in given_}) == len(given_)
