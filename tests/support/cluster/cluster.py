"""A whole cluster: up, down, and what tests do with it."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.runtime.processes import ProcessId, own_process
from support.cluster import control_plane, images, network, node, programs
from support.cluster.errors import ClusterError
from support.cluster.keys import Keys
from support.cluster.node_settings import CONTAINERD_SOCKET, REGISTRY_HOSTS, NodeSettings
from support.cluster.plan import NodePlan, Plan, left_states, netns_path
from support.cluster.processes import Processes, only_child

_READY_SECONDS = 90.0
_SERVICES = "services"
Say = Callable[[str], None]


class Facts(msgspec.Struct, frozen=True):
    """What is noted about a cluster that was started."""

    plan: Plan
    port: int
    """Of loopback, where the API server answers."""
    owner: ProcessId | None
    """The process that it must not outlive."""


class Cluster:
    """One cluster by its plan, whether it runs or not."""

    def __init__(self, plan: Plan, *, tied: bool = False) -> None:
        """Args:
        tied: it ends with this process.
        """
        self.plan, self._tied = plan, tied
        self.state = plan.state
        self.keys = Keys(self.state / "keys")
        self._processes = Processes(self.state / "processes", tied=tied)

    @property
    def kubeconfig(self) -> Path:
        """For clients in the machine's own network namespace."""
        return self.state / "kubeconfig"

    @property
    def kubectl_program(self) -> Path:
        return programs.program("kubectl")

    @property
    def images(self) -> Path:
        """An image archive that is put here can be pulled at once."""
        return self.state / "images"

    def up(self, say: Say, *, own_images: bool = False) -> None:
        """Start everything and return when both nodes are Ready and DNS answers.

        Args:
            own_images: with the images of Penstock itself, as they are in this checkout.

        Raises:
            ClusterError: it cannot be started; what was started is still there, for a look.
        """
        programs.check_machine()
        programs.check()
        if self.is_up():
            say(f"cluster {self.plan.name} runs already")
            return
        self.down()
        began = time.monotonic()
        self._prepare()
        say("images")
        self._write_images(own_images=own_images)
        say("keys and network")
        self.keys.make(self.plan)
        network.make(self.plan)
        port = self._start_services()
        self._note(port)
        say("control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler")
        self._start_control_plane()
        say(f"nodes: {', '.join(one.name for one in self.plan.nodes)}")
        for one in self.plan.nodes:
            self._start_node(one)
        self._wait_for_nodes()
        say("cluster DNS")
        self._start_dns()
        say(f"ready after {time.monotonic() - began:.0f} s")

    def down(self) -> None:
        """Stop and remove everything; what is not there is no error.

        Raises:
            ClusterError: something does not go.
        """
        for name in self._processes.names():
            self._processes.kill(name)
        for one in self.plan.nodes:
            node.remove_cgroups(one)
        network.remove(self.plan)
        shutil.rmtree(self.state, ignore_errors=True)

    def is_up(self) -> bool:
        """Return whether all programs run and the API server answers."""
        expected = {_SERVICES, *control_plane.NAMES, *(one.name for one in self.plan.nodes)}
        if not all(self._processes.find(name) for name in expected):
            return False
        return self.kubeconfig.exists() and self._answers(self._facts().port)

    def kubectl(self, *words: str, text: str = "", check: bool = True) -> str:
        """Return what kubectl answers.

        Raises:
            ClusterError: it fails and *check* is set.
        """
        done = subprocess.run(
            [str(self.kubectl_program), "--kubeconfig", str(self.kubeconfig), *words],
            input=text, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode and check:
            raise ClusterError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects."""
        self.kubectl("apply", "-f", "-", text=json.dumps(_list_of(objects)))

    def make_namespace(self, name: str) -> None:
        """Make a namespace and return when Pods can be made in it."""
        self.kubectl("create", "namespace", name)
        self.kubectl("wait", "-n", name, "--for=create", "sa/default", "--timeout=60s")

    def get(self, *words: str) -> Any:
        """Return objects as `kubectl get -o json` gives them."""
        return json.loads(self.kubectl("get", "-o", "json", *words))

    def in_control_netns(self, *words: str) -> tuple[str, ...]:
        """Return the command that runs *words* where every pod and every Gateway is reachable."""
        return network.in_netns(self.plan.control_netns, *words)

    def in_node(self, name: str, *words: str) -> tuple[str, ...]:
        """Return the command that runs *words* on a node, as root there.

        Raises:
            ClusterError: the node does not run.
        """
        found = self._processes.find(name)
        first = only_child(found.pid) if found else None
        if first is None:
            raise ClusterError(f"node {name} does not run: see {self.state / name}/init.log")
        return ("nsenter", "-t", str(first), "-m", "-p", "-n", "-u", "-i", "-C", *words)

    def renew_own_images(self) -> list[str]:
        """Make Penstock's images anew, also on nodes that have them; return their names."""
        names = images.write_own_images(self.images, images.cache_folder())
        for name in names:
            self.renew_image(name)
        return names

    def renew_image(self, name: str) -> None:
        """Let nodes that have an image of this name have that of the registry.

        Raises:
            ClusterError: a node cannot pull it.
        """
        ctr = (
            str(programs.program("ctr")), "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io",
            "images",
        )  # fmt: skip
        for one in self.plan.nodes:
            listed = self.in_node(one.name, *ctr, "list", "--quiet", f"name=={name}")
            if name in _output(listed).split():
                pull = (*ctr, "pull", "--hosts-dir", REGISTRY_HOSTS, name)
                _output(self.in_node(one.name, *pull))

    def stop_node(self, name: str) -> None:
        """End a node as a power cut would; its addresses are gone from the network, too."""
        self._processes.kill(name)
        node.remove_cgroups(self.plan.node(name))
        network.disconnect(self.plan.node(name))

    def start_node(self, name: str) -> None:
        """Start a node that was stopped, and return when it is Ready."""
        network.connect(self.plan, self.plan.node(name))
        self._start_node(self.plan.node(name))
        self._wait_for_nodes()

    def stop_program(self, name: str) -> None:
        """SIGKILL a program of the control plane."""
        self._processes.kill(name)

    def start_program(self, name: str) -> None:
        """Start a program of the control plane again."""
        self._start_program(name, control_plane.commands(self.state, self.keys)[name])

    def _prepare(self) -> None:
        self.state.mkdir(mode=0o700)
        for name in ("processes", "images"):
            (self.state / name).mkdir(mode=0o700)

    def _write_images(self, *, own_images: bool) -> None:
        images.write_images(self.images, images.cache_folder())
        if own_images:
            images.write_own_images(self.images, images.cache_folder())

    def _start_services(self) -> int:
        with socket.socket() as door:
            door.bind(("127.0.0.1", 0))
            door.listen(64)
            words = (
                sys.executable, "-m", "support.cluster.services",
                str(door.fileno()), netns_path(self.plan.control_netns), str(self.images),
            )  # fmt: skip
            log = self.state / "services.log"
            self._processes.start(
                _SERVICES, words, log=log, env=node.environment(), keep=door.fileno()
            )
            return int(door.getsockname()[1])

    def _note(self, port: int) -> None:
        facts = Facts(self.plan, port, own_process() if self._tied else None)
        (self.state / "facts.json").write_bytes(msgspec.json.encode(facts))
        for name in (
            "kube-controller-manager",
            "kube-scheduler",
            *(n.name for n in self.plan.nodes),
        ):
            (self.state / f"{name}.kubeconfig").write_text(self.keys.kubeconfig(name))
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(self.keys.kubeconfig("admin", f"https://127.0.0.1:{port}"))

    def _facts(self) -> Facts:
        return msgspec.json.decode((self.state / "facts.json").read_bytes(), type=Facts)

    def _start_control_plane(self) -> None:
        for name, words in control_plane.commands(self.state, self.keys).items():
            self._start_program(name, words)
            if name == "kube-apiserver":
                self._wait(lambda: self._answers(self._facts().port), name)

    def _start_program(self, name: str, words: tuple[str, ...]) -> None:
        inside = self.in_control_netns(*words)
        self._processes.start(name, inside, log=self.state / f"{name}.log")

    def _start_node(self, one: NodePlan) -> None:
        folder = self.state / one.name
        settings = NodeSettings(
            node=one,
            folder=str(folder),
            keys=str(self.keys.folder),
            kubeconfig=str(self.state / f"{one.name}.kubeconfig"),
            containerd=str(programs.program("containerd")),
            kubelet=str(programs.program("kubelet")),
            cni_plugin=str(programs.program("cni-veth")),
        )
        words = node.command(settings)
        self._processes.start(one.name, words, log=folder / "init.log", env=node.environment())

    def _wait_for_nodes(self) -> None:
        """Wait also for the account that every Pod needs; it may come after the nodes."""
        names = [one.name for one in self.plan.nodes]

        def ready() -> bool:
            said = self.kubectl("get", "nodes", "-o", "json", check=False)
            items = json.loads(said)["items"] if said else []
            return {one["metadata"]["name"] for one in items if _is_ready(one)} >= set(names)

        self._wait(ready, *names)
        self._wait(lambda: bool(self.kubectl("get", "sa", "default", check=False)), *names)

    def _start_dns(self) -> None:
        manifest = Path(__file__).with_name("dns.yaml").read_text(encoding="utf-8")
        self.kubectl("apply", "-f", "-", text=manifest)
        self.kubectl(
            "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=90s"
        )

    def _wait(self, condition: Callable[[], bool], *needed: str) -> None:
        """Wait for *condition* while the programs that it needs run."""
        deadline = time.monotonic() + _READY_SECONDS
        while not condition():
            gone = [name for name in needed if self._processes.find(name) is None]
            if gone or time.monotonic() > deadline:
                found = (
                    f"{gone[0]} has ended" if gone else f"{', '.join(needed)}: not ready in time"
                )
                raise ClusterError(f"{found}; {_last_words(self.state, (gone or needed)[0])}")
            time.sleep(0.05)

    def _answers(self, port: int) -> bool:
        context = ssl.create_default_context(cafile=self.keys.path("ca.crt"))
        context.load_cert_chain(self.keys.path("admin.crt"), self.keys.path("admin.key"))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
        with (
            contextlib.closing(connection),
            contextlib.suppress(OSError, http.client.HTTPException),
        ):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        return False


def sweep() -> None:
    """Remove what is left of clusters that were to end with a process that is gone."""
    for state in left_states():
        try:
            facts = msgspec.json.decode((state / "facts.json").read_bytes(), type=Facts)
        except OSError:
            continue
        if facts.owner is not None and not facts.owner.alive:
            Cluster(facts.plan).down()


@contextlib.contextmanager
def running(plan: Plan, say: Say, *, own_images: bool = False) -> Generator[Cluster]:
    """Run a cluster that ends with this process, and remove all of it at the end.

    Raises:
        ClusterError: it cannot be started.
    """
    sweep()
    cluster = Cluster(plan, tied=True)
    try:
        cluster.up(say, own_images=own_images)
        yield cluster
    finally:
        cluster.down()


def _list_of(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}


def _is_ready(raw: dict[str, Any]) -> bool:
    conditions = raw.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _output(words: tuple[str, ...]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _last_words(state: Path, name: str) -> str:
    for log in (state / f"{name}.log", state / name / "init.log"):
        if log.exists():
            return f"the end of {log}: {log.read_text(errors='replace')[-1500:]}"
    return f"logs are in {state}"
