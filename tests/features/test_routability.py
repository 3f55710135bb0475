"""From where an address of a Gateway can be reached: what is asked, served, and told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.generated_slices import every_generated
from penstock.compiler.open_ports import INSIDE_PORTS
from penstock.compiler.problems import problems_of
from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.requested_addresses import SENTINEL
from penstock.gatewayapi.versions import BUNDLE_VERSION, CHANNEL, GATEWAYS_CRD
from penstock.meta.names import ObjectRef
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.xds import types
from support import objects
from support.pki import issue, tls_secret_raw

POOL = Settings(
    reach=Reach.CLUSTER, gateway_pool="192.0.2.0/30", system_namespace="penstock-system"
)
AT_NODES = msgspec.structs.replace(POOL, addressing=Addressing.NODES)
CLOUD = msgspec.structs.replace(POOL, addressing=Addressing.LOAD_BALANCER)
MODES = pytest.mark.parametrize("settings", [POOL, AT_NODES, CLOUD], ids=lambda one: one.addressing)
CLUSTER, FAR = {"routability": "Cluster"}, {"routability": "x.test/far"}
CHOSEN = {"value": "10.96.0.50", "routability": "Cluster"}
OWN = objects.generated_service("gw", label="gw", kind="ClusterIP")
NETWORKS = objects.service_cidr("10.96.0.0/16")
CLASS = objects.gateway_class()


def crd(version: str = "v1.7.0", channel: str = "experimental") -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": GATEWAYS_CRD,
                "annotations": {BUNDLE_VERSION: version, CHANNEL: channel},
            },
        }
    )


def compiled(
    gateway: Object | Broken, *more: Object | Broken, settings: Settings = POOL
) -> Compiler:
    compiler = Compiler(settings)
    nodes = [objects.node("n1", "172.31.0.10"), objects.node("n2", "172.31.0.11")]
    envoys = [
        objects.pod(
            f"e{number}",
            f"10.244.{number}.9",
            {"app.kubernetes.io/name": "penstock-envoy"},
            namespace="penstock-system",
            node=f"n{number}",
        )
        for number in (1, 2)
    ]
    compiler.apply(objects.added([CLASS, gateway, *nodes, *envoys, *more]))
    assert compiler.failures == {}
    return compiler


def told(compiler: Compiler, thing: Object | Broken) -> dict[str, Any]:
    status = status_of(compiler.db, thing, lambda _: None)
    assert status is not None
    said = {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}
    return status | {"conditions": said}


def listeners(compiler: Compiler) -> set[str]:
    """Return the listeners of Gateways at any node."""
    return {
        one.name
        for node in ("n1", "n2")
        for one in compiler.resources(node)
        if one.type_url == types.LISTENER and one.name.startswith("gateway/")
    }


def opened(compiler: Compiler, node: str) -> dict[str, list[tuple[str, int, str]]]:
    """Return address, port and network namespace of the listeners of Gateways at a node."""
    found: dict[str, list[tuple[str, int, str]]] = {}
    for one in compiler.resources(node):
        if one.type_url == types.LISTENER and one.name.startswith("gateway/"):
            made = listener_pb2.Listener.FromString(one.body)
            every = [made.address, *(more.address for more in made.additional_addresses)]
            found[one.name] = [
                (at.address, at.port_value, at.network_namespace_filepath)
                for at in (each.socket_address for each in every)
            ]
    return found


def spec_of_service(compiler: Compiler) -> dict[str, Any]:
    """Return what is said of the Gateway's Service; {} if there is to be none."""
    found = every_generated.once(compiler.db, None).get(ObjectRef("Service", "shop", "gw-penstock"))
    return {} if found is None else found.body["spec"]


@MODES
def test_a_gateway_for_the_inside_opens_in_the_pods_of_envoy_and_its_service_leads_there(
    settings: Settings,
) -> None:
    one = objects.gateway("gw", addresses=[CLUSTER])
    compiler = compiled(one, OWN, crd(), settings=settings)
    status = told(compiler, one)
    assert status["addresses"] == [
        {"type": "IPAddress", "value": "10.96.0.200", "routability": "Cluster"}
    ]
    assert status["conditions"]["Programmed"] == ("True", "Programmed")
    assert status["conditions"]["AddressesAssigned"] == ("True", "AddressesAssigned")
    wanted = every_generated.once(compiler.db, None)
    (slice_,) = (one.body for ref, one in wanted.items() if ref.kind == "EndpointSlice")
    (port,) = slice_["ports"]
    assert port["port"] in INSIDE_PORTS
    ends = {each["addresses"][0] for each in slice_["endpoints"]}
    assert ends == {"10.244.1.9", "10.244.2.9"}
    for node in ("n1", "n2"):
        (address,) = opened(compiler, node)["gateway/shop/gw/80"]
        assert address == (f"10.244.{node[1]}.9", port["port"], settings.dial_netns)
    (service,) = (one.body for ref, one in wanted.items() if ref.kind == "Service")
    assert service["spec"]["type"] == "ClusterIP"


