"""The same verdict on every way to a server, whoever asks and however the request is dressed up."""

from __future__ import annotations

import contextlib
import http.client
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock.bpf.capabilities import missing_capabilities
from penstock.lab.rights import missing_rights
from support.siege import (
    CLOSED,
    REFUSED,
    Outcome,
    Place,
    Siege,
    ask,
    connect,
    family_of,
    query,
    request,
    resolve,
    siege,
    talk,
)

pytestmark = pytest.mark.timeout(240)

V4, V6 = socket.AF_INET, socket.AF_INET6
IP_TRANSPARENT, IPV6_FREEBIND, PACKET_QDISC_BYPASS = 19, 78, 20
Way = tuple[str, int]


@pytest.fixture(scope="module")
def lab() -> Iterator[Siege]:
    if missing := missing_rights() or missing_capabilities():
        pytest.skip(missing[0])
    with siege("verdicts") as running:
        yield running


def token() -> str:
    return secrets.token_hex(6)


WAYS: dict[str, Callable[[Siege], Way]] = {
    "virtual-ipv4": lambda lab: (lab.vip("server"), 80),
    "virtual-ipv6": lambda lab: (lab.vip("server", V6), 80),
    "virtual-ipv4-mapped": lambda lab: ("::ffff:" + lab.vip("server"), 80),
    "version": lambda lab: (lab.vip("server-v2"), 80),
    "headless": lambda lab: (lab.vip("server-headless"), 8080),
    "headless-ipv6": lambda lab: (lab.vip("server-headless", V6), 8080),
    "pod-ipv4": lambda lab: (lab.address("server-v1"), 8080),
    "pod-ipv6": lambda lab: (lab.address("server-v1", V6), 8080),
    "pod-ipv4-mapped": lambda lab: ("::ffff:" + lab.address("server-v1"), 8080),
}
PODS = [way for way in WAYS if not way.startswith("v")]
SOURCES: dict[str, tuple[Callable[[Siege], Place], list[str], tuple[Outcome, Outcome, Outcome]]] = {
    "client": (lambda lab: lab.inside("client"), list(WAYS), (200, 403, 403)),
    "intruder": (lambda lab: lab.inside("intruder"), list(WAYS), (REFUSED, REFUSED, REFUSED)),
    # Only sockets of pods' cgroups know virtual addresses; the server's side judges all.
    "client-beside-its-cgroup": (lambda lab: lab.beside("client"), PODS, (200, 403, 403)),
    "intruder-beside-its-cgroup": (
        lambda lab: lab.beside("intruder"), PODS, (REFUSED, REFUSED, REFUSED),
    ),
    "node": (lambda lab: lab.node(), PODS, (200, 200, 200)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "way"), [(source, way) for source, (_, ways, _) in SOURCES.items() for way in ways]
)
def test_verdict_depends_on_who_asks_for_what_and_not_on_the_way(
    lab: Siege, source: str, way: str
) -> None:
    place, _, expected = SOURCES[source]
    mark = token()
    asked = (("GET", f"/public/{mark}"), ("POST", f"/public/{mark}"), ("GET", f"/private/{mark}"))
    got = tuple(ask(place(lab), *WAYS[way](lab), request(*one)).outcome for one in asked)
    assert got == expected
    reached = [note["line"] for note in lab.reached(mark) if note["what"] == "request"]
    allowed = [f"{m} {p} HTTP/1.1" for (m, p), e in zip(asked, expected, strict=True) if e == 200]
    assert reached == allowed


def test_virtual_addresses_lead_nowhere_without_the_programs(lab: Siege) -> None:
    for place in (lab.beside("client"), lab.node()):
        reply = ask(place, lab.vip("server"), 80, request("GET", "/public/"))
        assert str(reply.outcome).startswith("unreachable")


@pytest.mark.parametrize(
    ("way", "who", "expected"),
    [
        (way, who, code)
        for way in ("virtual", "pod")
        for who, code in (("client", 200), ("intruder", REFUSED), ("watcher", REFUSED))
    ],
)
def test_l4_policy_looks_at_no_request(lab: Siege, way: str, who: str, expected: Outcome) -> None:
    target = (lab.vip("vault"), 80) if way == "virtual" else (lab.address("vault"), 8080)
    mark = token()
    for method, path in (("GET", "/"), ("POST", "/private")):
        assert ask(lab.inside(who), *target, request(method, path + mark)).outcome == expected
    assert bool(lab.reached(mark)) is (expected == 200)


