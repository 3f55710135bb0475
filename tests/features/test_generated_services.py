"""Services that are generated for Gateways: what there should be, and what others make of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.generated_slices import every_generated
from penstock.compiler.problems import problems_of
from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.kinds import LoadBalancerIngress, LoadBalancerStatus, Service, ServiceStatus
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.generated import GENERATED_FOR, Generated, label_value, service_name
from penstock.meta.names import ObjectRef
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from support import objects
from support.ingress_objects import ingress_class

POOL = Settings(
    reach=Reach.CLUSTER, gateway_pool="172.31.0.128/26", system_namespace="penstock-system"
)
AT_NODES = msgspec.structs.replace(POOL, addressing=Addressing.NODES)
CLOUD = msgspec.structs.replace(POOL, addressing=Addressing.LOAD_BALANCER)
MODES = pytest.mark.parametrize("settings", [POOL, AT_NODES, CLOUD], ids=lambda one: one.addressing)
SERVICE = ObjectRef("Service", "shop", "gw-penstock")
SLICE = ObjectRef("EndpointSlice", "shop", "gw-penstock-ipv4")
HTTP = {"name": "http", "port": 80, "protocol": "HTTP"}
DNS = {"name": "dns", "port": 80, "protocol": "UDP"}


def cluster(*more: Object | Broken, settings: Settings = POOL) -> Compiler:
    nodes = [objects.node("n1", "172.31.0.10"), objects.node("n2", "172.31.0.11")]
    compiler = Compiler(settings)
    compiler.apply(objects.added([*nodes, objects.gateway_class(), *more]))
    assert compiler.failures == {}
    return compiler


def gateway(
    name: str = "gw",
    *,
    addresses: Iterable[str] = (),
    infrastructure: dict[str, Any] | None = None,
    of: str = "penstock",
) -> Object | Broken:
    wanted = [{"type": "IPAddress", "value": one} for one in addresses]
    return objects.made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "gatewayClassName": of,
                "listeners": [HTTP, DNS],
                "addresses": wanted,
                "infrastructure": infrastructure or {},
            },
        }
    )


def wanted(compiler: Compiler) -> dict[ObjectRef, Generated]:
    return every_generated.once(compiler.db, None)


def there(
    made: Generated, *, ip: str = "10.96.0.7", entry: LoadBalancerIngress | None = None
) -> Service:
    """Return a generated Service as the server has it."""
    body: dict[str, Any] = {**made.body, "spec": made.body["spec"] | {"clusterIP": ip}}
    ports = [{**one, "nodePort": 30000 + at} for at, one in enumerate(body["spec"]["ports"], 1)]
    body["spec"]["ports"] = ports
    found = objects.made(body)
    assert isinstance(found, Service)
    given = LoadBalancerStatus(ingress=() if entry is None else (entry,))
    return msgspec.structs.replace(found, status=ServiceStatus(load_balancer=given))


def change(
    compiler: Compiler, thing: Object | Broken, kind: EventType = EventType.MODIFIED
) -> None:
    compiler.apply([Event(kind, thing)])
    assert compiler.failures == {}


def status(compiler: Compiler, thing: Object | Broken) -> dict[str, Any]:
    return status_of(compiler.db, thing, lambda _: None) or {}


def condition(compiler: Compiler, thing: Object | Broken, kind: str) -> tuple[str, str]:
    found = [one for one in status(compiler, thing)["conditions"] if one["type"] == kind]
    return (found[0]["status"], found[0]["reason"]) if found else ("", "")


def opened(compiler: Compiler, node: str) -> dict[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = {}
    for one in compiler.resources(node):
        if one.type_url == types.LISTENER:
            made = listener_pb2.Listener.FromString(one.body)
            every = [made.address, *(more.address for more in made.additional_addresses)]
            found[one.name] = [
                (each.socket_address.address, each.socket_address.port_value) for each in every
            ]
    return found


@MODES
def test_every_gateway_of_ours_has_a_service_with_what_its_owner_asks_for(
    settings: Settings,
) -> None:
    asked = gateway(
        infrastructure={
            "labels": {"team": "a", GENERATED_FOR: "x"},
            "annotations": {"cloud/size": "big"},
        }
    )
    found = wanted(cluster(asked, settings=settings))
    assert list(found) == [SERVICE]
    metadata = found[SERVICE].body["metadata"]
    assert (
        metadata["labels"].items()
        >= {
            "team": "a",
            "gateway.networking.k8s.io/gateway-name": "gw",
            "gateway.networking.k8s.io/gateway-class-name": "penstock",
            GENERATED_FOR: "gw",
        }.items()
    )
    assert metadata["annotations"] == {"cloud/size": "big"}
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Gateway", asked.metadata.uid)
    assert found[SERVICE].body["spec"]["ports"] == [
        {"name": "tcp-80", "port": 80, "protocol": "TCP"},
        {"name": "udp-80", "port": 80, "protocol": "UDP"},
    ]


def test_there_is_none_in_a_lab_of_a_foreign_class_or_of_a_refused_gateway() -> None:
    lab = Settings()
    assert wanted(cluster(gateway(), settings=lab)) == {}
    refused = gateway(
        infrastructure={"parametersRef": {"group": "a.test", "kind": "P", "name": "p"}}
    )
    compiler = cluster(refused)
    assert wanted(compiler) == {}
    assert condition(compiler, refused, "Accepted") == ("False", "InvalidParameters")
    # a Service that is there stays: another one might get another address
    made = wanted(cluster(gateway()))[SERVICE]
    change(compiler, there(made), EventType.ADDED)
    assert SERVICE in wanted(compiler)
    change(compiler, objects.gateway_class(controller="someone.test/else"))
    assert wanted(compiler) == {}


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("gw", "penstock"), "gw-penstock"),
        (("a.b", "c"), r"a-b-c-[0-9a-f]{8}"),
        (("8ball", "c"), r"g-8ball-c-[0-9a-f]{8}"),
        (("x" * 253, "penstock"), "x{54}-[0-9a-f]{8}"),
        ((".".join("y" * 60 for _ in range(4)), "penstock"), "y{54}-[0-9a-f]{8}"),
    ],
)
def test_names_that_no_service_may_have_are_cut_and_told_apart(
    parts: tuple[str, ...], name: str
) -> None:
    found = service_name(*parts)
    assert re.fullmatch(name, found)
    assert len(found) <= 63
    assert found == service_name(*parts)
    assert found != service_name(parts[0] + "z", *parts[1:])


def test_values_of_labels_are_at_most_63_characters() -> None:
    assert label_value("a.b-c") == "a.b-c"
    assert len(label_value("x" * 253)) == 63
    assert label_value("x" * 253) != label_value("x" * 252)


@pytest.mark.parametrize(
    ("settings", "endpoints", "ports"),
    [
        (POOL, None, [("tcp-80", 80), ("udp-80", 80)]),
        (AT_NODES, ["172.31.0.10", "172.31.0.11"], [("tcp-80", 80), ("udp-80", 80)]),
        (CLOUD, ["172.31.0.10", "172.31.0.11"], [("tcp-80", 30001), ("udp-80", 30002)]),
    ],
    ids=["pool", "nodes", "loadbalancer"],
)
def test_pods_are_led_to_where_the_gateway_is(
    settings: Settings, endpoints: list[str] | None, ports: list[tuple[str, int]]
) -> None:
    asked = gateway()
    compiler = cluster(asked, settings=settings)
    found = there(wanted(compiler)[SERVICE])
    change(compiler, found, EventType.ADDED)
    body = wanted(compiler)[SLICE].body
    assert body["metadata"]["ownerReferences"][0]["uid"] == found.metadata.uid
    assert [(one["name"], one["port"]) for one in body["ports"]] == ports
    addresses = [one["addresses"][0] for one in body["endpoints"]]
    expected = endpoints or [one["value"] for one in status(compiler, asked)["addresses"]]
    assert addresses == expected
    change(compiler, objects.made(body), EventType.ADDED)
    kernel = [
        node_pb2.Service.FromString(one.body)
        for one in compiler.resources("n1")
        if one.type_url == types.SERVICE and one.name == "shop/gw-penstock/80/tcp"
    ]
    assert [(one.address, one.port) for one in kernel[0].backends] == [
        (address, ports[0][1]) for address in expected
    ]
    assert not kernel[0].proxy


def test_a_service_of_somebody_else_is_left_alone_and_told() -> None:
    asked = gateway()
    compiler = cluster(asked, objects.service("gw-penstock", "10.96.0.9"))
    assert condition(compiler, asked, "penstock.dev/ServiceGenerated") == ("False", "NameTaken")
    assert condition(compiler, asked, "Programmed")[0] == "True"
    assert SLICE not in wanted(compiler)
    change(compiler, objects.service("gw-penstock", "10.96.0.9"), EventType.DELETED)
    assert condition(compiler, asked, "penstock.dev/ServiceGenerated") == ("", "")


@pytest.mark.parametrize("settings", [POOL, AT_NODES, CLOUD], ids=["pool", "nodes", "cloud"])
def test_what_the_server_refuses_is_told_with_its_words(settings: Settings) -> None:
    asked = gateway()
    compiler = cluster(asked, settings=settings)
    compiler.statuses.follow(asked.ref)
    compiler.statuses.take()
    compiler.tell_refused(SERVICE, "422 no such address")
    assert compiler.statuses.take() == (asked.ref,)
    assert condition(compiler, asked, "penstock.dev/ServiceGenerated") == ("False", "Refused")
    status = status_of(compiler.db, asked, lambda _: None)
    assert status is not None
    (text,) = (one["message"] for one in status["conditions"] if one["reason"] == "Refused")
    assert text == "the API server refuses Service shop/gw-penstock: 422 no such address"
    programmed = [one["message"] for one in status["conditions"] if one["type"] == "Programmed"]
    assert (programmed == [text]) is (settings is CLOUD)
    compiler.tell_refused(SERVICE, "")
    assert compiler.statuses.take() == (asked.ref,)
    assert condition(compiler, asked, "penstock.dev/ServiceGenerated") == ("", "")


def test_of_two_gateways_that_want_one_name_the_first_has_it() -> None:
    first = objects.gateway("a-b")
    second = gateway("a", of="b-penstock")
    compiler = cluster(first, second, objects.gateway_class("b-penstock"))
    (found,) = wanted(compiler).values()
    assert found.body["metadata"]["labels"][GENERATED_FOR] == "a"
    change(compiler, there(found), EventType.ADDED)
    assert condition(compiler, first, "penstock.dev/ServiceGenerated")[1] == "NameTaken"
    status = status_of(compiler.db, first, lambda _: None)
    assert status is not None
    (text,) = (one["message"] for one in status["conditions"] if one["reason"] == "NameTaken")
    assert text.startswith("Service shop/a-b-penstock is that of a already; ")


def test_no_route_goes_by_a_generated_service() -> None:
    asked = gateway()
    compiler = cluster(asked)
    change(compiler, there(wanted(compiler)[SERVICE]), EventType.ADDED)
    behind = objects.http_route("r", parent={"name": "gw"}, backends=[("gw-penstock", 1)])
    on_it = objects.http_route("m", parent=objects.on_service("gw-penstock"))
    for one in (behind, on_it):
        change(compiler, one, EventType.ADDED)
    (parent,) = status(compiler, behind)["parents"]
    resolved = next(one for one in parent["conditions"] if one["type"] == "ResolvedRefs")
    assert (resolved["status"], resolved["reason"]) == ("False", "InvalidKind")
    (parent,) = status(compiler, on_it)["parents"]
    assert parent["conditions"][0]["reason"] == "UnsupportedValue"


def test_a_cloud_gives_the_addresses_and_nodes_serve_at_node_ports() -> None:
    asked = gateway()
    compiler = cluster(asked, settings=CLOUD)
    made = wanted(compiler)[SERVICE]
    spec = made.body["spec"]
    assert (spec["type"], spec["externalTrafficPolicy"]) == ("LoadBalancer", "Cluster")
    assert made.body["metadata"]["labels"]["service.kubernetes.io/service-proxy-name"] == "penstock"
    assert "gateway/shop/gw/80" not in opened(compiler, "n1")
    assert condition(compiler, asked, "Programmed") == ("False", "AddressNotAssigned")
    change(compiler, there(made), EventType.ADDED)
    assert condition(compiler, asked, "Programmed") == ("False", "AddressNotAssigned")
    assert opened(compiler, "n1")["gateway/shop/gw/80"] == [("172.31.0.10", 30001)]
    assert opened(compiler, "n2")["gateway/shop/gw/80/udp"] == [("172.31.0.11", 30002)]
    before = compiler.resources("n1")
    change(compiler, there(made, entry=LoadBalancerIngress(ip="203.0.113.7")))
    assert compiler.resources("n1") == before
    assert status(compiler, asked)["addresses"] == [{"type": "IPAddress", "value": "203.0.113.7"}]
    assert condition(compiler, asked, "Programmed") == ("True", "Programmed")
    change(compiler, there(made, entry=LoadBalancerIngress(hostname="lb.cloud.test")))
    assert status(compiler, asked)["addresses"] == [{"type": "Hostname", "value": "lb.cloud.test"}]
    assert condition(compiler, asked, "Programmed") == ("True", "Programmed")


def test_an_address_that_a_cloud_should_give_is_asked_for_and_looked_for() -> None:
    asked = gateway(addresses=["203.0.113.9"])
    compiler = cluster(asked, settings=CLOUD)
    made = wanted(compiler)[SERVICE]
    assert made.body["spec"]["loadBalancerIP"] == "203.0.113.9"
    change(compiler, there(made, entry=LoadBalancerIngress(ip="203.0.113.7")), EventType.ADDED)
    assert condition(compiler, asked, "Programmed") == ("False", "AddressNotUsable")
    change(compiler, there(made, entry=LoadBalancerIngress(ip="203.0.113.9")))
    assert condition(compiler, asked, "Programmed")[0] == "True"


def test_many_gateways_may_have_the_same_port_at_a_cloud() -> None:
    compiler = cluster(gateway(), gateway("other"), settings=CLOUD)
    for at, made in enumerate(list(wanted(compiler).values())):
        change(compiler, there(made, ip=f"10.96.0.{at + 7}"), EventType.ADDED)
    names = opened(compiler, "n1")
    assert {"gateway/shop/gw/80", "gateway/shop/other/80"} <= names.keys()


def test_ingresses_have_their_service_beside_the_controller() -> None:
    class_ = objects.made(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {
                "name": "penstock",
                "annotations": {
                    "service.beta.kubernetes.io/scheme": "internal",
                    "ingressclass.kubernetes.io/is-default-class": "true",
                },
            },
            "spec": {"controller": "penstock.dev/ingress-controller"},
        }
    )
    shared, alone = ingress("web"), ingress("alone", dedicated=True)
    compiler = cluster(class_, shared, alone, settings=CLOUD)
    found = wanted(compiler)
    assert {ref.namespace for ref in found} == {"penstock-system"}
    one = found[ObjectRef("Service", "penstock-system", "ingress-penstock")]
    assert one.body["metadata"]["ownerReferences"][0]["kind"] == "IngressClass"
    (other,) = [each for ref, each in found.items() if ref != one.ref]
    assert "ownerReferences" not in other.body["metadata"]
    assert one.body["metadata"]["annotations"] == {"service.beta.kubernetes.io/scheme": "internal"}
    assert other.body["metadata"]["annotations"] == {"cloud.google.com/x": "y"}
    change(compiler, there(one, entry=LoadBalancerIngress(hostname="lb.test")), EventType.ADDED)
    assert status(compiler, shared)["loadBalancer"] == {"ingress": [{"hostname": "lb.test"}]}
    assert status(compiler, alone)["loadBalancer"] == {}
    for settings in (POOL, AT_NODES):
        assert wanted(cluster(class_, shared, alone, settings=settings)) == {}


def test_an_ingress_by_itself_says_what_its_service_is_like() -> None:
    asked = {
        "loadbalancer-class": "cloud.test/inner",
        "insecure-node-port": "31080",
        "secure-node-port": "31443",
    }
    alone = ingress("alone", dedicated=True, **asked)
    compiler = cluster(ingress_class(), alone, settings=CLOUD)
    (made,) = wanted(compiler).values()
    assert made.body["spec"] == {
        "type": "LoadBalancer",
        "loadBalancerClass": "cloud.test/inner",
        "externalTrafficPolicy": "Cluster",
        "ports": [{"name": "tcp-80", "port": 80, "protocol": "TCP", "nodePort": 31080}],
    }
    assert told(compiler, alone) == {}
    classless = {k: v for k, v in made.body["spec"].items() if k != "loadBalancerClass"}
    older = msgspec.structs.replace(made, body=made.body | {"spec": classless})
    change(compiler, there(older), EventType.ADDED)
    (made,) = (one for one in wanted(compiler).values() if one.ref.kind == "Service")
    assert "loadBalancerClass" not in made.body["spec"]
    name = "ingress.cilium.io/loadbalancer-class"
    assert "cannot be changed" in told(compiler, alone)[f'metadata.annotations["{name}"]']
    alone = ingress("alone", dedicated=True, **{"service-type": "NodePort"}, **asked)
    change(compiler, alone)
    (made,) = (one for one in wanted(compiler).values() if one.ref.kind == "Service")
    assert made.body["spec"]["type"] == "NodePort"
    assert status(compiler, alone)["loadBalancer"] == {}


def test_what_is_asked_of_a_service_that_is_not_there_or_shared_is_told() -> None:
    asked = {"service-type": "NodePort", "insecure-node-port": "31080"}
    alone = ingress("alone", dedicated=True, **asked)
    compiler = cluster(ingress_class(), alone, settings=POOL)
    assert set(told(compiler, alone).values()) == {"addresses here are not those of a cloud"}
    assert len(told(compiler, alone)) == 2
    shared = ingress("shared", dedicated=False, **asked)
    compiler = cluster(ingress_class(), shared, settings=CLOUD)
    texts = {"is for an Ingress with an address to itself"}
    assert set(told(compiler, shared).values()) == texts
    (made,) = wanted(compiler).values()
    assert made.body["spec"]["type"] == "LoadBalancer"


def told(compiler: Compiler, thing: Object | Broken) -> dict[str, str]:
    """Return what is said of annotations."""
    found = {one.path: one.message for one in problems_of(compiler.db, thing)}
    return {path: text for path, text in found.items() if path.startswith("metadata")}


def ingress(name: str, *, dedicated: bool = False, **asked: str) -> Object | Broken:
    given = ({"loadbalancer-mode": "dedicated"} if dedicated else {}) | asked
    annotations = {f"ingress.cilium.io/{short}": value for short, value in given.items()}
    annotations["cloud.google.com/x"] = "y"
    return objects.made(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
            "spec": {
                "ingressClassName": "penstock",
                "defaultBackend": {"service": {"name": "front", "port": {"number": 80}}},
            },
        }
    )


def test_what_is_followed_tells_what_changes() -> None:
    compiler = cluster(gateway())
    generated = compiler.generated
    generated.follow()
    assert generated.take() == (SERVICE,)
    change(compiler, there(wanted(compiler)[SERVICE]), EventType.ADDED)
    assert generated.take() == (SLICE,)
    change(compiler, gateway(infrastructure={"labels": {"a": "b"}}))
    assert generated.take() == (SERVICE,)
    change(compiler, gateway(), EventType.DELETED)
    assert generated.take() == (SLICE, SERVICE)
    assert generated.wanted(SERVICE) is None
