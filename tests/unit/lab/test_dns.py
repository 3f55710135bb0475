from __future__ import annotations

import asyncio
import socket
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.kinds import EndpointSlice, Service
from penstock.lab.cluster import simulate
from penstock.lab.dns import DnsServer
from penstock.lab.dnswire import MalformedQueryError, parse_query
from penstock.lab.zone import Zone, build_zone
from support.lab import container, deployment, made, pod, service

VIPS: dict[str, Any] = {"clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1", "fd96::1:1"]}
OBJECTS = [
    deployment("orders", container(ports=[{"containerPort": 8080}]), replicas=2),
    deployment("big", replicas=60),
    pod("db-0", labels={"app": "db"}, hostname="db-0", subdomain="db"),
    service("orders", {"name": "http", "port": 80, "targetPort": 8080}, **VIPS),
    service("big", {"port": 80}, clusterIP="None"),
    service("db", {"name": "sql", "port": 5432}, clusterIP="None"),
    made(Service, "ext", {"spec": {"type": "ExternalName", "externalName": "example.com"}}),
    made(
        Service,
        "alias",
        {"spec": {"type": "ExternalName", "externalName": "orders.shop.svc.cluster.local."}},
    ),
    made(
        Service,
        "loop",
        {"spec": {"type": "ExternalName", "externalName": "loop.shop.svc.cluster.local"}},
    ),
    made(Service, "manual", {"spec": {"clusterIP": "None", "ports": [{"port": 1}]}}),
    made(
        EndpointSlice,
        "manual-1",
        {
            "metadata": {
                "name": "manual-1",
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "manual"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["192.0.2.7"]}],
        },
    ),
]
STATE = simulate(OBJECTS)
DOMAIN = "svc.cluster.local"


def zone() -> Zone:
    services = [one for one in OBJECTS if isinstance(one, Service)]
    slices = [one for one in OBJECTS if isinstance(one, EndpointSlice)]
    return build_zone(
        services=[*services, *STATE.services],
        slices=[*slices, *STATE.slices],
        pods=STATE.pods,
        namespaces=["shop", "default", "empty"],
    )


def server() -> DnsServer:
    made_server = DnsServer()
    made_server.zone = zone()
    return made_server


SERVER = server()


def ask(name: str, kind: str = "A", *, udp: bool = True, edns: bool = True) -> dns.message.Message:
    query = dns.message.make_query(name, kind, use_edns=0 if edns else -1, payload=4096)
    answer = dns.message.from_wire(SERVER.respond(query.to_wire(), udp=udp))
    assert query.is_response(answer)
    return answer


def texts(answer: dns.message.Message) -> list[str]:
    return sorted(item.to_text() for rrset in answer.answer for item in rrset)


def addresses(name: str) -> set[str]:
    (found,) = (one for one in STATE.pods if one.metadata.name == name)
    return set(found.addresses)


@pytest.mark.parametrize(("kind", "values"), [("A", ["10.96.1.1"]), ("AAAA", ["fd96::1:1"])])
def test_service_has_its_virtual_addresses(kind: str, values: list[str]) -> None:
    answer = ask(f"orders.shop.{DOMAIN}", kind)
    assert texts(answer) == values
    assert answer.rcode() == dns.rcode.NOERROR
    assert answer.flags & dns.flags.AA


def test_headless_service_has_the_addresses_of_its_pods() -> None:
    both = {*texts(ask(f"db.shop.{DOMAIN}")), *texts(ask(f"db.shop.{DOMAIN}", "AAAA"))}
    assert both == addresses("db-0")


def test_headless_service_without_selector_has_the_written_endpoints() -> None:
    assert texts(ask(f"manual.shop.{DOMAIN}")) == ["192.0.2.7"]


def test_pod_of_a_headless_service_has_a_name() -> None:
    assert set(texts(ask(f"db-0.db.shop.{DOMAIN}"))) < addresses("db-0")


def test_srv_of_a_service_names_the_service() -> None:
    answer = ask(f"_http._tcp.orders.shop.{DOMAIN}", "SRV")
    assert texts(answer) == [f"0 100 80 orders.shop.{DOMAIN}."]


def test_srv_of_a_headless_service_names_each_pod() -> None:
    answer = ask(f"_sql._tcp.db.shop.{DOMAIN}", "SRV")
    assert texts(answer) == [f"0 100 5432 db-0.db.shop.{DOMAIN}."]


def test_address_with_dashes_is_the_name_of_a_pod() -> None:
    ipv4 = next(one for one in addresses("db-0") if "." in one)
    assert texts(ask(f"{ipv4.replace('.', '-')}.shop.pod.cluster.local")) == [ipv4]


def test_reverse_names_lead_to_services_and_named_pods() -> None:
    assert texts(ask("1.1.96.10.in-addr.arpa", "PTR")) == [f"orders.shop.{DOMAIN}."]
    for address in addresses("db-0"):
        reverse = dns.name.from_text(dns.reversename.from_address(address).to_text())
        assert texts(ask(reverse.to_text(), "PTR")) == [f"db-0.db.shop.{DOMAIN}."]


def test_external_name_is_an_alias() -> None:
    assert texts(ask(f"ext.shop.{DOMAIN}")) == ["example.com."]


def test_alias_inside_the_cluster_is_followed() -> None:
    assert texts(ask(f"alias.shop.{DOMAIN}")) == ["10.96.1.1", f"orders.shop.{DOMAIN}."]


