"""A lab under attack: `penstock up` on a scenario of its own, sockets in any place of it.

The scenario is in `tests/e2e/siege/*.yaml`; the words @PYTHON@, @RECORDER@, @PORT@ are replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.cli import client
from penstock.cli.down import remove_everything
from penstock.cli.processes import Processes, read_processes
from penstock.lab import cgroups, syscalls
from penstock.lab.state import PodRecord, read_state
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths
from penstock.runtime.processes import ProcessId, identify

_ROOT = Path(__file__).parents[1]
SCENARIO = _ROOT / "e2e" / "siege"
RECORDER = _ROOT / "support" / "recorder.py"
_ACTOR = _ROOT / "support" / "actor.py"
READY_SECONDS = 90.0
PATIENCE = 60.0
ANSWER_SECONDS = 3.0

REFUSED, CLOSED, SILENT, UNREACHABLE = "refused", "closed", "silent", "unreachable"
Outcome = int | str
"""A status, or how there was none."""


class Place:
    """Where an attacker is: a cgroup and a network namespace. Hands out sockets made there."""

    def __init__(self, cgroup: Path, netns: Path) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_ACTOR), str(theirs.fileno()), cgroup, netns],
                pass_fds=(theirs.fileno(),),
            )
        self._control = mine
        self._turn = threading.Lock()

    def socket(
        self, family: int, kind: int = socket.SOCK_STREAM, protocol: int = 0
    ) -> socket.socket:
        with self._turn:
            self._control.send(f"{family} {int(kind)} {protocol}".encode())
            answer, fds, _, _ = socket.recv_fds(self._control, 64, 1)
        if not fds:
            raise OSError(int(answer or b"0"), "no socket")
        made = socket.socket(fileno=fds[0])
        made.settimeout(ANSWER_SECONDS)
        return made

    def close(self) -> None:
        self._control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process.kill()
        self._process.wait()


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def connect(
    place: Place, address: str, port: int, *, mark: int = 0, source: str = ""
) -> socket.socket:
    """Return a connection, however it has to be made for *address* ("::ffff:1.2.3.4" is mapped)."""
    made = place.socket(family_of(address))
    try:
        if mark:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
        if source:
            made.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
            made.bind((source, 0))
        made.connect((address, port))
    except BaseException:
        made.close()
        raise
    return made


def request(method: str, path: str, *headers: tuple[str, str], host: str = "server") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in (("host", host), *headers))]
    if method in ("POST", "PUT", "PATCH"):
        lines.append("content-length: 0")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Reply(msgspec.Struct, frozen=True):
    """What came back."""

    outcome: Outcome
    headers: dict[str, str] = {}
    body: bytes = b""

    @property
    def seen(self) -> dict[str, Any]:
        """Return what the recorder saw."""
        found: dict[str, Any] = json.loads(self.body)
        return found


def talk(connection: socket.socket, raw: bytes) -> Reply:
    """Send a request on an open connection and read one answer."""
    try:
        connection.sendall(raw)
        buffer = b""
        while b"\r\n\r\n" not in buffer:
            part = connection.recv(65536)
            if not part:
                return Reply(CLOSED, {}, buffer)
            buffer += part
        head, _, body = buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        split = (line.partition(":") for line in lines[1:])
        headers = {name.lower(): value.strip() for name, _, value in split}
        size = int(headers.get("content-length", "0"))
        while len(body) < size:
            part = connection.recv(65536)
            if not part:
                return Reply(CLOSED, headers, body)
            body += part
        return Reply(int(lines[0].split()[1]), headers, body)
    except TimeoutError:
        return Reply(SILENT)
    except (ConnectionError, BrokenPipeError):
        return Reply(CLOSED)


def ask(
    place: Place, address: str, port: int, raw: bytes, *, mark: int = 0, source: str = ""
) -> Reply:
    """Send a request on a new connection."""
    try:
        connection = connect(place, address, port, mark=mark, source=source)
    except ConnectionRefusedError:
        return Reply(REFUSED)
    except TimeoutError:
        return Reply(SILENT)
    except OSError as error:
        return Reply(f"{UNREACHABLE}: {error.strerror}")
    with connection:
        return talk(connection, raw)


def query(name: str, kind: int) -> bytes:
    """Return a DNS question."""
    labels = b"".join(bytes([len(x)]) + x.encode() for x in name.rstrip(".").split("."))
    return (
        struct.pack(">6H", 0x1234, 0x0100, 1, 0, 0, 0)
        + labels
        + b"\0"
        + struct.pack(">2H", kind, 1)
    )


def resolve(place: Place, name: str, family: int = socket.AF_INET) -> str:
    """Ask cluster DNS as a pod does and return the first address, "" if there is none."""
    kind, size = (28, 16) if family == socket.AF_INET6 else (1, 4)
    with place.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(query(name, kind), ("10.96.0.10", 53))
        data = udp.recv(4096)
    if struct.unpack_from(">H", data, 6)[0] == 0:
        return ""
    return socket.inet_ntop(family, data[-size:])


class Siege:
    """A running instance of the scenario; `close` leaves nothing behind."""

    def __init__(self, name: str, *, only: Sequence[str] = ()) -> None:
        """Write the scenario into a scratch folder; *only* names its files, all if empty."""
        self.scratch = Path(tempfile.mkdtemp(prefix=f"pst-{name}-{os.getpid()}-"))
        self.folder = self.scratch / "yaml"
        self.paths = RunPaths(self.scratch / "run")
        self.log = self.scratch / "up.log"
        self.port = _free_port()
        self.folder.mkdir()
        for file in sorted(SCENARIO.glob("*.yaml")):
            if not only or file.stem in only:
                self.write(file.name, file.read_text())
        self._places: dict[tuple[str, bool], tuple[str, Place]] = {}
        self._up: subprocess.Popen[bytes] | None = None
        self._pods: set[str] = set()
        """Names of the pods of the scenario."""

    def original(self, name: str) -> str:
        """Return a file of the scenario as it is in the repository."""
        return (SCENARIO / name).read_text()

    def restore(self) -> None:
        """Write the scenario again where it was changed, and remove other files."""
        for file in sorted(self.folder.iterdir()):
            if not (SCENARIO / file.name).exists():
                file.unlink()
            elif file.read_text() != self._filled(self.original(file.name)):
                self.write(file.name, self.original(file.name))

    def write(self, name: str, text: str) -> float:
        """Save a file at once, as an editor does; return the moment, monotonic."""
        beside = self.scratch / f".{name}.new"
        beside.write_text(self._filled(text))
        beside.replace(self.folder / name)
        return time.monotonic()

    def _filled(self, text: str) -> str:
        for word, value in (
            ("@PYTHON@", sys.executable), ("@RECORDER@", str(RECORDER)), ("@PORT@", str(self.port)),
        ):  # fmt: skip
            text = text.replace(word, value)
        return text

    def start(self) -> None:
        with self.log.open("wb") as output:
            self._up = subprocess.Popen(
                [sys.executable, "-m", "penstock.cli", "up", str(self.folder),
                 "--run-dir", str(self.paths.root)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self.until(self._is_ready, READY_SECONDS)
        self.until(self.settled)

    def _is_ready(self) -> bool:
        assert self._up is not None
        text = self.log.read_text(errors="replace")
        assert self._up.poll() is None, text
        return "Ctrl-C ends" in text

    def close(self) -> list[str]:
        """End everything; return what `up` left behind, which is then removed too."""
        for name in {name for name, _ in self._places}:
            self.forget(name)
        left: list[str] = []
        if self._up is not None and self._up.poll() is None:
            known = self._everything()
            self._up.send_signal(signal.SIGTERM)
            try:
                self._up.wait(30)
            except subprocess.TimeoutExpired:
                self._up.kill()
                self._up.wait()
                left.append("`up` itself")
            left += self._left(known)
        remove_everything(self.paths)
        shutil.rmtree(self.scratch, ignore_errors=True)
        return left

    def _everything(self) -> list[ProcessId]:
        processes = self.processes()
        found = [processes.up, processes.controller, processes.agent, self.envoy()]
        found += map(identify, cgroups.processes(cgroups.instance_root(self.paths.root)))
        return [one for one in found if one is not None]

    def _left(self, known: list[ProcessId]) -> list[str]:
        left = [f"process {one.pid}" for one in known if one.alive]
        left += [f"mount {point}" for point in syscalls.mounts_below(str(self.paths.root))]
        left += [str(self.paths.root)] if self.paths.root.exists() else []
        group = cgroups.instance_root(self.paths.root)
        return left + ([str(group)] if group.exists() else [])

    def pod(self, name: str) -> PodRecord:
        """Return the pod whose name begins so, a ready one first."""
        found = [pod for pod in read_state(self.paths).pods if pod.name.startswith(name)]
        assert found, f"no pod {name}"
        return min(found, key=lambda pod: (not pod.ready, pod.name))

    def address(self, name: str, family: int = socket.AF_INET) -> str:
        return next(one for one in self.pod(name).addresses if family_of(one) == family)

    def inside(self, name: str) -> Place:
        """Return a place in the pod's cgroup and network namespace, as `exec` would be."""
        return self._place(name, covered=True)

    def beside(self, name: str) -> Place:
        """Return a place in the pod's network namespace, but outside of all pods' cgroups."""
        return self._place(name, covered=False)

    def node(self) -> Place:
        """Return a place in the node's network namespace."""
        if ("", False) not in self._places:
            place = Place(self._elsewhere(), self.paths.netns / "node")
            self._places["", False] = "", place
        return self._places["", False][1]

    def _place(self, name: str, *, covered: bool) -> Place:
        pod = self.pod(name)
        uid, place = self._places.get((name, covered), ("", None))
        if place is None or uid != pod.uid:
            cgroup = Path(pod.containers[0].cgroup) if covered else self._elsewhere()
            place = Place(cgroup, self.paths.root / pod.netns)
            self._places[name, covered] = pod.uid, place
        return place

    def _elsewhere(self) -> Path:
        return cgroups.instance_root(self.paths.root) / "system"

    def forget(self, name: str) -> None:
        """Drop the places of a pod that is going to be another one."""
        for key in [key for key in self._places if key[0] == name]:
            self._places.pop(key)[1].close()

    def notes(self, *pods: str) -> list[dict[str, Any]]:
        """Return all that the recorders of pods with these names wrote down, ended ones too."""
        found: list[dict[str, Any]] = []
        for path in sorted(self.paths.logs.glob("*")):
            name = path.name.partition("_")[2]
            if any(name.startswith(pod) for pod in pods):
                lines = path.read_text(errors="replace").splitlines()
                found += [json.loads(line) for line in lines if line.startswith("{")]
        return found

    def reached(self, token: str, *pods: str) -> list[dict[str, Any]]:
        """Return what reached the pods, all recorders if none is named, with *token* in it."""
        return [note for note in self.notes(*(pods or ("",))) if token in json.dumps(note)]

    def vip(self, service: str, family: int = socket.AF_INET) -> str:
        """Return what the client's resolver says of a Service."""
        found = resolve(self.inside("client"), f"{service}.siege.svc.cluster.local", family)
        assert found, f"{service} has no address"
        return found

    def gateway_address(self) -> str:
        found = client.controller(self.paths).get(
            "/v1/objects", dict[str, Any], {"kind": "Gateway"}
        )["items"]
        address: str = found[0]["status"]["addresses"][0]["value"]
        return address

    def processes(self) -> Processes:
        found = read_processes(self.paths)
        assert found is not None
        return found

    def status(self) -> dict[str, Any]:
        return client.agent(self.paths).get("/v1/status", dict[str, Any])

    def envoy(self) -> ProcessId | None:
        with contextlib.suppress(PenstockError):
            pid = int((self.status().get("envoy") or {}).get("pid") or 0)
            return identify(pid) if pid else None
        return None

    def problems(self) -> list[dict[str, Any]]:
        found = client.controller(self.paths).get("/v1/problems", dict[str, Any])
        items: list[dict[str, Any]] = found["items"]
        return items

    def whole(self) -> bool:
        """Tell whether controller, agent and Envoy are connected with each other."""
        health = client.controller(self.paths).get("/v1/health", dict[str, Any])
        status = self.status()
        return bool(
            health["synced"] and status["controller_connected"] and status["envoy_connected"]
        )

    def settled(self) -> bool:
        """Tell whether exactly the pods of the scenario run, as it is written, and are ready."""
        pods = read_state(self.paths).pods
        names = {pod.name for pod in pods}
        self._pods = self._pods or names
        return names == self._pods and all(pod.ready for pod in pods)

    def until(self, check: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Return when *check* holds."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(client.NotRunningError, client.ApiError):
                if check():
                    return
            if time.monotonic() > deadline:
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])
                raise AssertionError(f"not in {seconds} s: {check}; `up` says\n{tail}")
            time.sleep(0.05)

    def penstock(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command line against this instance."""
        return penstock(*words, run_dir=self.paths.root)


def penstock(*words: str, run_dir: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = os.environ | ({"PENSTOCK_RUN_DIR": str(run_dir)} if run_dir else {})
    return subprocess.run(
        [sys.executable, "-m", "penstock.cli", *words],
        capture_output=True, text=True, timeout=60, check=False, env=env,
    )  # fmt: skip


@contextlib.contextmanager
def siege(name: str, *, only: Sequence[str] = ()) -> Generator[Siege]:
    """Run the scenario; what it leaves behind is a failure."""
    lab = Siege(name, only=only)
    left: list[str] = []
    try:
        lab.start()
        yield lab
    finally:
        left = lab.close()
    assert not left, left


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])
