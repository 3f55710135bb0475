"""TLSRoutes, TCPRoutes and UDPRoutes on Services, from pod to pod."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pytest

from penstock.bpf.capabilities import missing_capabilities
from penstock.lab.rights import missing_rights
from penstock.lab.state import PodRecord, read_state
from support.pki import issue
from support.siege import CLOSED, REFUSED, Outcome, Siege, ask, connect, request, siege, talk

pytestmark = pytest.mark.timeout(240)

ASKED = request("GET", "/public/x")
SERVICE = """apiVersion: v1
kind: Service
metadata: {name: split, namespace: siege}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: nobody}
  ports:
    - {name: tcp, port: 7000}
    - {name: udp, port: 7000, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: siege}
spec:
  selector: {app: client}
  ports:
    - {name: udp, port: 9053, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: secure-client, namespace: siege}
spec:
  selector: {app: client}
  ports:
    - {port: 443, targetPort: 8443}
---
apiVersion: v1
kind: Service
metadata: {name: secure-intruder, namespace: siege}
spec:
  selector: {app: intruder}
  ports:
    - {port: 443, targetPort: 8443}
"""
CONSUMER = """
---
apiVersion: v1
kind: Namespace
metadata: {name: team}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: consumer, namespace: team}
spec:
  selector: {matchLabels: {app: consumer}}
  template:
    metadata: {labels: {app: consumer}}
    spec:
      terminationGracePeriodSeconds: 3
      containers:
        - name: app
          image: recorder
          command: ["@PYTHON@", "-I", "-S", "@RECORDER@"]
          env: [{name: VERSION, value: consumer}]
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1}
"""


def route(
    *backends: tuple[str, int, int],
    kind: str = "TCPRoute",
    namespace: str = "siege",
    name: str = "split",
    hosts: Sequence[str] = (),
) -> str:
    """Return a route on the Service; *backends* are name, port and weight."""
    refs = [
        {"name": to, "namespace": "siege", "port": port, "weight": weight}
        for to, port, weight in backends
    ]
    parent = {"group": "", "kind": "Service", "name": "split", "namespace": "siege"}
    return "---\n" + json.dumps(
        {
            "apiVersion": "gateway.networking.k8s.io/v1alpha2",
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "parentRefs": [parent],
                "rules": [{"backendRefs": refs}],
                **({"hostnames": list(hosts)} if hosts else {}),
            },
        }
    ) + "\n"  # fmt: skip


EXACT = route(("secure-intruder", 443, 1), kind="TLSRoute", name="exact", hosts=["a.test"])
WIDE = route(("secure-client", 443, 1), kind="TLSRoute", name="wide", hosts=["*.test"])
CLOSED_SERVER = """apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: closed, namespace: siege}
spec:
  endpointSelector: {matchLabels: {app: intruder}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: client}}]
"""
CLOSED_CLIENT = """apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: closed, namespace: team}
spec:
  endpointSelector: {matchLabels: {app: consumer}}
  egress:
    - toEndpoints: [{matchLabels: {app: client, "k8s:io.kubernetes.pod.namespace": siege}}]
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Siege]:
    if missing := missing_rights() or missing_capabilities():
        pytest.skip(missing[0])
    lab_files = ("apps", "policy", "server")
    with siege("streams", only=lab_files) as running:
        running.write("split.yaml", SERVICE + CONSUMER)
        running.until(lambda: any(one.name.startswith("consumer") for one in ready(running)))
        yield running


@pytest.fixture(autouse=True)
def whole(lab: Siege) -> Iterator[None]:
    yield
    written(lab)
    lab.until(lambda: outcome(lab, "client") == REFUSED)


def ready(lab: Siege) -> list[PodRecord]:
    return [one for one in read_state(lab.paths).pods if one.ready]


def outcome(lab: Siege, who: str, family: int = socket.AF_INET) -> Outcome:
    """Return who answers on a new connection to the Service, or why nobody does."""
    reply = ask(lab.inside(who), lab.vip("split", family), 7000, ASKED)
    return str(reply.seen["version"]) if reply.outcome == 200 else reply.outcome


def written(lab: Siege, *routes: str) -> None:
    """Let there be these routes and no others."""
    if routes:
        lab.write("route.yaml", "".join(routes).removeprefix("---\n"))
    else:
        (lab.folder / "route.yaml").unlink(missing_ok=True)


