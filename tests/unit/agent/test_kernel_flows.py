from __future__ import annotations

from ipaddress import ip_address

from penstock.agent.datapath import NodeDatapath
from penstock.agent.flows import FlowVerdict
from penstock.agent.kernel_flows import flow_of_event
from penstock.bpf.abi import EventKind, Reason
from penstock.bpf.model import BpfEvent
from penstock.ir.policy import Direction
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, make_resource
from penstock.xds.snapshot import Delta
from support.fake_kernel import FakeKernel


def workload(uid: str, identity: int, address: str) -> Resource:
    body = node_pb2.Workload(uid=uid, namespace="shop", name=uid, identity=identity)
    body.addresses.append(address)
    return make_resource(types.WORKLOAD, uid, body.SerializeToString())


def closed(identity: int, name: str) -> node_pb2.Policy:
    body = node_pb2.Policy(identity=identity)
    body.default_egress, body.default_ingress = node_pb2.VERDICT_ALLOW, node_pb2.VERDICT_DENY
    body.ingress_enforced_by.add(kind="CiliumNetworkPolicy", namespace="shop", name=name)
    return body


def node(policy: node_pb2.Policy) -> NodeDatapath:
    service = node_pb2.Service(namespace="shop", name="s", addresses=["10.96.0.1"], port=80)
    service.protocol = 6
    service.backends.add(address="10.0.0.2", port=8080, weight=1)
    datapath = NodeDatapath(FakeKernel())
    datapath.apply(
        Delta(
            (
                workload("front", 100, "10.0.0.1"),
                workload("orders", 200, "10.0.0.2"),
                make_resource(types.POLICY, str(policy.identity), policy.SerializeToString()),
                make_resource(types.SERVICE, "shop/s/80/tcp", service.SerializeToString()),
            )
        )
    )
    return datapath


def event(
    reason: Reason,
    kind: EventKind = EventKind.INBOUND_DROPPED,
    *,
    direction: Direction = Direction.INGRESS,
    requested: tuple[str, int] = ("10.0.0.2", 8080),
) -> BpfEvent:
    return BpfEvent(
        kind=kind,
        reason=reason,
        direction=direction,
        protocol=6,
        source=ip_address("10.0.0.1"),
        destination=ip_address("10.0.0.2"),
        requested=ip_address(requested[0]),
        source_port=40000,
        destination_port=8080,
        requested_port=requested[1],
        source_identity=100,
        destination_identity=200,
        netns_cookie=1,
        timestamp_ns=2_000_000_000,
        pid=1,
        comm="curl",
    )


def test_a_default_denial_names_the_policies_that_enforce_the_direction() -> None:
    flow = flow_of_event(event(Reason.DEFAULT_DENY), "n", node(closed(200, "orders")), 10.0)
    assert flow.verdict is FlowVerdict.DENIED
    assert flow.policies == ("CiliumNetworkPolicy shop/orders",)
    assert (flow.source.pod, flow.destination.pod, flow.destination.port) == (
        "front", "orders", 8080,
    )  # fmt: skip
    assert flow.time == 12.0


def test_a_deny_rule_is_named() -> None:
    policy = closed(200, "orders")
    entry = policy.entries.add(peer=100, port=8080, protocol=6, verdict=node_pb2.VERDICT_DENY)
    entry.origins.add(
        kind="CiliumNetworkPolicy", namespace="shop", name="orders", path="spec.ingressDeny[0]"
    )
    flow = flow_of_event(event(Reason.DENY_ENTRY), "n", node(policy), 0.0)
    assert flow.policies == ("CiliumNetworkPolicy shop/orders spec.ingressDeny[0]",)


def test_a_service_without_an_allowed_backend_names_what_denies_them() -> None:
    refused = event(
        Reason.BACKENDS_DENIED,
        EventKind.CONNECT_DENIED,
        direction=Direction.EGRESS,
        requested=("10.96.0.1", 80),
    )
    flow = flow_of_event(refused, "n", node(closed(200, "orders")), 0.0)
    assert flow.destination.service == "shop/s"
    assert flow.policies == ("CiliumNetworkPolicy shop/orders",)


def test_a_missing_backend_is_an_error_and_nobody_s_denial() -> None:
    flow = flow_of_event(event(Reason.NO_BACKEND), "n", node(closed(200, "orders")), 0.0)
    assert flow.verdict is FlowVerdict.ERROR
    assert flow.policies == ()


def test_a_connection_that_a_route_led_somewhere_is_forwarded() -> None:
    led = event(
        Reason.NONE,
        EventKind.CONNECT_ROUTED,
        direction=Direction.EGRESS,
        requested=("10.96.0.1", 80),
    )
    flow = flow_of_event(led, "n", node(closed(200, "orders")), 0.0)
    assert (flow.verdict, flow.protocol) == (FlowVerdict.FORWARDED, "tcp")
    assert (flow.destination.service, flow.destination.pod) == ("shop/s", "orders")


def test_a_share_that_leads_nowhere_is_an_error() -> None:
    lost = event(Reason.NOWHERE, EventKind.CONNECT_DENIED, direction=Direction.EGRESS)
    flow = flow_of_event(lost, "n", node(closed(200, "orders")), 0.0)
    assert flow.verdict is FlowVerdict.ERROR


def test_every_reason_has_a_text() -> None:
    datapath = node(closed(200, "orders"))
    for reason in Reason:
        assert flow_of_event(event(reason), "n", datapath, 0.0).reason or reason is Reason.NONE
