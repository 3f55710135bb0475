from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.agent.datapath import LocalPod, NodeDatapath
from penstock.agent.lattice import Match
from penstock.ir.policy import Direction, Verdict
from penstock.meta.names import ObjectRef, Origin
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, make_resource
from penstock.xds.snapshot import Delta
from support.fake_kernel import FakeKernel

P1 = LocalPod(uid="p1", cookie=1, addresses=("10.0.0.1",))
P2 = LocalPod(uid="p2", cookie=2, addresses=("10.0.0.2",))


def workload(uid: str, identity: int, *addresses: str, namespace: str = "") -> Resource:
    body = node_pb2.Workload(uid=uid, name=uid, identity=identity, addresses=addresses)
    body.namespace = namespace
    return make_resource(types.WORKLOAD, uid, body.SerializeToString(deterministic=True))


def policy(
    identity: int, *entries: tuple[int, int, int, int], ingress: int = 2, egress: int = 2
) -> Resource:
    """Entries are (direction, peer, port, verdict)."""
    body = node_pb2.Policy(identity=identity)
    body.default_ingress = cast("node_pb2.Verdict", ingress)
    body.default_egress = cast("node_pb2.Verdict", egress)
    for direction, peer, port, verdict in entries:
        body.entries.add(direction=direction, peer=peer, port=port, protocol=6, verdict=verdict)
    body.ingress_enforced_by.add(kind="CiliumNetworkPolicy", namespace="shop", name="orders")
    return make_resource(types.POLICY, str(identity), body.SerializeToString(deterministic=True))


def service(name: str, backend: str, *, proxy: bool = False, clients: str = "") -> Resource:
    short = name.split("/")[1] if "/" in name else name
    body = node_pb2.Service(namespace="shop", name=short, addresses=["10.96.0.1"], port=80)
    body.protocol, body.proxy, body.clients = 6, proxy, clients
    body.backends.add(address=backend, port=8080, weight=1)
    return make_resource(types.SERVICE, name, body.SerializeToString(deterministic=True))


def gone(resource: Resource) -> Delta:
    return Delta((), (resource.key,))


def test_a_pod_is_closed_until_its_workload_and_its_policy_are_known() -> None:
    kernel = FakeKernel()
    datapath = NodeDatapath(kernel)
    datapath.add_pod(P1)
    assert datapath.missing("p1") == "the controller has not sent its Workload"
    datapath.apply(Delta((workload("p1", 100, "10.0.0.1"),)))
    assert "Policy of its identity 100" in datapath.missing("p1")
    assert kernel.pods == {}
    datapath.apply(Delta((policy(100),)))
    assert datapath.missing("p1") == ""
    assert kernel.pods == {"p1": 100}


def test_a_pod_is_opened_when_all_that_judges_it_is_there_and_services_go_last() -> None:
    kernel = FakeKernel()
    datapath = NodeDatapath(kernel)
    datapath.add_pod(P1)
    datapath.apply(Delta((service("s", "10.0.0.2"), workload("p1", 100, "10.0.0.1"), policy(100))))
    assert kernel.writes == [
        "set_identity 10.0.0.1 100", "set_policy 100", "set_pod p1 100", "set_service s",
    ]  # fmt: skip


def test_what_did_not_change_is_not_written_again() -> None:
    kernel = FakeKernel()
    datapath = NodeDatapath(kernel)
    datapath.add_pod(P1)
    everything = Delta((policy(100), workload("p1", 100, "10.0.0.1"), service("s", "10.0.0.2")))
    datapath.apply(everything)
    kernel.writes.clear()
    datapath.apply(everything)
    assert kernel.writes == []


def test_a_pod_whose_policy_is_removed_is_closed() -> None:
    kernel = FakeKernel()
    datapath = NodeDatapath(kernel)
    datapath.add_pod(P1)
    datapath.apply(Delta((policy(100), workload("p1", 100, "10.0.0.1"))))
    datapath.apply(gone(policy(100)))
    assert kernel.pods == {}
    assert kernel.policies == {}


def test_an_address_that_another_workload_took_over_is_never_nobody_s() -> None:
    kernel = FakeKernel()
    datapath = NodeDatapath(kernel)
    datapath.apply(Delta((workload("old", 100, "10.0.0.9"),)))
    datapath.apply(Delta((workload("new", 200, "10.0.0.9"),)))
    datapath.apply(gone(workload("old", 100, "10.0.0.9")))
    assert kernel.writes == ["set_identity 10.0.0.9 100", "set_identity 10.0.0.9 200"]
    assert datapath.identity_of("10.0.0.9") == 200