@MODES
def test_nothing_of_it_is_announced_and_its_ports_are_nobodys_on_the_nodes(
    settings: Settings,
) -> None:
    one = objects.gateway("gw", addresses=[CLUSTER], since="2026-01-01T00:00:00Z")
    other = objects.gateway("other", since="2026-01-02T00:00:00Z")
    compiler = compiled(one, OWN, other, settings=settings)
    announced = {
        each.name
        for node in ("n1", "n2")
        for each in compiler.resources(node)
        if each.type_url == types.ADDRESS
    }
    held = set(told(compiler, other)["addresses"][0].values()) if settings is not CLOUD else set()
    assert announced == (announced & held)
    if settings is AT_NODES:
        assert told(compiler, other)["conditions"]["Programmed"] == ("True", "Programmed")
        assert "gateway/shop/other/80" in opened(compiler, "n1")


def test_before_its_service_is_there_it_has_no_address() -> None:
    one = objects.gateway("gw", addresses=[CLUSTER])
    compiler = compiled(one)
    status = told(compiler, one)
    assert status["addresses"] == []
    assert status["conditions"]["Accepted"] == ("True", "Accepted")
    assert status["conditions"]["Programmed"] == ("False", "AddressNotAssigned")
    assert status["conditions"]["AddressesAssigned"] == ("False", "NotAssigned")
    compiler.apply(objects.added([OWN]))
    assert told(compiler, one)["conditions"]["Programmed"] == ("True", "Programmed")


def test_without_a_pod_of_envoy_it_leads_nowhere_and_has_no_address() -> None:
    one = objects.gateway("gw", addresses=[CLUSTER])
    compiler = Compiler(POOL)
    compiler.apply(objects.added([CLASS, one, OWN, objects.node("n1", "172.31.0.10")]))
    status = told(compiler, one)
    assert status["addresses"] == []
    assert status["conditions"]["Programmed"] == ("False", "NoResources")


def test_a_lab_has_no_addresses_of_a_cluster() -> None:
    one = objects.gateway("gw", addresses=[CLUSTER])
    compiler = compiled(one, crd(), settings=Settings())
    assert told(compiler, one)["conditions"]["Programmed"] == ("False", "AddressNotAssigned")
    assert opened(compiler, "") == {}
    features = [each["name"] for each in told(compiler, CLASS)["supportedFeatures"]]
    assert "GatewayAddressRoutability" in features
    assert "GatewayAddressRoutabilityCluster" not in features


@pytest.mark.parametrize("settings", [Settings(), POOL, AT_NODES], ids=["lab", "pool", "nodes"])
def test_the_key_of_a_gateway_that_opens_nothing_goes_to_no_node(settings: Settings) -> None:
    tls = {"certificateRefs": [{"name": "own"}]}
    listener = {"name": "s", "protocol": "HTTPS", "port": 443, "tls": tls}
    one = objects.gateway("gw", [listener], addresses=[CLUSTER])
    secret = objects.made(tls_secret_raw("own", "shop", [issue("own.test")]))
    compiler = Compiler(settings)
    compiler.apply(objects.added([CLASS, one, secret, objects.node("n1", "172.31.0.10")]))
    assert opened(compiler, "n1") == {}
    assert [each for each in compiler.resources("n1") if each.type_url == types.SECRET] == []


@MODES
def test_beside_others_it_is_the_address_of_the_same_service(settings: Settings) -> None:
    one = objects.gateway("gw", addresses=[CLUSTER, {}])
    own = objects.generated_service("gw", 30001, ["203.0.113.5"], label="gw")
    compiler = compiled(one, own, crd(), settings=settings)
    status = told(compiler, one)
    inner, outer = status["addresses"]
    assert inner == {"type": "IPAddress", "value": "10.96.0.200", "routability": "Cluster"}
    assert outer["value"] != "10.96.0.200"
    assert status["conditions"]["AddressesAssigned"] == ("True", "AddressesAssigned")
    assert "gateway/shop/gw/80" in {**opened(compiler, "n1"), **opened(compiler, "n2")}
    (service,) = (
        one.body
        for ref, one in every_generated.once(compiler.db, None).items()
        if ref.kind == "Service"
    )
    assert (service["spec"]["type"] == "LoadBalancer") is (settings is CLOUD)