# The client's side


@pytest.mark.parametrize("way", WAYS)
def test_egress_rules_look_into_requests_on_every_way(lab: Siege, way: str) -> None:
    mark, place, target = token(), lab.inside("watcher"), WAYS[way](lab)
    assert ask(place, *target, request("GET", f"/public/w{mark}")).outcome == 200
    for method, path in (("GET", "/public/x"), ("POST", "/public/w"), ("GET", "/private")):
        assert ask(place, *target, request(method, f"{path}?{mark}")).outcome == 403
    assert [n["line"] for n in lab.reached(mark) if n["what"] == "request"] == [
        f"GET /public/w{mark} HTTP/1.1"
    ]


@pytest.mark.parametrize("who", ["client", "watcher"])
def test_backends_of_one_service_keep_rules_of_their_own(lab: Siege, who: str) -> None:
    place, vip = lab.inside(who), lab.vip("mixed")
    prefix = "w" if who == "watcher" else ""
    paths = {f"mixed-{part}": f"/{prefix}{part}" for part in "ab"}
    for pod, path in paths.items():
        replies = [ask(place, vip, 80, request("GET", path)) for _ in range(16)]
        assert {reply.outcome for reply in replies} <= {200, 403}
        answered = {reply.headers["x-version"] for reply in replies if reply.outcome == 200}
        assert answered == {pod}
        for other in paths:
            direct = ask(place, lab.address(other), 8080, request("GET", path)).outcome
            assert direct == (200 if other == pod else 403)


# Requests in disguise

TRICKS = [
    ("/public/../private", {403}), ("/public/..;/private", {403}),
    ("/public/%2e%2e/private", {403}), ("/public/..%2fprivate", {400}),
    ("/public\\..\\private", {403}), ("/public/%5c..%5cprivate", {400}), ("/PUBLIC/x", {403}),
    ("/private#/public", {400}), ("/private%00/public", {400}), ("/private?/public", {403}),
    ("/private;/public", {403}), ("//private", {403}), ("/./private", {403}), ("*", {400}),
    ("http://public/private", {403}), ("/public/../../public/../private", {403}),
]  # fmt: skip


def _noted(lab: Siege, what: str) -> list[dict[str, Any]]:
    """Return what servers wrote down of one kind; of connections there is always a new probe's."""
    return [note for note in lab.notes("server") if note["what"] == what]


@pytest.mark.parametrize(("path", "expected"), TRICKS)
@pytest.mark.parametrize("way", ["virtual-ipv4", "pod-ipv4"])
def test_path_in_disguise_does_not_get_where_its_plain_form_does_not(
    lab: Siege, way: str, path: str, expected: set[int]
) -> None:
    before = _noted(lab, "request")
    assert ask(lab.inside("client"), *WAYS[way](lab), request("GET", path)).outcome in expected
    assert _noted(lab, "request") == before


@pytest.mark.parametrize("path", ["//public/x", "/./public/x", "/x/../public/x"])
def test_server_sees_the_path_that_was_judged(lab: Siege, path: str) -> None:
    for way in ("virtual-ipv4", "pod-ipv4"):
        reply = ask(lab.inside("client"), *WAYS[way](lab), request("GET", path))
        assert reply.seen["line"] == "GET /public/x HTTP/1.1"


STRIPPED = [
    "x-envoy-original-dst-host", "x-envoy-original-path", "x-envoy-decorator-operation",
    "x-envoy-internal", "x-envoy-upstream-rq-timeout-ms", "x-envoy-max-retries",
    "x-envoy-retry-on", "x-envoy-external-address", "x-envoy-force-trace",
    "x-forwarded-client-cert", "x-penstock-scope",
]  # fmt: skip