def test_weights_hold_and_policy_judges_the_pod_that_was_chosen(lab: Siege) -> None:
    written(lab, route(("vault", 80, 1), ("client", 80, 1)))
    lab.until(lambda: outcome(lab, "client") != REFUSED)
    for family in (socket.AF_INET, socket.AF_INET6):
        allowed = Counter(outcome(lab, "client", family) for _ in range(60))
        assert allowed.keys() == {"vault", "client"}
        denied = Counter(outcome(lab, "intruder", family) for _ in range(60))
        assert denied.keys() == {REFUSED, "client"}
        assert 10 < denied[REFUSED] < 50  # 5 standard deviations
    led = [one for one in flows(lab) if one["destination"].get("service") == "siege/split"]
    ends = {
        (one["verdict"], one["source"]["pod"][:6], one["destination"].get("pod", "")[:5])
        for one in led
    }
    assert {("FORWARDED", "client", "vault"), ("FORWARDED", "intrud", "clien")} <= ends


def test_open_connections_outlive_weights_and_the_route_itself(lab: Siege) -> None:
    written(lab, route(("vault", 80, 1)))
    lab.until(lambda: outcome(lab, "client") == "vault")
    with connect(lab.inside("client"), lab.vip("split"), 7000) as kept:
        assert talk(kept, ASKED).seen["version"] == "vault"
        written(lab, route(("vault", 80, 0), ("mixed", 80, 0), ("client", 80, 1)))
        lab.until(lambda: outcome(lab, "client") == "client")
        assert talk(kept, ASKED).seen["version"] == "vault"
        written(lab)
        lab.until(lambda: outcome(lab, "client") == REFUSED)
        assert talk(kept, ASKED).seen["version"] == "vault"


def test_the_share_of_what_is_not_there_is_refused(lab: Siege) -> None:
    written(lab, route(("vault", 80, 3), ("missing", 80, 1)))
    lab.until(lambda: outcome(lab, "client") == "vault")
    found = Counter(outcome(lab, "client") for _ in range(200))
    assert found.keys() == {REFUSED, "vault"}
    assert 20 < found[REFUSED] < 80  # 4.9 standard deviations


def test_a_consumer_route_is_for_the_pods_of_its_namespace(lab: Siege) -> None:
    producer = route(("vault", 80, 1))
    written(lab, producer, route(("client", 80, 1), namespace="team"))
    lab.until(lambda: (outcome(lab, "client"), outcome(lab, "consumer")) == ("vault", "client"))
    written(lab, producer)
    lab.until(lambda: outcome(lab, "consumer") == REFUSED)  # by the policy of the vault
    assert outcome(lab, "client") == "vault"


def test_servers_that_look_into_requests_do_so(lab: Siege) -> None:
    written(lab, route(("server", 80, 1)))
    lab.until(lambda: outcome(lab, "client") not in {REFUSED, 403})
    vip = lab.vip("split")
    assert ask(lab.inside("client"), vip, 7000, request("GET", "/private")).outcome == 403
    assert outcome(lab, "intruder") == REFUSED


def test_clients_whose_rules_read_requests_are_judged_and_keep_the_weights(lab: Siege) -> None:
    written(lab, route(("mixed", 80, 1)))
    place, vip = lab.inside("watcher"), lab.vip("split")

    def asked(path: str) -> set[Outcome]:
        return {ask(place, vip, 7000, request("GET", path)).outcome for _ in range(12)}

    lab.until(lambda: 200 in asked("/wa"))
    assert asked("/wa") == {200, 403}
    assert asked("/other") == {403}


