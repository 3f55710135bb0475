from __future__ import annotations

import pytest
from google.protobuf.wrappers_pb2 import StringValue, UInt32Value

from penstock.agent.access_log import Connection, Entry, flow_of, flow_of_connection, redact
from penstock.agent.datapath import NodeDatapath
from penstock.agent.flows import Flow, FlowVerdict
from penstock.ir.policy import Direction
from penstock.pb.envoy.config.core.v3 import base_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, make_resource
from penstock.xds.snapshot import Delta
from support.fake_kernel import FakeKernel

EG_RULE = "CiliumNetworkPolicy shop/frontend spec.egress[0]"
IN_RULE = "CiliumNetworkPolicy shop/orders spec.ingress[0]"


def workload(uid: str, identity: int, address: str) -> Resource:
    body = node_pb2.Workload(uid=uid, namespace="shop", name=uid, identity=identity)
    body.addresses.append(address)
    return make_resource(types.WORKLOAD, uid, body.SerializeToString())


def policy(identity: int, name: str) -> Resource:
    body = node_pb2.Policy(identity=identity)
    body.ingress_enforced_by.add(kind="CiliumNetworkPolicy", namespace="shop", name=name + "-in")
    body.egress_enforced_by.add(kind="CiliumNetworkPolicy", namespace="shop", name=name + "-eg")
    return make_resource(types.POLICY, str(identity), body.SerializeToString())


def service(name: str, address: str) -> Resource:
    body = node_pb2.Service(namespace="shop", name=name, addresses=[address], port=80, protocol=6)
    return make_resource(types.SERVICE, f"shop/{name}/80/tcp", body.SerializeToString())


def node() -> NodeDatapath:
    datapath = NodeDatapath(FakeKernel())
    datapath.apply(
        Delta(
            (
                workload("front", 100, "10.0.0.1"),
                workload("orders", 200, "10.0.0.2"),
                policy(100, "front"),
                policy(200, "orders"),
                service("orders", "10.96.0.1"),
            )
        )
    )
    return datapath


def entry(listener: str, *, status: int = 200, details: str = "via_upstream") -> Entry:
    """A request of front to orders by the Service."""
    made = Entry(protocol_version=Entry.HTTP11)
    common = made.common_properties
    common.custom_tags["listener"] = listener
    common.start_time.seconds, common.duration.nanos = 1_700_000_000, 5_000_000
    common.downstream_local_address.socket_address.address = "10.96.0.1"
    common.downstream_local_address.socket_address.port_value = 80
    common.downstream_remote_address.socket_address.address = "127.0.0.1"
    made.request.request_method = base_pb2.GET
    made.request.path = "/items?id=7"
    made.request.authority = "orders"
    made.response.response_code.CopyFrom(UInt32Value(value=status))
    made.response.response_code_details = details
    return made


def egress(**metadata: str) -> Entry:
    made = entry("front/egress")
    made.common_properties.upstream_cluster = "mesh|shop/orders/80"
    made.common_properties.upstream_remote_address.socket_address.address = "10.0.0.2"
    made.common_properties.upstream_remote_address.socket_address.port_value = 8080
    say(made, "envoy.filters.http.upstream_rbac", **metadata)
    return made


def say(made: Entry, namespace: str, **metadata: str) -> None:
    made.common_properties.metadata.filter_metadata[namespace].update(metadata)


def allowed(prefix: str, rule: str) -> dict[str, str]:
    return {
        prefix + "enforced_engine_result": "allowed",
        prefix + "enforced_effective_policy_id": rule,
    }


def denied(made: Entry, **metadata: str) -> Entry:
    made.response.response_code.value = 403
    made.response.response_code_details = "rbac_access_denied_matched_policy[none]"
    say(made, "envoy.filters.http.upstream_rbac", **metadata)
    return made


def flow(made: Entry) -> Flow:
    return flow_of(made, "node-1", node())