@pytest.mark.parametrize("settings", [POOL, AT_NODES])
def test_what_it_has_besides_is_served_and_the_rest_is_named(settings: Settings) -> None:
    one = objects.gateway("gw", addresses=[FAR, {}])
    compiler = compiled(one, settings=settings)
    status = told(compiler, one)
    assert len(status["addresses"]) == 1
    assert status["conditions"]["Programmed"] == ("True", "Programmed")
    assert status["conditions"]["AddressesAssigned"] == ("False", "PartiallyAssigned")
    assert listeners(compiler) == {"gateway/shop/gw/80"}
    (problem,) = problems_of(compiler.db, one)
    assert problem.path == "spec.addresses[0]"


def test_its_service_is_made_with_the_address_that_is_asked_for() -> None:
    one = objects.gateway("gw", addresses=[CHOSEN])
    compiler = compiled(one, NETWORKS)
    assert spec_of_service(compiler)["clusterIP"] == "10.96.0.50"


@MODES
def test_an_address_of_the_cluster_need_not_say_that_it_is_one(settings: Settings) -> None:
    one = objects.gateway("gw", addresses=[{"value": "10.96.0.200"}])
    compiler = compiled(one, NETWORKS, OWN, crd(), settings=settings)
    status = told(compiler, one)
    assert status["addresses"] == [
        {"type": "IPAddress", "value": "10.96.0.200", "routability": "Cluster"}
    ]
    assert status["conditions"]["AddressesAssigned"] == ("True", "AddressesAssigned")
    compiler.apply([Event(EventType.DELETED, NETWORKS)])
    assert told(compiler, one)["conditions"]["Programmed"][0] == "False"


def test_in_a_pool_it_is_one_of_the_pool_for_all_that() -> None:
    one = objects.gateway("gw", addresses=[{"value": "192.0.2.1"}])
    compiler = compiled(one, objects.service_cidr("192.0.2.0/24"), crd())
    (address,) = told(compiler, one)["addresses"]
    assert address == {"type": "IPAddress", "value": "192.0.2.1", "routability": ""}


def test_a_service_with_another_address_goes_first_for_addresses_do_not_change() -> None:
    one = objects.gateway("gw", addresses=[CHOSEN])
    compiler = compiled(one, NETWORKS, OWN)
    assert spec_of_service(compiler) == {}
    compiler.apply([Event(EventType.DELETED, OWN)])
    assert spec_of_service(compiler)["clusterIP"] == "10.96.0.50"


def test_what_a_cloud_has_given_an_address_stays() -> None:
    one = objects.gateway("gw", addresses=[CHOSEN, {}])
    own = objects.generated_service("gw", 30001, ["203.0.113.5"], label="gw")
    compiler = compiled(one, NETWORKS, own, settings=CLOUD)
    assert "clusterIP" not in spec_of_service(compiler)
    status = told(compiler, one)
    assert [each["value"] for each in status["addresses"]] == ["203.0.113.5"]
    assert status["conditions"]["AddressesAssigned"] == ("False", "PartiallyAssigned")


@pytest.mark.parametrize(
    ("networks", "why_not"),
    [
        ([], "10.96.0.50 cannot be given: the cluster tells no ServiceCIDRs"),  # before 1.33
        (
            [objects.service_cidr("10.97.0.0/16", "fd00::/112")],
            "10.96.0.50 is none that",
        ),
        (
            [NETWORKS, objects.service("web", "10.96.0.50")],
            "10.96.0.50 is that of Service shop/web",
        ),
    ],
)
def test_an_address_that_no_service_can_have_is_not_asked_for_and_nothing_stands_in_for_it(
    networks: list[Object], why_not: str
) -> None:
    one = objects.gateway("gw", addresses=[CHOSEN])
    compiler = compiled(one, OWN, *networks)
    status = told(compiler, one)
    assert status["addresses"] == []
    assert status["conditions"]["Programmed"] == ("False", "AddressNotAssigned")
    assert "clusterIP" not in spec_of_service(compiler)
    assert listeners(compiler) == set()
    (programmed,) = (
        each["message"]
        for each in (status_of(compiler.db, one, lambda _: None) or {})["conditions"]
        if each["type"] == "Programmed"
    )
    assert programmed.startswith(why_not)


