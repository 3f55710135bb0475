"""Everything changes under load: policy, pods, processes, files. Nothing forbidden gets through."""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from penstock.bpf.capabilities import missing_capabilities
from penstock.lab.rights import missing_rights
from penstock.lab.state import read_state
from penstock.runtime.processes import ProcessId
from support.siege import CLOSED, REFUSED, Outcome, Siege, ask, request, siege
from support.siege_load import Load

pytestmark = pytest.mark.timeout(240)

FLIPS = 20
SKEW = 0.05
"""Seconds between the first refusal and the last answer on other threads and workers."""
ALLOWED, FORBIDDEN = request("GET", "/public/x"), request("GET", "/private")
OPEN_SERVER = """  ingress:
    - fromEntities:
        - all
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Siege]:
    if missing := missing_rights() or missing_capabilities():
        pytest.skip(missing[0])
    with siege("changes") as running:
        yield running


@pytest.fixture(autouse=True)
def whole(lab: Siege) -> Iterator[None]:
    """Every test begins and ends with the scenario as it is written."""
    yield
    lab.restore()
    lab.until(lambda: lab.whole() and not lab.problems() and lab.settled())
    place, vip = lab.inside("client"), lab.vip("server")
    lab.until(lambda: ask(place, vip, 80, ALLOWED).outcome == 200)
    lab.until(lambda: ask(place, vip, 80, FORBIDDEN).outcome == 403)


def without(lab: Siege, *names: str) -> str:
    """Return the policies but for some."""
    return "---\n".join(
        document
        for document in lab.original("policy.yaml").split("---\n")
        if not any(f"  name: {name}\n" in document for name in names)
    )


def with_open_server(lab: Siege) -> str:
    """Return the policies with one for the server that looks at nothing."""
    documents = lab.original("policy.yaml").split("---\n")
    head = documents[0].partition("  ingress:\n")[0]
    return "---\n".join([head + OPEN_SERVER, *documents[1:]])


def ask_all(load: Load, lab: Siege) -> list[str]:
    """Put load on the server from all sides; return the names of what the policy forbids."""
    client, intruder = lab.inside("client"), lab.inside("intruder")
    ways = {
        "vip": (lab.vip("server"), 80),
        "pod": (lab.address("server-v1"), 8080),
        "pod6": (lab.address("server-v1", socket.AF_INET6), 8080),
    }
    for way, target in ways.items():
        load.add(f"allowed-{way}", client, target, ALLOWED)
        load.add(f"forbidden-{way}", client, target, FORBIDDEN)
        load.add(f"intruder-{way}", intruder, target, ALLOWED)
    load.add("intruder-new", intruder, ways["vip"], ALLOWED, keep=False)
    load.add("intruder-beside", lab.beside("intruder"), ways["pod"], ALLOWED)
    forbidden = [*(f"{who}-{way}" for who in ("forbidden", "intruder") for way in ways)]
    return [*forbidden, "intruder-new", "intruder-beside"]


def allowed_failures(load: Load) -> list[Outcome]:
    return [a.outcome for a in load.of() if a.path.startswith("allowed") and a.outcome != 200]


# Processes


def kill(process: ProcessId | None) -> None:
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)


def part(lab: Siege, name: str) -> ProcessId | None:
    found: ProcessId | None = lab.envoy() if name == "envoy" else getattr(lab.processes(), name)
    return found


def wait_for_another(lab: Siege, name: str, old: ProcessId | None, *, whole: bool = True) -> None:
    def runs_again() -> bool:
        new = part(lab, name)
        return new is not None and new != old and new.alive and (not whole or lab.whole())

    lab.until(runs_again, 20)


@pytest.mark.parametrize("name", ["controller", "agent"])
def test_kill_of_a_control_process_is_not_noticed_by_anybody(lab: Siege, name: str) -> None:
    before = envoy_updates(lab)
    with Load() as load:
        forbidden = ask_all(load, lab)
        load.wait(50)
        began, old = time.monotonic(), part(lab, name)
        kill(old)
        wait_for_another(lab, name, old)
        load.wait(200, after=time.monotonic())
    assert allowed_failures(load) == []
    assert sum(load.tally(path, began)[200] for path in forbidden) == 0
    # A new agent answers the first question of each type, though nothing is new.
    allowance = 0 if name == "controller" else 1
    after = envoy_updates(lab)
    assert {key: value for key, value in after.items() if value - before[key] > allowance} == {}


def envoy_updates(lab: Siege) -> dict[str, int]:
    """Return how often Envoy has taken something, by what."""
    connection = http.client.HTTPConnection("envoy")
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(str(lab.paths.envoy_admin))
        connection.sock = made
        connection.request("GET", "/stats?filter=(update_success|update_rejected|config_reload)$")
        lines = connection.getresponse().read().decode().splitlines()
    return {name: int(value) for name, _, value in (line.partition(": ") for line in lines)}


# Policy


def test_policy_that_comes_and_goes_under_load_lets_nothing_forbidden_through(lab: Siege) -> None:
    closed, opened = lab.original("policy.yaml"), with_open_server(lab)
    with Load() as load:
        forbidden = ask_all(load, lab)
        for path in forbidden:
            load.wait(1, path=path)
        for _ in range(FLIPS // 2):
            moment = lab.write("policy.yaml", opened)
            for path in forbidden:
                load.wait_for(200, path, moment)
            moment = lab.write("policy.yaml", closed)
            first = {path: load.wait_refused(path, moment) for path in forbidden}
            load.wait(3, path="intruder-new", after=max(first.values()))
            late = {p: load.tally(p, at + SKEW)[200] for p, at in first.items()}
            assert not any(late.values()), late
    # The price: a connection that takes another way now is cut, once for each change.
    failures = allowed_failures(load)
    assert set(failures) <= {CLOSED, REFUSED}
    assert len(failures) <= 2 * FLIPS
    assert len(load.of()) > 20 * FLIPS


def test_connections_that_go_past_envoy_now_are_not_left_without_routes(lab: Siege) -> None:
    with Load(0.01) as load:
        client, watcher = lab.inside("client"), lab.inside("watcher")
        direct = (lab.address("mixed-a"), 8080)
        load.add("client-pod", client, direct, request("GET", "/a"))
        load.add("watcher-vip", watcher, (lab.vip("mixed"), 80), request("GET", "/wa"))
        load.add("watcher-pod", watcher, direct, request("GET", "/wa"))
        load.wait(5, path="watcher-vip")
        moment = lab.write("policy.yaml", without(lab, "mixed-a", "mixed-b", "watcher"))
        for path in ("client-pod", "watcher-vip", "watcher-pod"):
            ended = load.wait_for(CLOSED, path, moment)
            load.wait(10, path=path, after=ended)
            assert set(load.tally(path, ended)) == {200}
        assert set(load.tally()) <= {200, 403, CLOSED}


# Envoy


def test_kill_of_envoy_closes_until_it_is_back(lab: Siege) -> None:
    with Load() as load:
        forbidden = ask_all(load, lab)
        load.wait(50)
        began, old = time.monotonic(), part(lab, "envoy")
        kill(old)
        wait_for_another(lab, "envoy", old)
        load.wait(200, after=time.monotonic())
    failures = [a for a in load.of() if a.path.startswith("allowed") and a.outcome != 200]
    assert {a.outcome for a in failures} <= {CLOSED, REFUSED}
    assert max(a.done for a in failures) - began < 3
    assert sum(load.tally(path)[200] for path in forbidden) == 0


def test_node_serves_from_its_disk_while_the_controller_is_away(lab: Siege) -> None:
    controller, old_agent, old_envoy = (part(lab, x) for x in ("controller", "agent", "envoy"))
    assert controller is not None
    os.kill(controller.pid, signal.SIGSTOP)
    try:
        kill(old_agent)
        kill(old_envoy)
        wait_for_another(lab, "agent", old_agent, whole=False)
        wait_for_another(lab, "envoy", old_envoy, whole=False)
        client, server = lab.inside("client"), (lab.address("server-v1"), 8080)
        lab.until(lambda: ask(client, *server, ALLOWED).outcome == 200)
        for target in (server, (lab.address("server-v2"), 8080)):
            assert ask(client, *target, FORBIDDEN).outcome == 403
            assert ask(lab.inside("intruder"), *target, ALLOWED).outcome == REFUSED
    finally:
        os.kill(controller.pid, signal.SIGCONT)


# Pods


def test_pods_that_roll_under_load_fail_no_request(lab: Siege) -> None:
    client, intruder = lab.inside("client"), lab.inside("intruder")
    with Load() as load:
        for service in ("server", "server-v1"):
            target = (lab.vip(service), 80)
            load.add(f"allowed-{service}", client, target, ALLOWED)
            load.add(f"allowed-{service}-new", client, target, ALLOWED, keep=False)
            load.add(f"forbidden-{service}", client, target, FORBIDDEN)
            load.add(f"intruder-{service}", intruder, target, ALLOWED, keep=False)
        load.add("allowed-vault-new", client, (lab.vip("vault"), 80), ALLOWED, keep=False)
        load.wait(50)
        old = {name: lab.pod(name).name for name in ("server-v1", "server-v2", "vault")}
        for file in ("server.yaml", "apps.yaml"):
            text = re.sub(r"value: (v1|v2|vault)\n", r"value: \1-next\n", lab.original(file))
            lab.write(file, text)
        lab.until(lambda: all(replaced(lab, name, pod) for name, pod in old.items()), 30)
        load.wait(200, after=time.monotonic())
    assert allowed_failures(load) == []
    assert {a.outcome for a in load.of() if a.path.startswith("forbidden")} == {403}
    assert {a.outcome for a in load.of() if a.path.startswith("intruder")} == {REFUSED}
    assert {a.version for a in load.of("allowed-server-v1")} == {"v1", "v1-next"}


def replaced(lab: Siege, name: str, old: str) -> bool:
    """Tell whether there is a new pod, ready, and the old one is gone."""
    pods = [pod for pod in read_state(lab.paths).pods if pod.name.startswith(name)]
    return len(pods) == 1 and pods[0].name != old and pods[0].ready


SOLO = """apiVersion: v1
kind: Pod
metadata: {name: solo, namespace: siege, labels: {app: LABEL}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: app
      image: recorder
      command: ["@PYTHON@", "-I", "-S", "@RECORDER@"]
      ports: [{name: http, containerPort: 8080}]
      readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1}