def test_the_egress_listener_says_which_pod_asked() -> None:
    made = flow(egress())
    assert made.direction is Direction.EGRESS
    assert (made.source.pod, made.source.identity, made.source.address) == (
        "front", 100, "10.0.0.1",
    )  # fmt: skip


def test_a_copy_is_a_request_of_the_pod_whose_request_was_copied() -> None:
    made = egress()
    common = made.common_properties
    for end in (common.downstream_local_address, common.downstream_remote_address):
        end.pipe.path = "copies.sock"
    copy = flow(made)
    assert (copy.source.pod, copy.source.address) == ("front", "10.0.0.1")
    assert (copy.destination.pod, copy.destination.service) == ("orders", "shop/orders")


def test_the_destination_is_the_endpoint_that_was_chosen_and_the_service() -> None:
    made = flow(egress())
    assert (made.destination.pod, made.destination.identity) == ("orders", 200)
    assert (made.destination.port, made.destination.service) == (8080, "shop/orders")


def test_a_request_without_an_endpoint_names_the_service() -> None:
    made = entry("front/egress", status=503, details="no_healthy_upstream")
    assert flow(made).destination.service == "shop/orders"
    assert flow(made).verdict is FlowVerdict.ERROR


def test_a_request_is_described_without_the_values_of_its_query() -> None:
    made = flow(egress())
    assert (made.method, made.host, made.path) == ("GET", "orders", "/items?id=…")
    assert (made.protocol, made.status, made.duration) == ("http/1.1", 200, 0.005)
    assert made.time == 1_700_000_000


def test_an_allowed_request_names_the_rules_of_both_sides() -> None:
    made = egress(**allowed("eg_", EG_RULE), **allowed("in_", IN_RULE))
    assert flow(made).policies == (EG_RULE, IN_RULE)


def test_a_denial_by_the_client_s_side_names_the_client_s_policies() -> None:
    made = denied(egress(), eg_enforced_engine_result="denied")
    assert flow(made).verdict is FlowVerdict.DENIED
    assert flow(made).policies == ("CiliumNetworkPolicy shop/front-eg",)
    assert flow(made).reason == "no rule allows the request"


def test_a_denial_by_the_server_s_side_names_the_server_s_policies() -> None:
    made = denied(egress(**allowed("eg_", EG_RULE)), in_enforced_engine_result="denied")
    assert flow(made).policies == ("CiliumNetworkPolicy shop/orders-in",)


def test_a_deny_rule_that_matched_is_named() -> None:
    made = denied(egress())
    made.response.response_code_details = f"rbac_access_denied_matched_policy[{IN_RULE}]"
    assert flow(made).policies == (IN_RULE,)


def test_a_403_of_the_application_is_no_denial() -> None:
    made = egress()
    made.response.response_code.value = 403
    assert flow(made).verdict is FlowVerdict.FORWARDED


def test_the_ingress_listener_says_which_pod_was_asked() -> None:
    made = entry("orders/ingress")
    made.common_properties.downstream_remote_address.socket_address.address = "10.0.0.1"
    made.common_properties.downstream_local_address.socket_address.address = "10.0.0.2"
    made.common_properties.downstream_local_address.socket_address.port_value = 8080
    say(made, "envoy.filters.http.rbac", **allowed("in_", IN_RULE))
    found = flow(made)
    assert found.direction is Direction.INGRESS
    assert (found.source.pod, found.destination.pod) == ("front", "orders")
    assert found.policies == (IN_RULE,)


def test_the_logged_identity_holds_for_a_pod_that_is_gone() -> None:
    made = entry("gone/egress")
    packed = made.common_properties.filter_state_objects["penstock.identity"]
    packed.Pack(StringValue(value="4711"))
    assert flow(made).source.identity == 4711