def test_alias_of_itself_ends() -> None:
    assert ask(f"loop.shop.{DOMAIN}").rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize(
    "name",
    [f"none.shop.{DOMAIN}", f"orders.nowhere.{DOMAIN}", f"x.orders.shop.{DOMAIN}"],
)
def test_unknown_name_does_not_exist(name: str) -> None:
    answer = ask(name)
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert answer.authority[0].rdtype == dns.rdatatype.SOA


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (f"orders.shop.{DOMAIN}", "MX"),
        (f"shop.{DOMAIN}", "A"),
        (f"empty.{DOMAIN}", "A"),
        (DOMAIN, "A"),
        (f"_tcp.orders.shop.{DOMAIN}", "SRV"),
        (f"manual.shop.{DOMAIN}", "AAAA"),
    ],
)
def test_existing_name_without_such_a_record_has_no_data(name: str, kind: str) -> None:
    answer = ask(name, kind)
    assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])
    assert answer.authority[0].rdtype == dns.rdatatype.SOA


@pytest.mark.parametrize("name", ["example.com", ".", "8.8.8.8.in-addr.arpa", "10.in-addr.arpa"])
def test_names_of_others_are_refused(name: str) -> None:
    assert ask(name).rcode() == dns.rcode.REFUSED


def test_unknown_address_of_the_cluster_does_not_exist() -> None:
    assert ask("9.9.96.10.in-addr.arpa", "PTR").rcode() == dns.rcode.NXDOMAIN


def test_case_of_a_name_does_not_matter_and_comes_back() -> None:
    answer = ask(f"OrDers.Shop.{DOMAIN}")
    assert answer.question[0].name.to_text() == f"OrDers.Shop.{DOMAIN}."
    assert len(texts(answer)) == 1


def test_long_answer_is_cut_over_udp_and_whole_over_tcp() -> None:
    short, cut = ask(f"big.shop.{DOMAIN}", edns=False), ask(f"big.shop.{DOMAIN}", "AAAA")
    assert short.flags & dns.flags.TC
    assert cut.flags & dns.flags.TC
    assert len(texts(ask(f"big.shop.{DOMAIN}", udp=False))) == 60


def test_schema_version_is_told() -> None:
    assert texts(ask("dns-version.cluster.local", "TXT")) == ['"1.1.0"']


def test_other_classes_and_operations_are_not_answered() -> None:
    chaos = dns.message.make_query("version.bind", "TXT", "CH")
    answer = dns.message.from_wire(SERVER.respond(chaos.to_wire(), udp=True))
    assert answer.rcode() == dns.rcode.REFUSED
    update = bytearray(dns.message.make_query(f"orders.shop.{DOMAIN}", "A").to_wire())
    update[2] |= 0x28
    assert SERVER.respond(bytes(update), udp=True)[3] & 15 == dns.rcode.NOTIMP


@settings(deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_are_answered_or_dropped(message: bytes) -> None:
    answer = SERVER.respond(message, udp=True)
    assert not answer or answer[:2] == message[:2]


@settings(deadline=None)
@given(
    st.lists(st.text("abcXYZ019-_", min_size=1, max_size=63), max_size=3),
    st.sampled_from(["A", "AAAA", "SRV", "PTR", "ANY", "MX"]),
    st.data(),
)
def test_mutated_queries_are_parsed_as_dnspython_parses_them(
    labels: list[str], kind: str, data: st.DataObject
) -> None:
    name = ".".join(labels) or "."
    wire = bytearray(dns.message.make_query(name, kind, use_edns=0).to_wire())
    at = data.draw(st.integers(12, len(wire) - 1))
    wire[at] = data.draw(st.integers(0, 255))
    try:
        mine = parse_query(bytes(wire))
    except MalformedQueryError:
        return
    try:
        theirs = dns.message.from_wire(bytes(wire), ignore_trailing=True)
    except Exception:  # noqa: BLE001 - dnspython also checks what lies behind the question
        return
    if theirs.question and b"." not in b"".join(theirs.question[0].name.labels):
        expected = b".".join(theirs.question[0].name.labels[:-1]).decode("latin-1").lower()
        assert mine.name == expected
        assert mine.type == theirs.question[0].rdtype


async def test_server_answers_by_udp_and_tcp_on_both_families() -> None:
    running = server()

    async def make(family: int, kind: int) -> socket.socket:
        return socket.socket(family, kind | socket.SOCK_NONBLOCK)

    port = _free_port()
    await running.start(make, ("127.0.0.1", "::1"), port)
    try:
        query = dns.message.make_query(f"orders.shop.{DOMAIN}", "A")
        for host in ("127.0.0.1", "::1"):
            answer = await asyncio.to_thread(_udp, host, port, query.to_wire())
            assert texts(dns.message.from_wire(answer)) == ["10.96.1.1"]
            answer = await _tcp(host, port, query.to_wire())
            assert texts(dns.message.from_wire(answer)) == ["10.96.1.1"]
    finally:
        await running.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _udp(host: str, port: int, message: bytes) -> bytes:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect((host, port))
        client.send(message)
        return client.recv(4096)


async def _tcp(host: str, port: int, message: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(len(message).to_bytes(2, "big") + message)
    length = int.from_bytes(await reader.readexactly(2), "big")
    answer = await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
    return answer