def test_the_earlier_owner_has_an_address_again_when_the_later_leaves() -> None:
    datapath = NodeDatapath(FakeKernel())
    datapath.apply(Delta((workload("old", 100, "10.0.0.9"), workload("new", 200, "10.0.0.9"))))
    datapath.apply(gone(workload("new", 200)))
    assert datapath.identity_of("10.0.0.9") == 100


def test_ipv4_mapped_addresses_are_ipv4_addresses() -> None:
    datapath = NodeDatapath(FakeKernel())
    datapath.apply(Delta((workload("a", 100, "10.0.0.9", "FD44:0::9"),)))
    assert datapath.identity_of("::ffff:10.0.0.9") == 100
    assert datapath.identity_of("fd44::9") == 100


def test_open_connections_of_pods_with_a_changed_policy_are_looked_at() -> None:
    datapath = NodeDatapath(FakeKernel())
    datapath.add_pod(P1)
    datapath.add_pod(P2)
    datapath.apply(
        Delta((policy(1), policy(2), workload("p1", 1, "10.0.0.1"), workload("p2", 2, "10.0.0.2")))
    )
    affected = datapath.apply(Delta((policy(1, (0, 0, 80, 1)),)))
    assert affected.pods == {"p1"}
    assert affected.addresses == frozenset()


def test_open_connections_with_an_address_of_another_identity_are_looked_at() -> None:
    datapath = NodeDatapath(FakeKernel())
    datapath.apply(Delta((workload("a", 1, "10.0.0.1"),)))
    affected = datapath.apply(Delta((workload("a", 2, "10.0.0.1"),)))
    assert affected.addresses == {"10.0.0.1"}


def test_a_service_that_leads_to_envoy_no_more_has_open_connections_looked_at() -> None:
    datapath = NodeDatapath(FakeKernel())
    name = "shop/s/80/tcp"
    assert not datapath.apply(Delta((service(name, "10.0.0.2", proxy=True),))).unproxied
    assert not datapath.apply(Delta((service(name, "10.0.0.3", proxy=True),))).unproxied
    assert datapath.apply(Delta((service(name, "10.0.0.3"),))).unproxied
    assert not datapath.apply(gone(service(name, "10.0.0.3"))).unproxied
    datapath.apply(Delta((service(name, "10.0.0.3", proxy=True),)))
    assert datapath.apply(gone(service(name, "10.0.0.3"))).unproxied


def test_what_is_led_to_envoy_is_what_the_kernel_leads_there() -> None:
    datapath = NodeDatapath(FakeKernel())
    datapath.add_pod(P1)
    datapath.apply(
        Delta(
            (
                policy(100, (1, 200, 8080, 3), egress=1),
                workload("p1", 100, "10.0.0.1"),
                workload("p2", 200, "10.0.0.2"),
            )
        )
    )
    assert datapath.redirects(100, "10.0.0.2", 8080)
    assert not datapath.redirects(100, "10.0.0.2", 9090)
    assert not datapath.redirects(100, "10.96.0.1", 80)
    datapath.apply(Delta((service("shop/s/80/tcp", "10.0.0.2"),)))
    assert datapath.redirects(100, "10.96.0.1", 80)
    datapath.apply(Delta((service("shop/s/80/tcp", "10.0.0.9"),)))
    assert not datapath.redirects(100, "10.96.0.1", 80)
    datapath.apply(Delta((service("shop/s/80/tcp", "10.0.0.9", proxy=True),)))
    assert datapath.redirects(100, "10.96.0.1", 80)


def test_the_kernel_knows_of_which_namespace_a_pod_is() -> None:
    kernel = FakeKernel()
    datapath = NodeDatapath(kernel)
    datapath.add_pod(P1)
    datapath.apply(Delta((policy(100), workload("p1", 100, "10.0.0.1", namespace="team"))))
    assert kernel.namespaces == {"p1": "team"}
    assert datapath.namespace_of("p1") == "team"
    assert datapath.namespace_of("p2") == ""


def test_a_service_is_known_by_its_address_while_any_of_its_protocols_is_left() -> None:
    datapath = NodeDatapath(FakeKernel())
    tcp, udp = service("shop/s/80/tcp", "10.0.0.2"), service("shop/s/80/udp", "10.0.0.2")
    datapath.apply(Delta((tcp, udp)))
    datapath.apply(gone(udp))
    assert datapath.service_at("10.96.0.1", 80) == "shop/s"
    datapath.apply(gone(tcp))
    assert datapath.service_at("10.96.0.1", 80) == ""


