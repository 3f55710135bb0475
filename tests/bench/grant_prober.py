"""Asks a Gateway until what it does with a server name or a host changes, or looks into Envoy.

Run as `python grant_prober.py ADDRESS HTTP-PORT HTTPS-PORT ADMIN-SOCKET`, a process of its own so
that it shares no lock with others. Reads lines and answers each with lines of JSON:

* `handshake taken|refused NAME`: begins TLS with this server name on new connections until it comes
  about or not. Answers `"ready"` after the first one that went otherwise, then `{"time_ns",
  "asked"}`, monotonic time.
* `status STATUS HOST`: the same with requests on one connection.
* `secrets`: answers `"ready"`, then `{"time_ns", "names"}` of the Secrets that Envoy still has as
  it had them first, whenever they are others than before, until there is another line to read.

Needs the standard library only.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

PAUSE = 200e-6
"""Seconds between questions: asking without pause would take a core from Envoy."""
LOOK = 20e-3
"""Seconds between looks into Envoy, each of which takes time of its main thread."""
SECRETS = "/config_dump?resource=dynamic_active_secrets&name_regex=tls.*"


class Admin(http.client.HTTPConnection):
    """Envoy's admin interface."""

    def __init__(self, path: str) -> None:
        super().__init__("envoy", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)

    def secrets(self) -> dict[str, object]:
        """Return the certificates that Envoy has, by the name of the Secret."""
        self.request("GET", SECRETS)
        found = json.load(self.getresponse()).get("configs", [])
        return {one["name"]: one["secret"]["tls_certificate"]["certificate_chain"] for one in found}


def believing() -> ssl.SSLContext:
    """Return a context that takes every certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def handshake(address: str, port: int, context: ssl.SSLContext, name: str) -> str:
    """Return whether a handshake is taken or refused."""
    try:
        with socket.create_connection((address, port), timeout=10) as plain:
            context.wrap_socket(plain, server_hostname=name).close()
    except OSError:
        return "refused"
    return "taken"


def status(connection: http.client.HTTPConnection, host: str) -> str:
    """Return the status of one answer; "0" if there was none."""
    try:
        connection.request("GET", "/", headers={"host": host})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return "0"
    return str(answer.status)


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def until(wanted: str, ask: Callable[[], str]) -> None:
    """Ask until the answer is *wanted*."""
    asked = 0
    while True:
        answer = ask()
        now = time.monotonic_ns()
        asked += 1
        if answer == wanted:
            say({"time_ns": now, "asked": asked})
            return
        if asked == 1:
            say("ready")
        time.sleep(PAUSE)


def follow(admin: Admin) -> None:
    """Tell which Secrets Envoy still has until there is another line to read."""
    ended = threading.Event()
    first = admin.secrets()

    def look() -> None:
        before: list[str] | None = None
        while not ended.wait(LOOK):
            names = [name for name, one in admin.secrets().items() if first.get(name) == one]
            if names != before:
                say({"time_ns": time.monotonic_ns(), "names": names})
            before = names

    say("ready")
    looking = threading.Thread(target=look)
    looking.start()
    sys.stdin.readline()
    ended.set()
    looking.join()


def main() -> None:
    address, http_port, https_port, admin = sys.argv[1:]
    connection = http.client.HTTPConnection(address, int(http_port), timeout=10)
    context = believing()
    while line := sys.stdin.readline():
        match line.split():
            case ["handshake", wanted, name]:
                until(wanted, partial(handshake, address, int(https_port), context, name))
            case ["status", wanted, host]:
                until(wanted, partial(status, connection, host))
            case ["secrets"]:
                follow(Admin(admin))
            case _:
                raise SystemExit(f"no such question: {line}")


if __name__ == "__main__":
    main()
