from __future__ import annotations

import ipaddress
import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.decode import Decoded, decode
from penstock.core.deployments import Deployment
from penstock.core.kinds import BUILTIN_KINDS, Namespace
from penstock.core.objects import Broken
from penstock.lab.addressing import PodAddresses, assign
from penstock.lab.cluster import PodState, desired, observe, simulate, template_hash
from penstock.lab.store import encode
from penstock.meta.names import NamespacedName
from support.lab import config_map, container, deployment, made, pod, secret, service

SHOP: list[Decoded] = [
    deployment("orders", replicas=3),
    deployment("web", container(ports=[{"name": "http", "containerPort": 8080}]), replicas=2),
    pod("tool", labels={"app": "tool"}),
    service("orders", {"port": 80}),
    service("web", {"port": 80, "targetPort": "http"}),
    config_map("settings", colour="blue"),
    secret("key", code="t"),
]


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_outcome_does_not_depend_on_the_order_of_objects(shuffler: random.Random) -> None:
    shuffled = list(SHOP)
    shuffler.shuffle(shuffled)
    assert simulate(shuffled) == simulate(SHOP)


def test_deployment_becomes_pods_with_hash_and_ordinal() -> None:
    orders = deployment("orders", replicas=2)
    names = [plan.key.name for plan in desired([orders]).plans]
    assert names == [f"orders-{template_hash(orders)}-{n}" for n in (0, 1)]
    assert len(template_hash(orders)) == 5


def test_template_hash_ignores_replicas_and_notices_the_template() -> None:
    one, three = deployment("a"), deployment("a", replicas=3)
    other = deployment("a", container(command=["sleep", "1"]))
    assert template_hash(one) == template_hash(three) != template_hash(other)


def test_uid_changes_with_the_spec_but_not_with_labels() -> None:
    plain, labelled = pod("a"), pod("a", labels={"x": "y"})
    changed = pod("a", container(command=["sleep", "1"]))
    uids = [desired([one]).plans[0].uid for one in (plain, labelled, changed)]
    assert uids[0] == uids[1] != uids[2]
    assert [len(part) for part in uids[0].split("-")] == [8, 4, 4, 4, 12]


def test_addresses_are_in_the_pod_ranges_and_unique() -> None:
    given_addresses = assign([f"ns/pod-{n}" for n in range(500)], {})
    ipv4 = {one.ipv4 for one in given_addresses.values()}
    ipv6 = {one.ipv6 for one in given_addresses.values()}
    assert len(ipv4) == len(ipv6) == 500
    for one in given_addresses.values():
        assert ipaddress.ip_address(one.ipv4) in ipaddress.ip_network("10.244.0.0/16")
        assert ipaddress.ip_address(one.ipv4) not in ipaddress.ip_network("10.244.0.0/24")
        assert ipaddress.ip_address(one.ipv6) in ipaddress.ip_network("fd44::/64")


@settings(deadline=None)
@given(st.sets(st.integers(0, 3000), min_size=1, max_size=60))
def test_held_addresses_stay_and_are_given_to_nobody_else(numbers: set[int]) -> None:
    keys = [f"ns/p{n}" for n in numbers]
    held = {keys[0]: PodAddresses("10.244.9.9", "fd44::9:9:9")}
    got = assign([*keys, "ns/new"], held)
    assert got[keys[0]] == held[keys[0]]
    assert len({one.ipv4 for one in got.values()}) == len(got)


def test_running_pod_keeps_its_address_when_its_spec_changes() -> None:
    held = {"shop/a": PodAddresses("10.244.9.9", "fd44::9:9:9")}
    plan = desired([pod("a", container(command=["sleep", "2"]))], held).plans[0]
    assert plan.addresses == held["shop/a"]


def test_simulated_pods_are_ready_with_both_addresses() -> None:
    state = simulate(SHOP)
    mine = [one for one in state.pods if one.metadata.namespace == "shop"]
    assert len(mine) == 6
    assert all(one.ready and len(one.addresses) == 2 for one in mine)
    assert {one.spec.node_name for one in mine} == {"lab"}


def test_cluster_dns_is_a_service_with_a_pod_behind_it() -> None:
    state = simulate([])
    (dns,) = state.services
    assert (str(dns.key), dns.addresses) == ("kube-system/kube-dns", ("10.96.0.10", "fd96::a"))
    (coredns,) = state.pods
    assert coredns.metadata.labels == {"k8s-app": "kube-dns"}
    slices = [one for one in state.slices if one.service == "kube-dns"]
    assert {one.endpoints[0].addresses for one in slices} == {("10.244.0.10",), ("fd44::a",)}
    assert {port.protocol for port in slices[0].ports} == {"UDP", "TCP"}


def test_namespaces_are_made_unless_the_user_wrote_them() -> None:
    written = made(Namespace, "shop", {})
    assert "shop" in {one.metadata.name for one in simulate(SHOP).namespaces}
    assert "shop" not in {one.metadata.name for one in simulate([*SHOP, written]).namespaces}


def test_state_of_a_pod_is_in_its_object() -> None:
    want = desired([pod("a")])
    waiting = PodState(
        plan=want.plans[0], reason="CrashLoopBackOff", message="ended with 3", changed_at="t"
    )
    (made_pod, _) = sorted(observe(want, [waiting]).pods, key=lambda one: one.metadata.name)
    condition = made_pod.status.conditions[0]
    assert not made_pod.ready
    assert (condition.reason, condition.message) == ("CrashLoopBackOff", "ended with 3")
    assert made_pod.status.phase == "Pending"


def test_terminating_pod_is_marked_and_no_longer_ready_as_endpoint() -> None:
    objects = [deployment("a"), service("a", {"port": 80})]
    want = desired(objects)
    ending = PodState(plan=want.plans[0], phase="Running", ready=True, terminating=True)
    state = observe(want, [ending])
    conditions = [one.endpoints[0].conditions for one in state.slices if one.service == "a"]
    assert {(c.ready, c.serving, c.terminating) for c in conditions} == {(False, True, True)}
    assert [one for one in state.pods if one.metadata.deletion_timestamp]


def test_new_pod_wins_over_the_ending_one_of_the_same_name() -> None:
    old = desired([pod("a")]).plans[0]
    want = desired([pod("a", container(command=["sleep", "5"]))])
    states = [
        PodState(plan=old, terminating=True, phase="Running"),
        PodState(plan=want.plans[0], phase="Pending"),
    ]
    found = [one for one in observe(want, states).pods if one.metadata.name == "a"]
    assert [one.metadata.uid for one in found] == [want.plans[0].uid]


def test_broken_deployment_is_known_by_name() -> None:
    raw = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": "x"}}
    broken = decode(Deployment, raw | {"metadata": {"name": "a", "namespace": "shop"}})
    assert isinstance(broken, Broken)
    want = desired([broken])
    assert want.plans == ()
    assert want.unreadable == {NamespacedName("shop", "a")}


def test_objects_of_the_lab_pass_the_strict_decoder() -> None:
    kinds = {kind.kind: kind for kind in BUILTIN_KINDS}
    for one in simulate(SHOP).objects:
        decoded = decode(kinds[one.kind], msgspec.json.decode(encode(one)))
        assert decoded == one
