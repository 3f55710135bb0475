"""TCPRoutes and UDPRoutes on Services, from pod to pod."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from penstock.bpf.capabilities import missing_capabilities
from penstock.lab.rights import missing_rights
from penstock.lab.state import PodRecord, read_state
from support.siege import REFUSED, Outcome, Siege, ask, connect, request, siege, talk

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


def route(*backends: tuple[str, int, int], kind: str = "TCPRoute", namespace: str = "siege") -> str:
    """Return a route on the Service; *backends* are name, port and weight."""
    refs = [
        {"name": name, "namespace": "siege", "port": port, "weight": weight}
        for name, port, weight in backends
    ]
    parent = {"group": "", "kind": "Service", "name": "split", "namespace": "siege"}
    return "---\n" + json.dumps(
        {
            "apiVersion": "gateway.networking.k8s.io/v1alpha2",
            "kind": kind,
            "metadata": {"name": "split", "namespace": namespace},
            "spec": {"parentRefs": [parent], "rules": [{"backendRefs": refs}]},
        }
    ) + "\n"  # fmt: skip


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
    flows = lab.penstock("observe", "--last", "500", "-o", "json").stdout
    found = [json.loads(line) for line in flows.splitlines()]
    led = [one for one in found if one["destination"].get("service") == "siege/split"]
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