"""


def start_solo(lab: Siege, label: str) -> None:
    lab.write("solo.yaml", SOLO.replace("LABEL", label))
    lab.until(lambda: any(p.name == "solo" and p.ready for p in read_state(lab.paths).pods))


def end_solo(lab: Siege) -> None:
    lab.forget("solo")
    (lab.folder / "solo.yaml").unlink()
    lab.until(lambda: all(p.name != "solo" for p in read_state(lab.paths).pods))


def test_pod_with_the_name_address_and_uid_of_another_is_another(lab: Siege) -> None:
    ways = [
        (lab.vip("server"), 80), (lab.address("server-v1"), 8080), (lab.vip("vault"), 80),
        (lab.address("vault"), 8080),
    ]  # fmt: skip
    known = set()
    for label in ("client", "intruder", "client", "intruder"):
        start_solo(lab, label)
        pod = lab.pod("solo")
        known.add((pod.uid, pod.addresses))
        got = {ask(lab.inside("solo"), *way, ALLOWED).outcome for way in ways}
        assert got == {200 if label == "client" else REFUSED}
        end_solo(lab)
    assert len(known) == 1


def test_label_that_changes_on_a_running_pod_changes_what_its_open_connections_may(
    lab: Siege,
) -> None:
    start_solo(lab, "client")
    with Load() as load:
        solo = lab.inside("solo")
        paths = {
            "vip": (lab.vip("server"), 80), "pod": (lab.address("server-v1"), 8080),
            "vault": (lab.address("vault"), 8080),
        }  # fmt: skip
        for path, target in paths.items():
            load.add(path, solo, target, ALLOWED)
            load.wait(10, path=path)
        moment = lab.write("solo.yaml", SOLO.replace("LABEL", "intruder"))
        for path in paths:
            first = load.wait_for(REFUSED, path, moment)
            assert 200 not in load.tally(path, first)
    end_solo(lab)


EAGER = """
import socket, sys, time
while True:
    try:
        made = socket.create_connection((sys.argv[1], 8080), 1)
        made.sendall(b"GET /" + sys.argv[2].encode() + b" HTTP/1.1\\r\\n\\r\\n")
        print("open", flush=True)
    except OSError as error:
        print(error.errno, flush=True)
    time.sleep(0.02)  # the pace: trying without pause would take a core from everybody