def test_an_address_goes_over_to_another_service_before_the_first_is_gone() -> None:
    datapath = NodeDatapath(FakeKernel())
    old, new = service("shop/old/80/tcp", "10.0.0.2"), service("shop/new/80/tcp", "10.0.0.2")
    datapath.apply(Delta((old,)))
    datapath.apply(Delta((new,)))
    assert datapath.service_at("10.96.0.1", 80) == "shop/new"
    datapath.apply(gone(old))
    assert datapath.service_at("10.96.0.1", 80) == "shop/new"


def test_clients_of_one_namespace_are_led_where_its_service_leads() -> None:
    datapath = NodeDatapath(FakeKernel())
    of_team = service("shop/s/80/tcp/team", "10.0.0.3", clients="team")
    datapath.apply(Delta((service("shop/s/80/tcp", "10.0.0.2", proxy=True), of_team)))
    assert datapath.redirects(100, "10.96.0.1", 80, namespace="shop")
    assert not datapath.redirects(100, "10.96.0.1", 80, namespace="team")
    datapath.apply(gone(of_team))
    assert datapath.redirects(100, "10.96.0.1", 80, namespace="team")
    assert datapath.service_at("10.96.0.1", 80) == "shop/s"


def test_clients_that_are_led_to_envoy_no_more_have_open_connections_looked_at() -> None:
    datapath = NodeDatapath(FakeKernel())
    datapath.apply(Delta((service("shop/s/80/tcp", "10.0.0.2", proxy=True),)))
    of_team = service("shop/s/80/tcp/team", "10.0.0.3", clients="team")
    assert datapath.apply(Delta((of_team,))).unproxied
    assert not datapath.apply(gone(of_team)).unproxied


def test_the_origins_of_a_verdict_are_those_of_the_entries_that_gave_it() -> None:
    body = node_pb2.Policy(identity=1)
    entry = body.entries.add(direction=0, peer=7, port=80, protocol=6, verdict=2)
    entry.origins.add(kind="CiliumNetworkPolicy", namespace="a", name="b", path="spec.x")
    datapath = NodeDatapath(FakeKernel())
    datapath.apply(Delta((make_resource(types.POLICY, "1", body.SerializeToString()),)))
    decided = datapath.policies[1].decided(Match(Direction.INGRESS, 7, 80, 6))
    assert decided == (Origin(ObjectRef("CiliumNetworkPolicy", "a", "b"), "spec.x"),)


UIDS, IDENTITIES, ADDRESSES = ["p1", "p2", "q"], [1, 2, 3], ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def any_workload(uid: str, identity: int, addresses: set[str]) -> Resource:
    return workload(uid, identity, *sorted(addresses))


def any_policy(
    identity: int, rules: list[tuple[int, int, int, int]], ingress: int, egress: int
) -> Resource:
    return policy(identity, *rules, ingress=ingress, egress=egress)


workloads = st.builds(
    any_workload,
    st.sampled_from(UIDS),
    st.sampled_from(IDENTITIES),
    st.sets(st.sampled_from(ADDRESSES), max_size=2),
)
entries = st.tuples(
    st.sampled_from([0, 1]), st.sampled_from([0, 2, *IDENTITIES]), st.sampled_from([0, 80]),
    st.sampled_from([1, 2, 3]),
)  # fmt: skip
policies = st.builds(
    any_policy,
    st.sampled_from(IDENTITIES),
    st.lists(entries, max_size=3),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2]),
)
names = st.one_of(
    st.builds(ResourceName, st.just(types.WORKLOAD), st.sampled_from(UIDS)),
    st.builds(ResourceName, st.just(types.POLICY), st.sampled_from(["1", "2", "3"])),
)


@st.composite
def deltas(draw: st.DrawFn) -> Delta:
    upserts = {r.key: r for r in draw(st.lists(st.one_of(workloads, policies), max_size=5))}
    removals = {key for key in draw(st.lists(names, max_size=3)) if key not in upserts}
    return Delta(tuple(upserts.values()), tuple(sorted(removals)))


def connections() -> Iterator[tuple[str, Direction, str, int]]:
    for pod in (P1, P2):
        for direction in Direction:
            for address in [*ADDRESSES, "192.0.2.1"]:
                for port in (80, 443):
                    yield pod.uid, direction, address, port


@settings(max_examples=200, deadline=None)
@given(st.lists(deltas(), min_size=1, max_size=5))
def test_no_moment_allows_what_neither_the_state_before_nor_the_state_after_allows(
    batches: list[Delta],
) -> None:
    kernel = FakeKernel()
    datapath = NodeDatapath(kernel)
    datapath.add_pod(P1)
    datapath.add_pod(P2)

    def allowed() -> set[tuple[str, Direction, str, int]]:
        return {c for c in connections() if kernel.verdict(*c) is Verdict.ALLOW}

    for batch in batches:
        moments: list[set[tuple[str, Direction, str, int]]] = []
        kernel.after_write = lambda seen=moments: seen.append(allowed())  # type: ignore[misc]  # mypy cannot infer the default
        before = allowed()
        datapath.apply(batch)
        after = allowed()
        for moment in moments:
            assert moment <= before | after


