"""What a cluster needs of the machine around it: a door to its API server, and its images.

One process: it listens on loopback of the machine's network namespace, then enters that of the
control plane and stays there. Connections that it accepts are continued to the API server. The
registry is read-only and knows the images of one folder, under every name that they have.

    python -m support.cluster.services LISTENING-FD NETNS IMAGES
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from support.cluster.archives import Archives
from support.cluster.errors import ClusterError
from support.cluster.plan import API_HOST, API_PORT, REGISTRY_PORT

_CLONE_NEWNET = 0x40000000
_CHUNK = 1 << 16
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<what>manifests|blobs)/(?P<reference>[^/]+)")


class Registry(ThreadingHTTPServer):
    """Source: OCI Distribution 1.1, pull."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path) -> None:
        self.archives = Archives(folder)
        self.lock = threading.Lock()
        super().__init__((API_HOST, REGISTRY_PORT), Answer)


class Answer(BaseHTTPRequestHandler):
    """One connection to the registry."""

    protocol_version = "HTTP/1.1"
    timeout: ClassVar[Any] = 60

    @property
    def registry(self) -> Registry:
        assert isinstance(self.server, Registry)
        return self.server

    def do_GET(self) -> None:  # the base class wants this name
        self._answer(with_body=True)

    def do_HEAD(self) -> None:  # the same
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the same
        if args[1:2] not in (("200",), ("206",)):
            super().log_message(format, *args)

    def _answer(self, *, with_body: bool) -> None:
        asked = urlsplit(self.path)
        if asked.path.rstrip("/") == "/v2":
            self._head(200, 0, {})
            return
        found = _PATH.fullmatch(asked.path)
        host = parse_qs(asked.query).get("ns", [""])[0]
        located = found and self._locate(host, *found.groups())
        if not located:
            self._head(404, 0, {})
            return
        digest, media = located
        with self.registry.lock:
            blob = self.registry.archives.blob(digest)
        if blob is None:
            self._head(404, 0, {})
            return
        self._head(200, blob.size, {"Content-Type": media, "Docker-Content-Digest": digest})
        if with_body:
            with blob.file.open("rb") as file:
                self.wfile.flush()
                self.connection.sendfile(file, blob.start, blob.size)

    def _locate(self, host: str, name: str, what: str, reference: str) -> tuple[str, str] | None:
        if what == "blobs":
            return reference, "application/octet-stream"
        mark = "@" if ":" in reference else ":"
        with self.registry.lock:
            return self.registry.archives.manifest(f"{host}/{name}{mark}{reference}")

    def _head(self, status: int, size: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(size)}.items():
            self.send_header(name, value)
        self.end_headers()


def forward(client: socket.socket) -> None:
    """Continue a connection to the API server until both sides have ended it."""
    with client:
        try:
            server = socket.create_connection((API_HOST, API_PORT), timeout=10)
        except OSError:
            return
        with server:
            server.settimeout(None)
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def main(listening: int, netns: str, images: Path) -> None:
    """Serve until killed."""
    door = socket.socket(fileno=listening)
    # Before there is a thread: each has a network namespace of its own.
    namespace = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
        raise ClusterError(f"{netns} cannot be entered: {os.strerror(ctypes.get_errno())}")
    os.close(namespace)
    registry = Registry(images)
    threading.Thread(target=registry.serve_forever, daemon=True).start()
    while True:
        client, _ = door.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=forward, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