"""
AFTERWARDS = 40
"""Tries that are looked at after the pod is known to be ready."""


@pytest.mark.parametrize(("label", "expected"), [("intruder", "111"), ("client", "open")])
def test_first_packet_of_a_pod_is_policed(lab: Siege, label: str, expected: str) -> None:
    mark = secrets.token_hex(4)
    command = ["@PYTHON@", "-I", "-S", "-c", EAGER, lab.address("vault"), mark]
    lines = (line for line in SOLO.splitlines() if "readinessProbe" not in line)
    text = "\n".join(lines).replace('["@PYTHON@", "-I", "-S", "@RECORDER@"]', json.dumps(command))
    log = lab.paths.logs / "siege_solo_app.log"
    before = len(log.read_text()) if log.exists() else 0

    def said() -> list[str]:
        return log.read_text()[before:].splitlines() if log.exists() else []

    lab.write("solo.yaml", text.replace("LABEL", label))
    lab.until(lambda: any(p.name == "solo" and p.ready for p in read_state(lab.paths).pods))
    tries = len(said())
    lab.until(lambda: len(said()) >= tries + AFTERWARDS)
    assert set(said()) == {expected}
    assert bool(lab.reached(mark, "vault")) is (expected == "open")
    end_solo(lab)


# Files


BROKEN = {
    "half written": "",
    "not YAML": "spec: [unclosed\n  a: : b\n",
    "tabs": "apiVersion: v1\nkind: Service\nmetadata:\n\tname: x\n",
    "binary": "\x00\x01\x02",
    "key twice": (
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: siege}\n"
        "spec: {ports: [{port: 1}], ports: [{port: 2}]}\n"
    ),
    "no list of aliases": "a: &a [x]\nb: [*a, *nobody]\n",
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("file", ["policy.yaml", "route.yaml"])
def test_broken_file_is_named_with_its_line_and_the_last_good_one_stays(
    lab: Siege, file: str, kind: str
) -> None:
    half = lab.original(file)[: len(lab.original(file)) // 2]
    lab.write(file, BROKEN[kind] or half)
    lab.until(lambda: [p for p in lab.problems() if p["file"].endswith(file)])
    for problem in lab.problems():
        assert problem["line"] >= 1
        assert problem["message"]
    client, vip = lab.inside("client"), lab.vip("server")
    assert ask(client, vip, 80, ALLOWED).outcome == 200
    assert ask(client, vip, 80, FORBIDDEN).outcome == 403
    assert ask(lab.inside("intruder"), lab.address("vault"), 8080, ALLOWED).outcome == REFUSED


def test_object_that_stands_in_two_files_is_named_and_the_first_one_holds(lab: Siege) -> None:
    lab.write("zz-copy.yaml", with_open_server(lab))
    lab.until(lambda: [p for p in lab.problems() if "zz-copy" in p["file"]])
    assert any("policy.yaml" in p["message"] + p["hint"] for p in lab.problems())
    client, vip = lab.inside("client"), lab.vip("server")
    assert ask(client, vip, 80, FORBIDDEN).outcome == 403
    (lab.folder / "zz-copy.yaml").unlink()


def test_kind_that_is_not_known_harms_nobody(lab: Siege) -> None:
    other = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\n"
    lab.write("zz-other.yaml", other)
    lab.until(lambda: [p for p in lab.problems() if "zz-other" in p["file"]])
    (found,) = [p for p in lab.problems() if "zz-other" in p["file"]]
    assert "AuthorizationPolicy" in json.dumps(found)
    (lab.folder / "zz-other.yaml").unlink()
