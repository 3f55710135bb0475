"""A real etcd and kube-apiserver on loopback, for tests.

`make kube-tools` builds the programs. One server serves a whole run; tests own namespaces in it.
There is no controller manager: nobody deletes the content of a namespace, and Pods need a
ServiceAccount that the test makes.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from penstock.sources.kubernetes.access import Access, Pem
from penstock.sources.kubernetes.requests import resource_of

ROOT = Path(__file__).parents[2]
PINS = ROOT / "deploy" / "kube-tools"
START_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1


class MissingProgramError(Exception):
    """A program is not there; the text says how to get it."""


def tool(folder: str, module: str, name: str) -> Path:
    """Return a file that `make kube-tools` leaves.

    Raises:
        MissingProgramError: it is not there.
    """
    pins = (PINS / folder / "go.mod").read_text()
    found = re.search(rf"^(?:require)?\s*{re.escape(module)} (v\S+)", pins, re.MULTILINE)
    assert found is not None, f"{folder}/go.mod does not pin {module}"
    cache = Path(os.environ.get("PENSTOCK_CACHE") or Path.home() / ".cache" / "penstock")
    path = cache / "kube" / f"{folder}-{found[1]}" / name
    if not path.exists():
        raise MissingProgramError(f"{name} {found[1]} is not built: make kube-tools")
    return path


def etcd_program() -> Path:
    return tool("etcd", "go.etcd.io/etcd/server/v3", "etcd")


def kubernetes_program(name: str) -> Path:
    return tool("kubernetes", "k8s.io/kubernetes", name)


def gateway_api_crds() -> list[Path]:
    """Return the files of the experimental channel."""
    folder = tool("gateway-api", "sigs.k8s.io/gateway-api", "experimental")
    return sorted(folder.glob("gateway*.yaml"))


def policy_crds() -> list[Path]:
    return sorted((ROOT / "policies" / "crds").glob("*.yaml"))


class Pki:
    """Keys and certificates of one API server, made by openssl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700)
        self._key("ca")
        self._openssl(
            "req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=test", "-days", "2",
            "-out", "ca.crt", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        self.issue("apiserver", "/CN=kube-apiserver", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.issue("admin", "/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth")
        self._key("sa")
        self._openssl("pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub")

    def issue(self, name: str, subject: str, extension: str) -> None:
        """Make *name*.key and *name*.crt."""
        self._key(name)
        self._openssl("req", "-new", "-key", f"{name}.key", "-subj", subject, "-out", "csr")
        (self.folder / "extension").write_text(extension)
        self._openssl(
            "x509", "-req", "-in", "csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-out", f"{name}.crt", "-extfile", "extension",
        )  # fmt: skip

    def _key(self, name: str) -> None:
        curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        self._openssl("genpkey", *curve, "-out", f"{name}.key")

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)


class KubeApi:
    """One etcd and one kube-apiserver."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pki = Pki(folder / "pki")
        self.token = secrets.token_hex(16)
        self.port, self._etcd_port, self._peer_port = free_ports(3)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._context = self.client_context()
        self._idle: list[http.client.HTTPSConnection] = []
        """Connections for the next requests, of whatever thread."""
        (folder / "tokens.csv").write_text(f"{self.token},token-admin,token-admin,system:masters\n")
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(self._kubeconfig()))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def access(self) -> Access:
        return self.access_at(self.port)

    def access_at(self, port: int) -> Access:
        """Return the access through another port, as that of a proxy."""
        pki = self.pki.folder
        return Access(
            server=f"https://127.0.0.1:{port}",
            authority=Pem(pki / "ca.crt"),
            certificate=Pem(pki / "admin.crt"),
            key=Pem(pki / "admin.key"),
        )

    def start(self) -> None:
        self.spawn()
        self.wait_until_ready()

    def spawn(self) -> None:
        """Start without waiting; from the main thread, whose end would else end the programs."""
        self.spawn_etcd()
        self.spawn_api_server()

    def spawn_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, self._peer_port))
        self._start(
            "etcd", etcd_program(), "--name", "t", "--data-dir", str(self.folder / "etcd"),
            "--unsafe-no-fsync", "--log-level", "warn",
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"t={peer}",
        )  # fmt: skip

    def spawn_api_server(self) -> None:
        pki = self.pki.folder
        self._start(
            "kube-apiserver", kubernetes_program("kube-apiserver"),
            "--etcd-servers", f"http://127.0.0.1:{self._etcd_port}",
            "--bind-address", "127.0.0.1", "--secure-port", str(self.port),
            # A loopback address cannot be advertised; nobody asks for the `kubernetes` Service.
            "--advertise-address", "192.0.2.1", "--endpoint-reconciler-type", "none",
            "--tls-cert-file", f"{pki}/apiserver.crt",
            "--tls-private-key-file", f"{pki}/apiserver.key",
            "--client-ca-file", f"{pki}/ca.crt",
            "--token-auth-file", str(self.folder / "tokens.csv"),
            "--anonymous-auth=false", "--authorization-mode", "RBAC",
            "--service-account-issuer", "https://kubernetes.default.svc",
            "--service-account-key-file", f"{pki}/sa.pub",
            "--service-account-signing-key-file", f"{pki}/sa.key",
            "--service-cluster-ip-range", "10.96.0.0/16", "--profiling=false",
        )  # fmt: skip

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            process = self._processes["kube-apiserver"]
            if process.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / "kube-apiserver.log").read_text(errors="replace")
                raise AssertionError(f"kube-apiserver is not ready: {log[-2000:]}")
            time.sleep(0.05)

    def kill_api_server(self) -> None:
        """SIGKILL."""
        self._kill("kube-apiserver")

    def stop(self) -> None:
        while self._idle:
            self._idle.pop().close()
        for name in reversed(list(self._processes)):
            self._kill(name)

    def save_etcd(self) -> Path:
        """Return a copy of etcd's data, taken while nothing runs."""
        copy = self.folder / f"etcd-{secrets.token_hex(4)}"
        shutil.copytree(self.folder / "etcd", copy)
        return copy

    def restore_etcd(self, copy: Path) -> None:
        """Put a copy in the place of etcd's data while nothing runs."""
        shutil.rmtree(self.folder / "etcd")
        shutil.copytree(copy, self.folder / "etcd")

    def compact(self) -> None:
        """Throw away etcd's history before the newest revision."""
        newest = self._etcd("/v3/kv/range", {"key": "AA==", "limit": "1"})["header"]["revision"]
        self._etcd("/v3/kv/compaction", {"revision": newest, "physical": True})

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        """Return status and answer."""
        content = None if body is None else json.dumps(body)
        status, said = self._ask(method, path, content, {"Content-Type": content_type})
        with contextlib.suppress(ValueError):
            return status, json.loads(said)
        return status, said.decode(errors="replace")

    def _ask(
        self, method: str, path: str, content: str | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        """Ask over a connection that is open, or over a new one if the server has ended that."""
        try:
            connection, reused = self._idle.pop(), True
        except IndexError:
            connection, reused = self._connection(), False
        try:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            said = answer.read()
        except BaseException as error:
            connection.close()
            if reused and isinstance(error, (ConnectionError, ssl.SSLEOFError)):
                return self._ask(method, path, content, headers)
            raise
        self._idle.append(connection)
        return answer.status, said

    def _connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=30, context=self._context
        )

    def apply(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Create an object, or let it say what *raw* says and nothing else of ours."""
        status, said = self.request(
            "PATCH",
            f"{path_of(raw)}?fieldManager=tests&force=true",
            raw,
            "application/apply-patch+yaml",
        )
        assert status in (200, 201), said
        return cast("dict[str, Any]", said)

    def create_all(self, objects: Iterable[dict[str, Any]]) -> None:
        """Create many objects."""
        for raw in objects:
            status, said = self.request("POST", path_of(raw).rpartition("/")[0], raw)
            assert status == 201, said

    def delete(self, raw: dict[str, Any]) -> None:
        status, said = self.request("DELETE", path_of(raw))
        assert status in (200, 202, 404), said

    def install(self, files: Iterable[Path]) -> None:
        """Apply the CustomResourceDefinitions of *files* and wait until they are served."""
        documents = [one for file in files for one in yaml.safe_load_all(file.read_text())]
        crds = [one for one in documents if one and one["kind"] == "CustomResourceDefinition"]
        for crd in crds:
            self.apply(crd)
        deadline = time.monotonic() + START_SECONDS
        for crd in crds:
            while not self._is_established(crd):
                assert time.monotonic() < deadline, f"{crd['metadata']['name']} is not established"
                time.sleep(0.05)

    def namespace(self, name: str) -> None:
        """Make a namespace in which Pods can be made."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        metadata = {"name": "default", "namespace": name}
        self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})

    def _is_established(self, crd: dict[str, Any]) -> bool:
        _, said = self.request("GET", path_of(crd))
        conditions = said.get("status", {}).get("conditions") or ()
        return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)

    def client_context(self) -> ssl.SSLContext:
        """Return what a client needs: whom to trust, and an administrator's certificate."""
        pki = self.pki.folder
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        return context

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.request("GET", "/readyz")[0] == 200
        return False

    def _etcd(self, path: str, body: Any) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._etcd_port, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body))
            answer = connection.getresponse()
            said = answer.read()
        assert answer.status == 200, said
        return json.loads(said)

    def _start(self, name: str, program: Path, *words: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [program, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  # touches nothing of ours
            )

    def _kill(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()

    def _kubeconfig(self) -> dict[str, Any]:
        user = {"client-certificate": "pki/admin.crt", "client-key": "pki/admin.key"}
        cluster = {"server": self.url, "certificate-authority": "pki/ca.crt"}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [
                {"name": "admin", "user": user},
                {"name": "bearer", "user": {"token": self.token}},
            ],
            "contexts": [
                {"name": "test", "context": {"cluster": "test", "user": "admin"}},
                {"name": "bearer", "context": {"cluster": "test", "user": "bearer"}},
            ],
            "current-context": "test",
        }


@contextlib.contextmanager
def kube_api(folder: Path) -> Generator[KubeApi]:
    """Run an API server; a test that needs it is skipped where a program is missing."""
    try:
        etcd_program()
        kubernetes_program("kube-apiserver")
    except MissingProgramError as error:
        pytest.skip(str(error))
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    api = KubeApi(folder)
    try:
        api.start()
        yield api
    finally:
        api.stop()


def path_of(raw: dict[str, Any]) -> str:
    """Return where an object is in the API."""
    version, metadata = raw["apiVersion"], raw["metadata"]
    root = "/apis" if "/" in version else "/api"
    scope = f"/namespaces/{metadata['namespace']}" if metadata.get("namespace") else ""
    return f"{root}/{version}{scope}/{resource_of(raw['kind'])}/{metadata['name']}"


def free_ports(number: int) -> list[int]:
    """Return ports of loopback that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
