"""Requests from pods and from outside that go on while something is done to the cluster."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from support.cluster.cluster import Cluster
from support.cluster.images import ECHO_IMAGE

ASKER = Path(__file__).with_name("asker.py")
PORT = 9100
PATIENCE = 60.0
_PROGRAM = ("python3", "-c", ASKER.read_text(encoding="utf-8"))


class Seen(msgspec.Struct, frozen=True):
    """What became of the requests to one target until now."""

    ok: int
    bad: list[tuple[float, str]]
    """When, in seconds since 1970, and what came instead of 200."""


class Gap(msgspec.Struct, frozen=True):
    """Failures of one kind, each less than a second after the one before."""

    what: str
    count: int
    began: float
    """Of the first one, in seconds since 1970."""
    ended: float
    """Of the last one."""


def gaps(bad: Iterable[tuple[float, str]]) -> list[Gap]:
    """Return failures that are in order of time as gaps: a second of them is 40 of each asker."""
    found: list[Gap] = []
    for when, what in bad:
        last = found[-1] if found else None
        if last and last.what == what and when - last.ended < 1.0:
            found[-1] = Gap(what, last.count + 1, last.began, when)
        else:
            found.append(Gap(what, 1, when, when))
    return found


class Answer(msgspec.Struct, frozen=True):
    """What became of one request."""

    status: int = 0
    body: str = ""
    error: str = ""
    """ "refused", "handshake", or the exception; then there is no status."""
    certificate: bytes = b""
    """What the server showed, DER; with https."""


class Traffic:
    """One process that asks in a circle."""

    def __init__(self, cluster: Cluster, address: str) -> None:
        self._cluster, self._address = cluster, address

    def seen(self) -> dict[str, Seen]:
        """Return what became of the requests, by target."""
        answer = self._ask()
        assert answer.status == 200, answer
        return msgspec.json.decode(answer.body, type=dict[str, Seen])

    def _ask(self) -> Answer:
        return ask_outside(self._cluster, "GET", f"http://{self._address}:{PORT}/")

    def runs(self) -> bool:
        """Return whether the process has begun to ask."""
        return self._ask().status == 200

    def bad(self) -> dict[str, list[Gap]]:
        """Return the failures by target; targets without any are left out."""
        return {name: gaps(one.bad) for name, one in self.seen().items() if one.bad}

    def wait_for_more(self, count: int = 50) -> None:
        """Return when every target was asked *count* times more, with success."""
        before = self.seen()
        assert eventually(
            lambda: all(now.ok >= before[name].ok + count for name, now in self.seen().items())
        ), f"requests do not go on: before {before}, now {self.seen()}"


def eventually(condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Return whether *condition* comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def ask_from(cluster: Cluster, pod: str, namespace: str, method: str, url: str) -> Answer:
    """Return what becomes of one request from a pod ("deploy/NAME" or a name)."""
    said = cluster.kubectl("-n", namespace, "exec", pod, "--", *_PROGRAM, "once", method, url)
    return msgspec.json.decode(said, type=Answer)


def ask_outside(cluster: Cluster, method: str, url: str, host: str = "") -> Answer:
    """Return what becomes of one request from outside the cluster, on the nodes' link."""
    header = [f"Host:{host}"] if host else []
    words = (sys.executable, str(ASKER), "once", method, url, *header)
    inside = cluster.in_control_netns(*words)
    said = subprocess.run(inside, capture_output=True, text=True, check=True).stdout
    return msgspec.json.decode(said, type=Answer)


def echo_pod(name: str, namespace: str, node: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return a Pod of the echo server on a node."""
    probe = {"httpGet": {"path": "/status/200", "port": 8080}, "periodSeconds": 1}
    container = {"name": "echo", "image": ECHO_IMAGE, "ports": [{"containerPort": 8080}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "containers": [container | {"readinessProbe": probe}],
        },
    }


def run_pods(cluster: Cluster, namespace: str, *pods: dict[str, Any]) -> None:
    """Make Pods and return when all of them are ready."""
    cluster.apply(*pods)
    names = [f"pod/{one['metadata']['name']}" for one in pods]
    ready = ("wait", "--for=condition=Ready", *names, f"--timeout={PATIENCE:.0f}s")
    cluster.kubectl("-n", namespace, *ready)


def echo_service(name: str, namespace: str, app: str = "") -> dict[str, Any]:
    """Return a Service at port 80 of echo servers with the label app, by default its name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"app": app or name},
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    }


def asking_pod(name: str, namespace: str, node: str, targets: Mapping[str, str]) -> dict[str, Any]:
    """Return a Pod that asks *targets* (name → URL) for ever."""
    named = [f"{target}={url}" for target, url in targets.items()]
    raw = echo_pod(name, namespace, node, {"app": name})
    raw["spec"]["containers"] = [
        {
            "name": "asker",
            "image": ECHO_IMAGE,
            "command": [*_PROGRAM, "forever", str(PORT), *named],
        }
    ]
    return raw


@contextlib.contextmanager
def traffic_outside(cluster: Cluster, targets: Mapping[str, str]) -> Generator[Traffic]:
    """Ask *targets* (name → URL, "#" and a host behind it) from the nodes' link."""
    named = [f"{target}={url}" for target, url in targets.items()]
    words = (sys.executable, str(ASKER), "forever", str(PORT), *named)
    ends_with_us = ("setpriv", "--pdeathsig", "KILL")
    with subprocess.Popen((*ends_with_us, *cluster.in_control_netns(*words))) as process:
        try:
            traffic = Traffic(cluster, "127.0.0.1")
            assert eventually(traffic.runs), "the asker does not start"
            yield traffic
        finally:
            process.kill()


def traffic_of(cluster: Cluster, namespace: str, pod: str) -> Traffic:
    """Return the traffic of an asking pod."""
    return Traffic(cluster, cluster.get("-n", namespace, "pod", pod)["status"]["podIP"])
