from __future__ import annotations

from collections.abc import Iterable

from penstock.core.decode import Decoded
from penstock.core.kinds import EndpointSlice, Service
from penstock.lab.cluster import PodState, desired, observe, simulate
from support.lab import container, deployment, pod, service

HTTP = [{"name": "http", "containerPort": 8080}]


def slices(objects: Iterable[Decoded], name: str) -> list[EndpointSlice]:
    return [one for one in simulate(objects).slices if one.service == name]


def test_service_has_one_slice_for_each_family() -> None:
    found = slices([deployment("a", replicas=2), service("a", {"port": 80})], "a")
    assert [(one.metadata.name, one.address_type) for one in found] == [
        ("a-ipv4", "IPv4"),
        ("a-ipv6", "IPv6"),
    ]
    assert [len(one.endpoints) for one in found] == [2, 2]
    assert found[0].ports[0].port == 80


def test_service_of_one_family_has_slices_of_that_family() -> None:
    single = service("a", {"port": 80}, ipFamilies=["IPv6"])
    assert [one.address_type for one in slices([deployment("a"), single], "a")] == ["IPv6"]


def test_named_port_is_looked_up_in_each_pod() -> None:
    one = pod("one", container(ports=HTTP), labels={"app": "a"})
    two = pod(
        "two", container(ports=[{"name": "http", "containerPort": 9090}]), labels={"app": "a"}
    )
    found = slices([one, two, service("a", {"port": 80, "targetPort": "http"})], "a")
    ipv4 = [item for item in found if item.address_type == "IPv4"]
    by_port = {item.ports[0].port: item.endpoints[0].target_ref for item in ipv4}
    names = {port: ref.name for port, ref in by_port.items() if ref is not None}
    assert names == {8080: "one", 9090: "two"}
    assert len({item.metadata.name for item in found}) == 4


def test_pod_without_the_named_port_has_no_port_there() -> None:
    found = slices([deployment("a"), service("a", {"port": 80, "targetPort": "http"})], "a")
    assert [one.ports for one in found] == [(), ()]


def test_named_port_of_another_protocol_is_another_port() -> None:
    ports = [
        {"name": "dns", "containerPort": 5300, "protocol": "UDP"},
        {"name": "dns-tcp", "containerPort": 5301},
    ]
    wanted = service("a", {"port": 53, "targetPort": "dns"})
    assert slices([deployment("a", container(ports=ports)), wanted], "a")[0].ports == ()


def test_service_without_selector_gets_no_slices() -> None:
    bare = service("a", {"port": 80})
    without = Service(metadata=bare.metadata, spec=type(bare.spec)(ports=bare.spec.ports))
    assert slices([deployment("a"), without], "a") == []


def test_service_without_pods_gets_empty_slices() -> None:
    assert [one.endpoints for one in slices([service("a", {"port": 80})], "a")] == [(), ()]


def test_pod_that_is_not_ready_is_listed_as_not_ready() -> None:
    want = desired([deployment("a"), service("a", {"port": 80})])
    state = observe(want, [PodState(plan=want.plans[0], phase="Running")])
    conditions = [one.endpoints[0].conditions.ready for one in state.slices if one.service == "a"]
    assert conditions == [False, False]


def test_publish_not_ready_addresses_makes_every_pod_ready() -> None:
    eager = service("a", {"port": 80}, publishNotReadyAddresses=True)
    want = desired([deployment("a"), eager])
    state = observe(want, [PodState(plan=want.plans[0], phase="Running")])
    conditions = [one.endpoints[0].conditions for one in state.slices if one.service == "a"]
    assert {(one.ready, one.serving) for one in conditions} == {(True, False)}


def test_finished_pod_is_no_endpoint() -> None:
    want = desired([deployment("a"), service("a", {"port": 80})])
    state = observe(want, [PodState(plan=want.plans[0], phase="Succeeded")])
    assert [one.endpoints for one in state.slices if one.service == "a"] == [(), ()]


def test_hostname_counts_only_in_the_service_of_the_subdomain() -> None:
    db = pod("db-0", labels={"app": "db"}, hostname="db-0", subdomain="db")
    other = service("other", {"port": 1}, app="db")
    objects = [db, service("db", {"port": 1}, clusterIP="None"), other]
    assert slices(objects, "db")[0].endpoints[0].hostname == "db-0"
    assert slices(objects, "other")[0].endpoints[0].hostname == ""