@pytest.mark.parametrize("name", STRIPPED)
def test_forged_header_changes_nothing_and_reaches_nobody(lab: Siege, name: str) -> None:
    vault = lab.address("vault")
    values = [f"in|{vault}:8080", f"eg|-|{lab.vip('vault')}:80", f"{vault}:8080", "/public/x"]
    for way in ("virtual-ipv4", "pod-ipv4"):
        for value in values:
            forged = (name, value)
            target = WAYS[way](lab)
            reply = ask(lab.inside("client"), *target, request("GET", "/public/x", forged))
            assert reply.outcome == 200
            assert reply.seen["version"] in ("v1", "v2")
            assert name not in dict(reply.seen["headers"])
            denied = ask(lab.inside("client"), *target, request("GET", "/private", forged))
            assert denied.outcome == 403


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x00\xc5\x01\x00\x00\xc1\x03\x03" + b"TOKEN" * 40,
        b"SSH-2.0-TOKEN\r\n",
        b"\x00\x00\x00\x10TOKEN\x00" * 8,
        b"CONNECT TOKEN:80 HTTP/1.1\r\nhost: TOKEN\r\n\r\n",
        (
            b"GET /public HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked"
            b"\r\n\r\n0\r\n\r\nGET /TOKEN HTTP/1.1\r\n\r\n"
        ),
        b"GET /public HTTP/1.1\r\nhost : a\r\n x: TOKEN\r\n\r\n",
        b"POST /public HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nTOKEN",
    ],
    ids=["tls", "ssh", "binary", "connect", "two-lengths", "space-before-colon", "lengths-differ"],
)
@pytest.mark.parametrize("way", ["virtual-ipv4", "pod-ipv4"])
def test_what_is_no_request_never_falls_through_to_the_server(
    lab: Siege, way: str, raw: bytes
) -> None:
    mark = token()
    with connect(lab.inside("client"), *WAYS[way](lab)) as connection:
        reply = talk(connection, raw.replace(b"TOKEN", mark.encode()))
    assert reply.outcome in (CLOSED, 400, 403, 404)
    assert lab.reached(mark) == []