@pytest.mark.parametrize(
    ("path", "redacted"),
    [
        ("/", "/"),
        ("/a?b", "/a?b"),
        ("/a?b=1&c=2", "/a?b=…&c=…"),
        ("/a?b=x=y", "/a?b=…"),
        ("/a?=secret", "/a?=…"),
        ("/a=b?c=d", "/a=b?c=…"),
    ],
)
def test_values_of_a_query_are_redacted(path: str, redacted: str) -> None:
    assert redact(path) == redacted


def connection(chosen: str, port: int, **flags: bool) -> Connection:
    """A connection of front to a Gateway, and the endpoint that was chosen for it."""
    made = Connection()
    common = made.common_properties
    common.custom_tags["listener"] = "gateway/shop/front/443"
    common.custom_tags["server-name"] = "a.test"
    common.start_time.seconds, common.duration.seconds = 1_700_000_000, 3
    common.downstream_remote_address.socket_address.address = "10.0.0.1"
    common.downstream_local_address.socket_address.address = "10.96.0.9"
    common.downstream_local_address.socket_address.port_value = 443
    if chosen:
        common.upstream_remote_address.socket_address.address = chosen
        common.upstream_remote_address.socket_address.port_value = port
    for name, value in flags.items():
        setattr(common.response_flags, name, value)
    return made


def test_a_connection_that_was_passed_on_says_between_whom() -> None:
    ended = connection("10.0.0.2", 8443, upstream_remote_reset=True)
    made = flow_of_connection(ended, "node-1", node())
    assert (made.verdict, made.protocol, made.host) == (FlowVerdict.FORWARDED, "tcp", "a.test")
    assert (made.source.pod, made.destination.pod) == ("front", "orders")
    assert (made.destination.port, made.duration, made.reason) == (8443, 3.0, "")


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        (
            connection("127.0.0.1", 1, upstream_connection_failure=True),
            "upstream_connection_failure",
        ),
        (connection("", 0, no_healthy_upstream=True), "no_healthy_upstream"),
        (connection("", 0), ""),
    ],
)
def test_a_connection_that_nobody_took_is_told_with_the_address_that_was_asked_for(
    ended: Connection, reason: str
) -> None:
    made = flow_of_connection(ended, "node-1", node())
    assert (made.verdict, made.reason) == (FlowVerdict.ERROR, reason)
    assert (made.destination.address, made.destination.port) == ("10.96.0.9", 443)


def passed(*, status: int = 200, chosen: str = "10.0.0.2") -> Flow:
    """TLS of front for a server name, to the Service, that a TLSRoute led to orders."""
    made = entry("front/egress", status=status, details="route_not_found")
    made.request.request_method = base_pb2.CONNECT
    made.request.path, made.request.authority = "", "a.test:443"
    made.request.request_headers["x-penstock-sni-asked"] = "10.96.0.1:80"
    common = made.common_properties
    common.ClearField("downstream_local_address")
    common.ClearField("downstream_remote_address")
    if chosen:
        common.upstream_cluster = "sni|shop/orders/80"
        common.upstream_remote_address.socket_address.address = chosen
        common.upstream_remote_address.socket_address.port_value = 8443
    return flow(made)


def test_tls_that_was_passed_on_is_a_connection_of_the_pod() -> None:
    made = passed()
    assert (made.verdict, made.protocol, made.host) == (FlowVerdict.FORWARDED, "tcp", "a.test")
    assert (made.method, made.path, made.status, made.reason) == ("", "", 0, "")
    assert (made.source.pod, made.source.address) == ("front", "10.0.0.1")
    assert (made.destination.pod, made.destination.service) == ("orders", "shop/orders")


def test_a_server_name_that_no_route_has_is_an_error_at_the_service() -> None:
    made = passed(status=404, chosen="")
    assert made.verdict is FlowVerdict.ERROR
    assert made.reason == "no TLSRoute of the Service has the server name"
    assert (made.destination.address, made.destination.port) == ("10.96.0.1", 80)
    assert made.destination.service == "shop/orders"
