"""Asks from inside a pod; its text is the program of the pod, which has only Python.

once METHOD URL [HEADER:VALUE…]   prints {"status": 200, "body": …} or {"error": "refused"}
forever PORT NAME=URL…            asks all URLs in a circle, each on an open connection and on new
                                  ones; GET on PORT tells {NAME: {"ok": n, "bad": [[time, what]…]}}

With https the server name is the Host, every certificate is believed, and "certificate" tells the
one that was shown (DER, base64); a handshake that comes to nothing is the error "handshake".
"""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import ssl
import sys
import threading
import time
import urllib.parse

TIMEOUT = 10.0
PAUSE = 0.02


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str]
) -> tuple[int, bytes]:
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


class HandshakeError(ConnectionError):
    """There is a connection, but no TLS on it."""


class _Tls(http.client.HTTPSConnection):
    """A connection on which the server name is not where it leads."""

    def __init__(self, netloc: str, server_name: str) -> None:
        self._believing = ssl.create_default_context()
        self._believing.check_hostname = False
        self._believing.verify_mode = ssl.CERT_NONE
        self._server_name = server_name
        super().__init__(netloc, timeout=TIMEOUT, context=self._believing)

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        try:
            self.sock = self._believing.wrap_socket(self.sock, server_hostname=self._server_name)
        except OSError as error:
            raise HandshakeError(str(error)) from error


def _open(url: str, host: str = "") -> tuple[http.client.HTTPConnection, str]:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        return _Tls(parts.netloc, host or parts.hostname or ""), parts.path or "/"
    return http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT), parts.path or "/"


def _cause(error: Exception) -> str:
    if isinstance(error, HandshakeError):
        return "handshake"
    return "refused" if isinstance(error, ConnectionRefusedError) else repr(error)


def once(method: str, url: str, *headers: str) -> None:
    pairs = dict(one.split(":", 1) for one in headers)
    connection, path = _open(url, pairs.get("Host", ""))
    found: dict[str, object] = {}
    try:
        connection.connect()
        if isinstance(connection.sock, ssl.SSLSocket):
            shown = connection.sock.getpeercert(binary_form=True) or b""
            found["certificate"] = base64.b64encode(shown).decode()
        status, body = _ask(connection, method, path, pairs)
        found |= {"status": status, "body": body.decode(errors="replace")}
    except OSError as error:
        found["error"] = _cause(error)
    sys.stdout.write(json.dumps(found))


class Notes:
    """What became of the requests to one target."""

    def __init__(self) -> None:
        self.ok = 0
        self.bad: list[tuple[float, str]] = []


def _circle(url: str, notes: Notes, *, keep: bool) -> None:
    url, _, host = url.partition("#")
    headers = {"Host": host} if host else {}
    connection, path = _open(url, host)
    while True:
        began = time.time()
        try:
            status, _body = _ask(connection, "GET", path, headers)
            what = "" if status == 200 else str(status)
        except (OSError, http.client.HTTPException) as error:
            what = _cause(error)
            connection.close()
        if what:
            notes.bad.append((began, what))
        else:
            notes.ok += 1
        if not keep:
            connection.close()
        time.sleep(PAUSE)


def forever(port: str, *named: str) -> None:
    notes: dict[str, Notes] = {}
    for one in named:
        name, _, url = one.partition("=")
        for keep in (True, False):
            mine = notes[f"{name} {'kept' if keep else 'new'}"] = Notes()
            threading.Thread(
                target=_circle, args=(url, mine), kwargs={"keep": keep}, daemon=True
            ).start()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({name: vars(one) for name, one in notes.items()}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002  # the name in the base class
            """Say nothing."""

    http.server.ThreadingHTTPServer(("", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "once":
        once(*sys.argv[2:])
    else:
        forever(*sys.argv[2:])