def test_ports_inside_differ_and_stay_when_others_go() -> None:
    ages = {"a": "2026-01-01T00:00:00Z", "b": "2026-01-02T00:00:00Z"}
    both = [objects.gateway(name, addresses=[CLUSTER], since=since) for name, since in ages.items()]
    services = [objects.generated_service(name, label=name, kind="ClusterIP") for name in ages]
    held = objects.generated_slice("b", 20_000)
    compiler = compiled(both[0], both[1], *services, held, objects.generated_slice("a", 20_000))
    ports = {name: at for name, ((_, at, _),) in opened(compiler, "n1").items()}
    assert ports["gateway/shop/a/80"] == 20_000
    assert ports["gateway/shop/b/80"] not in (80, 20_000)
    compiler.apply([Event(EventType.DELETED, both[0])])
    ((_, at, _),) = opened(compiler, "n1")["gateway/shop/b/80"]
    assert at == 20_000


def test_where_the_server_keeps_it_addresses_say_their_reach_and_the_class_says_so() -> None:
    one = objects.gateway("gw", addresses=[{"routability": SENTINEL}])
    other = objects.gateway("other")
    compiler = compiled(one, other, crd())
    (address,) = told(compiler, one)["addresses"]
    assert address["routability"] == SENTINEL
    (address,) = told(compiler, other)["addresses"]
    assert address["routability"] == ""
    assert told(compiler, other)["conditions"]["AddressesAssigned"] == ("True", "AddressesAssigned")
    features = [each["name"] for each in told(compiler, CLASS)["supportedFeatures"]]
    assert "GatewayAddressRoutability" in features
    assert features == sorted(features)


@pytest.mark.parametrize("older", [(), (crd("v1.6.3"),), (crd(channel="standard"),)])
def test_where_it_would_be_left_out_nothing_is_said_of_it(older: tuple[Object, ...]) -> None:
    one = objects.gateway("gw")
    compiler = compiled(one, *older)
    status = told(compiler, one)
    assert [sorted(each) for each in status["addresses"]] == [["type", "value"]]
    assert "AddressesAssigned" not in status["conditions"]
    features = told(compiler, CLASS)["supportedFeatures"]
    assert {"name": "GatewayAddressRoutability"} not in features


@pytest.mark.parametrize("older", [crd("v1.6.3"), crd(channel="standard")], ids=["old", "standard"])
def test_where_it_would_be_left_out_it_is_not_written_either(older: Object) -> None:
    one = objects.gateway("gw", addresses=[{"value": "10.96.0.200"}])
    status = told(compiled(one, OWN, NETWORKS, older), one)
    assert status["addresses"] == [{"type": "IPAddress", "value": "10.96.0.200"}]
    assert status["conditions"]["AddressesAssigned"] == ("True", "AddressesAssigned")


def test_with_a_crd_that_has_it_the_statuses_that_tell_it_are_looked_at_again() -> None:
    one = objects.gateway("gw")
    mesh = ObjectRef("XMesh", "", CLASS.metadata.name)  # names of other kinds may be the same
    compiler = compiled(one, crd("v1.6.3"))
    for ref in (one.ref, CLASS.ref, mesh):
        compiler.statuses.follow(ref)
    compiler.statuses.take()
    compiler.apply([Event(EventType.MODIFIED, crd())])
    assert set(compiler.statuses.take()) == {one.ref, CLASS.ref, mesh}


@MODES
@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "Hostname", "value": "gw.test", **CLUSTER},
        {"value": "no address", **CLUSTER},
        {"type": "x.test/kind", "value": "here", **CLUSTER},
    ],
    ids=lambda one: one["value"],
)
def test_what_is_no_address_harms_only_its_gateway(
    settings: Settings, wrong: dict[str, Any]
) -> None:
    one = objects.gateway("gw", addresses=[wrong], since="2026-01-01T00:00:00Z")
    other = objects.gateway("other", addresses=[CLUSTER], since="2026-01-02T00:00:00Z")
    compiler = compiled(one, OWN, other, NETWORKS, settings=settings)
    assert told(compiler, one)["conditions"]["Accepted"] == ("False", "UnsupportedAddress")
    wanted = every_generated.once(compiler.db, None)
    assert ObjectRef("Service", "shop", "other-penstock") in wanted
    assert listeners(compiler) <= {"gateway/shop/other/80"}