@settings(max_examples=100, deadline=None)
@given(st.lists(deltas(), min_size=1, max_size=5))
def test_the_kernel_is_in_the_end_as_if_all_had_come_at_once(batches: list[Delta]) -> None:
    stepwise, at_once = FakeKernel(), FakeKernel()
    gradual, whole = NodeDatapath(stepwise), NodeDatapath(at_once)
    gradual.add_pod(P1)
    resources: dict[ResourceName, Resource] = {}
    for batch in batches:
        gradual.apply(batch)
        for key in batch.removals:
            resources.pop(key, None)
        for resource in batch.upserts:
            resources.pop(resource.key, None)
            resources[resource.key] = resource
    whole.apply(Delta(tuple(resources.values())))
    whole.add_pod(P1)
    assert stepwise.pods == at_once.pods
    assert stepwise.policies == at_once.policies
    assert stepwise.identities == at_once.identities


def peer(name: str, identity: int, *addresses: str) -> Resource:
    body = node_pb2.Peer(identity=identity, addresses=addresses)
    return make_resource(types.PEER, name, body.SerializeToString(deterministic=True))


def test_peers_have_identities_and_no_policy() -> None:
    kernel = FakeKernel()
    datapath = NodeDatapath(kernel)
    datapath.apply(Delta((peer("node/n2", 6, "172.31.0.12"),)))
    assert kernel.identities == {"172.31.0.12": 6}
    datapath.apply(Delta((peer("node/n2", 6, "172.31.0.13"),)))
    assert kernel.identities == {"172.31.0.13": 6}
    datapath.apply(gone(peer("node/n2", 6)))
    assert kernel.identities == {}


def test_the_nodes_own_addresses_stay_its_own_as_a_peer() -> None:
    kernel = FakeKernel()
    datapath = NodeDatapath(kernel)
    datapath.set_host_addresses(["172.31.0.11"])
    datapath.apply(Delta((peer("node/n1", 6, "172.31.0.11"),)))
    assert kernel.identities == {"172.31.0.11": 1}


def test_a_local_pod_is_known_by_the_address_it_was_registered_with() -> None:
    """The Pod object gets its address only after the pod was registered."""
    kernel = FakeKernel()
    datapath = NodeDatapath(kernel)
    datapath.apply(Delta((policy(100), workload("p1", 100))))
    assert kernel.identities == {}
    datapath.add_pod(P1)
    assert kernel.identities == {"10.0.0.1": 100}
    found = datapath.workload_at("10.0.0.1")
    assert found is not None
    assert found.uid == "p1"
    datapath.remove_pod("p1")
    assert kernel.identities == {}


def test_a_pod_here_has_its_address_whatever_an_outdated_workload_says() -> None:
    kernel = FakeKernel()
    datapath = NodeDatapath(kernel)
    datapath.apply(Delta((policy(100), workload("p1", 100))))
    datapath.add_pod(P1)
    datapath.apply(Delta((workload("old", 200, "10.0.0.1"),)))
    assert kernel.identities == {"10.0.0.1": 100}


def test_of_two_pods_here_with_one_address_the_later_one_has_it() -> None:
    kernel = FakeKernel()
    datapath = NodeDatapath(kernel)
    datapath.apply(Delta((workload("p1", 100), workload("p3", 300))))
    datapath.add_pod(P1)
    datapath.add_pod(LocalPod(uid="p3", cookie=3, addresses=("10.0.0.1",)))
    assert kernel.identities == {"10.0.0.1": 300}
    datapath.remove_pod("p3")
    assert kernel.identities == {"10.0.0.1": 100}


def test_a_pod_that_is_not_policed_needs_neither_workload_nor_policy() -> None:
    kernel = FakeKernel()
    datapath = NodeDatapath(kernel)
    datapath.add_pod(LocalPod(uid="p1", cookie=1, addresses=(), policed=False))
    assert kernel.pods == {"p1": 0}
    assert datapath.missing("p1") == ""
    assert datapath.enforced_identity("p1") is None


def test_addresses_that_the_node_answers_for_are_known_by_name() -> None:
    datapath = NodeDatapath(FakeKernel())
    body = node_pb2.Address(address="172.31.0.130")
    sent = make_resource(types.ADDRESS, "172.31.0.130", body.SerializeToString())
    datapath.apply(Delta((sent,)))
    assert {one.address for one in datapath.addresses.values()} == {"172.31.0.130"}
    datapath.apply(gone(sent))
    assert datapath.addresses == {}