@contextlib.contextmanager
def tls_server(lab: Siege, pod: str) -> Generator[None]:
    """Let a pod answer TLS on port 8443 with its name, and with what it reads."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued = issue("*.test")
    chain = lab.scratch / f"{pod}.pem"
    chain.write_text(issued.key_pem + issued.pem)
    context.load_cert_chain(chain)
    listener = lab.inside(pod).socket(socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.settimeout(None)
    listener.bind(("0.0.0.0", 8443))
    listener.listen(64)

    def answer(raw: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as made:
            made.sendall(pod.encode())
            while data := made.recv(64):
                made.sendall(data)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def greeted(lab: Siege, who: str, name: str, family: int = socket.AF_INET) -> str:
    """Return which pod answers TLS for a server name, or how nobody does."""
    try:
        made = secured(lab, who, name, family)
    except ConnectionRefusedError:
        return REFUSED
    except OSError:
        return CLOSED
    with made:
        return made.recv(64).decode()


def secured(lab: Siege, who: str, name: str, family: int = socket.AF_INET) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    raw = connect(lab.inside(who), lab.vip("split", family), 7000)
    try:
        return context.wrap_socket(raw, server_hostname=name)
    except BaseException:
        raw.close()
        raise


@pytest.fixture
def secure(lab: Siege) -> Iterator[None]:
    """Two pods answer TLS; one has a.test, the other all below test."""
    with tls_server(lab, "intruder"), tls_server(lab, "client"):
        written(lab, EXACT, WIDE)
        lab.until(lambda: greeted(lab, "consumer", "b.test") == "client")
        try:
            yield
        finally:
            (lab.folder / "closed.yaml").unlink(missing_ok=True)


@pytest.mark.usefixtures("secure")
def test_server_names_say_where_tls_goes(lab: Siege) -> None:
    assert greeted(lab, "consumer", "a.test") == "intruder"
    assert greeted(lab, "client", "a.test") == "intruder"
    assert greeted(lab, "consumer", "x.b.test", socket.AF_INET6) == "client"
    assert greeted(lab, "consumer", "a.other") == CLOSED
    assert greeted(lab, "watcher", "a.test") == REFUSED  # all backends are denied to it
    assert ask(lab.inside("consumer"), lab.vip("split"), 7000, ASKED).outcome == 404
    written(lab, EXACT, WIDE, route(("secure-client", 443, 1), kind="TLSRoute", namespace="team",
                                    hosts=["a.test"]))  # fmt: skip
    lab.until(lambda: greeted(lab, "consumer", "a.test") == "client")
    assert greeted(lab, "consumer", "b.test") == CLOSED  # clients with routes have no others
    assert greeted(lab, "client", "a.test") == "intruder"
    wanted = {("FORWARDED", "client", "intru"), ("FORWARDED", "consum", "clien")}
    lab.until(lambda: wanted <= ends_of(lab, "a.test"))
    lab.until(lambda: ("ERROR", "consum", "") in ends_of(lab, "a.other"))


def ends_of(lab: Siege, host: str) -> set[tuple[str, str, str]]:
    """Return verdict and both pods, their names cut, of what is observed for a server name."""
    return {
        (one["verdict"], one["source"].get("pod", "")[:6], one["destination"].get("pod", "")[:5])
        for one in flows(lab)
        if one.get("host") == host
    }


@pytest.mark.usefixtures("secure")
@pytest.mark.parametrize("side", ["ingress", "egress"])
def test_policy_judges_the_pod_that_tls_is_for(lab: Siege, side: str) -> None:
    kept = secured(lab, "consumer", "a.test")
    lab.write("closed.yaml", CLOSED_SERVER if side == "ingress" else CLOSED_CLIENT)
    lab.until(lambda: greeted(lab, "consumer", "a.test") == CLOSED)
    assert greeted(lab, "consumer", "b.test") == "client"
    assert greeted(lab, "client", "a.test") == "intruder"
    with kept, contextlib.suppress(OSError):  # it is ended, as any that is not allowed any more
        assert kept.recv(64) == b"intruder"
        kept.sendall(b"ping")
        assert kept.recv(64) == b""
    lab.until(
        lambda: any(
            (one["verdict"], one["source"].get("pod", "")[:8]) == ("DENIED", "consumer")
            for one in flows(lab)
        )
    )


@pytest.mark.usefixtures("secure")
def test_open_tls_outlives_changes_of_its_route(lab: Siege) -> None:
    with secured(lab, "consumer", "a.test") as kept:
        assert kept.recv(64) == b"intruder"
        written(lab, route(("secure-client", 443, 1), kind="TLSRoute", hosts=["c.test"]))
        lab.until(lambda: greeted(lab, "consumer", "c.test") == "client")
        lab.until(lambda: greeted(lab, "consumer", "a.test") == CLOSED)
        kept.sendall(b"ping")
        assert kept.recv(64) == b"ping"


def flows(lab: Siege) -> list[dict[str, Any]]:
    told = lab.penstock("observe", "--last", "1000", "-o", "json").stdout
    return [json.loads(line) for line in told.splitlines()]


def test_datagrams_go_by_a_udp_route(lab: Siege) -> None:
    vip = lab.vip("split")

    def answered() -> bool:
        with lab.inside("intruder").socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            try:
                made.sendto(b"question", (vip, 7000))
                _, sender = made.recvfrom(512)
            except OSError:
                return False
            return bool(sender[0] == vip)

    assert not answered()
    written(lab, route(("echo", 9053, 1), kind="UDPRoute"))
    lab.until(answered)