@pytest.mark.parametrize("way", ["virtual-ipv4", "pod-ipv4"])
def test_request_in_single_bytes_is_judged_whole(lab: Siege, way: str) -> None:
    mark = token()
    with connect(lab.inside("client"), *WAYS[way](lab)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw = request("GET", f"/private/{mark}")
        for at in range(len(raw) - 1):
            connection.send(raw[at : at + 1])
        assert talk(connection, raw[-1:]).outcome == 403
    assert lab.reached(mark) == []


@pytest.mark.parametrize("way", ["virtual", "pod"])
def test_server_that_speaks_first_is_not_heard_where_rules_look_into_requests(
    lab: Siege, way: str
) -> None:
    target = lab.vip("greeting") if way == "virtual" else lab.address("server-v1")
    before = _noted(lab, "greeted")
    with connect(lab.inside("client"), target, 9000) as connection:
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(100)
    assert _noted(lab, "greeted") == before


def test_upgrade_is_judged_as_the_request_that_it_is(lab: Siege) -> None:
    websocket = (("upgrade", "websocket"), ("connection", "upgrade"))
    h2c = (("upgrade", "h2c"), ("connection", "upgrade, http2-settings"), ("http2-settings", "AA"))
    for headers in (websocket, h2c):
        for way in ("virtual-ipv4", "pod-ipv4"):
            raw = request("GET", "/private", *headers)
            assert ask(lab.inside("client"), *WAYS[way](lab), raw).outcome == 403


# Sockets in disguise


@pytest.mark.parametrize("mark", [0x9E570001, 0x9E570002, 0x9E570003, 0x9E570004, 0x9E5700FF])
def test_mark_of_envoy_on_a_socket_of_a_pod_is_no_privilege(lab: Siege, mark: int) -> None:
    raw = request("GET", "/private")
    server, vault = (lab.address("server-v1"), 8080), (lab.address("vault"), 8080)
    for place, expected in (
        (lab.inside("client"), 403), (lab.beside("client"), 403),
        (lab.inside("intruder"), REFUSED), (lab.beside("intruder"), REFUSED),
    ):  # fmt: skip
        assert ask(place, *server, raw, mark=mark).outcome == expected
    for place in (lab.inside("intruder"), lab.beside("intruder")):
        assert ask(place, *vault, raw, mark=mark).outcome == REFUSED


@pytest.mark.parametrize("port", [15000, 15001, 15006, 15008, 15021])
def test_ports_of_envoy_are_closed_to_pods_and_node(lab: Siege, port: int) -> None:
    places = [lab.inside("intruder"), lab.node()]
    addresses = ["127.0.0.1", "::1", "0.0.0.0", "127.0.0.2", "::ffff:127.0.0.1"]
    addresses += [
        lab.address(pod, family) for pod in ("server-v1", "intruder") for family in (V4, V6)
    ]
    for place in places:
        for address in addresses:
            assert ask(place, address, port, request("GET", "/public")).outcome == REFUSED


def test_envoy_s_listeners_serve_nothing_to_who_came_without_a_destination(lab: Siege) -> None:
    for pod in ("client", "server-v1"):
        for address in ("127.0.0.1", "::1"):
            place, raw = lab.beside(pod), request("GET", "/public")
            assert ask(place, address, 15001, raw).outcome in (404, 503)
            assert ask(place, address, 15006, raw).outcome == 403


def test_tcp_with_a_borrowed_source_address_gets_no_answer(lab: Siege) -> None:
    mark = token()
    for source in (lab.address("client"), "10.244.0.1", lab.address("server-v1")):
        for place in (lab.inside("intruder"), lab.beside("intruder")):
            made = place.socket(V4)
            made.settimeout(0.3)
            with made:
                made.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
                made.bind((source, 0))
                with contextlib.suppress(OSError):
                    made.connect((lab.address("server-v1"), 8080))
                    made.sendall(request("GET", f"/public/{mark}"))
    assert lab.reached(mark) == []


# Not TCP


def heard(place: Place, address: str, text: str, *, source: str = "") -> bool:
    """Tell whether a datagram is answered."""
    family = family_of(address)
    with place.socket(family, socket.SOCK_DGRAM) as made:
        made.settimeout(0.25)
        if source:
            level, option = (41, IPV6_FREEBIND) if family == V6 else (0, IP_TRANSPARENT)
            made.setsockopt(level, option, 1)
            made.bind((source, 0))
        try:
            made.sendto(text.encode(), (address, 9053))
            return made.recv(100).startswith(b"heard")
        except OSError:
            return False


def test_udp_to_a_pod_with_tcp_rules_is_closed(lab: Siege) -> None:
    mark = token()
    for place in (lab.inside("client"), lab.inside("intruder"), lab.beside("intruder")):
        for pod in ("server-v1", "vault"):
            for family in (V4, V6):
                assert not heard(place, lab.address(pod, family), mark)
    assert not heard(lab.inside("client"), lab.vip("datagrams"), mark)
    assert lab.reached(mark) == []
    assert heard(lab.inside("client"), lab.address("intruder"), mark)


@pytest.mark.parametrize("family", [V4, V6], ids=["ipv4", "ipv6"])
def test_datagram_with_a_borrowed_source_address_reaches_nobody(lab: Siege, family: int) -> None:
    mark = token()
    node = "fd44::1" if family == V6 else "10.244.0.1"
    sources = (node, lab.address("client", family), lab.address("vault", family))
    for place in (lab.inside("intruder"), lab.beside("intruder")):
        for source in sources:
            for target in ("server-v1", "vault", "watcher"):
                assert not heard(place, lab.address(target, family), mark, source=source)
    assert lab.reached(mark) == []


@pytest.mark.parametrize("bypass", [0, 1], ids=["queued", "past-the-queue"])
def test_packet_that_a_pod_wrote_itself_does_not_pass_for_the_node_s(
    lab: Siege, bypass: int
) -> None:
    mark = token()
    place, target = lab.inside("intruder"), lab.address("server-v1", V6)
    with place.socket(socket.AF_PACKET, socket.SOCK_RAW) as made:
        made.bind(("eth0", 0x86DD))
        made.setsockopt(263, PACKET_QDISC_BYPASS, bypass)
        mac: bytes = made.getsockname()[4]
        made.send(b"\x02\x01" + mac[2:] + mac + b"\x86\xdd" + udp6("fd44::1", target, mark))
    assert heard(lab.node(), target, f"{mark}-honest")
    assert [note["text"] for note in lab.reached(mark)] == [f"{mark}-honest"]


def udp6(source: str, target: str, text: str) -> bytes:
    """Return an IPv6 packet with one datagram to the recorder."""
    ends = socket.inet_pton(V6, source) + socket.inet_pton(V6, target)
    size = 8 + len(text)
    datagram = struct.pack(">4H", 4444, 9053, size, 0) + text.encode()
    words = ends + struct.pack(">II", size, 17) + datagram + b"\0" * (size % 2)
    total = sum(struct.unpack(f">{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    datagram = datagram[:6] + struct.pack(">H", ~total & 0xFFFF) + datagram[8:]
    return struct.pack(">IHBB", 6 << 28, size, 17, 64) + ends + datagram


def test_ping_is_no_way_around_policy(lab: Siege) -> None:
    echo = b"\x08\0\0\0\0\1\0\1token"
    for who, target, passes in (
        ("intruder", "server-v1", False), ("client", "vault", False), ("watcher", "client", False),
        ("intruder", "client", True),
    ):  # fmt: skip
        with lab.inside(who).socket(V4, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as made:
            if passes:
                made.sendto(echo, (lab.address(target), 0))
                assert made.recv(100)
            else:
                with pytest.raises(PermissionError):
                    made.sendto(echo, (lab.address(target), 0))


def test_names_are_resolved_where_policy_allows_dns_and_nothing_else(lab: Siege) -> None:
    assert resolve(lab.inside("watcher"), "server.siege.svc.cluster.local")
    made = lab.inside("watcher").socket(V4, socket.SOCK_DGRAM)
    with made, pytest.raises(ConnectionRefusedError):
        made.sendto(query("server", 1), ("10.96.0.10", 5353))


# Through the Gateway


def at_gateway(lab: Siege, method: str, path: str, host: str) -> Outcome:
    connection = http.client.HTTPConnection("127.0.0.1", lab.port, timeout=5)
    try:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("host", host)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "host", "expected"),
    [
        ("GET", "/public/g", "server", 200), ("GET", "/public/g", "server:80", 200),
        ("GET", "/public/g", "server.", 200), ("POST", "/public/g", "server", 403),
        ("GET", "/private", "server", 403), ("GET", "/public/../private", "server", 403),
        ("GET", "/public/..%2fprivate", "server", 400), ("GET", "/", "vault", 403),
        ("GET", "/public/g", "a,server", 404), ("GET", "/public/g", "vault@server", 404),
        ("GET", "/public/g", "nobody", 404),
    ],
)  # fmt: skip
def test_gateway_is_a_client_like_others(
    lab: Siege, method: str, path: str, host: str, expected: int
) -> None:
    assert at_gateway(lab, method, path, host) == expected


def test_pods_reach_the_gateway_and_are_the_gateway_s_clients_there(lab: Siege) -> None:
    gateway = lab.gateway_address()
    for who, expected in (("client", (200, 403)), ("intruder", (200, 403)), ("watcher", None)):
        got = tuple(
            ask(lab.inside(who), gateway, lab.port, request("GET", path)).outcome
            for path in ("/public/g", "/private")
        )
        assert got == (expected or (REFUSED, REFUSED))


# The pod and itself


def test_pod_talks_to_itself_without_policy_and_without_a_loop(lab: Siege) -> None:
    place, mark = lab.inside("server-v1"), token()
    for address in ("127.0.0.1", "::1", lab.address("server-v1"), lab.address("server-v1", V6)):
        assert ask(place, address, 8080, request("GET", f"/private/{mark}")).outcome == 200
    began = time.monotonic()
    assert ask(place, lab.vip("server-v1"), 80, request("GET", "/public/")).outcome in (200, 403)
    assert time.monotonic() - began < 1
    assert len(lab.reached(mark)) == 4


def test_denials_name_the_line_that_decided(lab: Siege) -> None:
    mark = token()
    ask(lab.inside("client"), lab.vip("server"), 80, request("GET", f"/private/{mark}"))
    ask(lab.inside("intruder"), lab.address("vault"), 8080, request("GET", "/"))

    def told() -> bool:
        lines = lab.penstock("observe", "--last", "200", "--verdict", "DENIED").stdout
        by_request = [x for x in lines.splitlines() if mark in x and "policy.yaml:" in x]
        by_connect = [
            x for x in lines.splitlines()
            if "intruder" in x and "vault" in x and "policy.yaml:" in x
        ]  # fmt: skip
        return bool(by_request and by_connect)

    lab.until(told)
