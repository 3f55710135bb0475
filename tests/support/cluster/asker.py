"""Asks from inside a pod; its text is the program of the pod, which has only Python.

once METHOD URL [HEADER:VALUE…]   prints {"status": 200, "body": …} or {"error": "refused"}
forever PORT NAME=URL…            asks all URLs in a circle, each on an open connection and on new
                                  ones; GET on PORT tells {NAME: {"ok": n, "bad": [[time, what]…]}}
"""

from __future__ import annotations

import http.client
import http.server
import json
import sys
import threading
import time
import urllib.parse

TIMEOUT = 10.0
PAUSE = 0.02


def _ask(connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str]):  # type: ignore[no-untyped-def]  # noqa: ANN202  # a tuple of status and bytes
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def _open(url: str) -> tuple[http.client.HTTPConnection, str]:
    parts = urllib.parse.urlsplit(url)
    return http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT), parts.path or "/"


def _cause(error: Exception) -> str:
    return "refused" if isinstance(error, ConnectionRefusedError) else repr(error)


def once(method: str, url: str, *headers: str) -> None:
    connection, path = _open(url)
    pairs = dict(one.split(":", 1) for one in headers)
    try:
        status, body = _ask(connection, method, path, pairs)
        found = {"status": status, "body": body.decode(errors="replace")}
    except OSError as error:
        found = {"error": _cause(error)}
    sys.stdout.write(json.dumps(found))


def _circle(url: str, notes: dict[str, object], *, keep: bool) -> None:
    host = ""
    url, _, host = url.partition("#")
    headers = {"Host": host} if host else {}
    connection, path = _open(url)
    while True:
        began = time.time()
        try:
            status, _body = _ask(connection, "GET", path, headers)
            what = "" if status == 200 else str(status)
        except (OSError, http.client.HTTPException) as error:
            what = _cause(error)
            connection.close()
        if what:
            notes["bad"].append([began, what])  # type: ignore[attr-defined]
        else:
            notes["ok"] += 1  # type: ignore[operator]
        if not keep:
            connection.close()
        time.sleep(PAUSE)


def forever(port: str, *named: str) -> None:
    notes: dict[str, dict[str, object]] = {}
    for one in named:
        name, _, url = one.partition("=")
        for keep in (True, False):
            mine = notes[f"{name} {'kept' if keep else 'new'}"] = {"ok": 0, "bad": []}
            threading.Thread(
                target=_circle, args=(url, mine), kwargs={"keep": keep}, daemon=True
            ).start()

    class Notes(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802  # the name that the library calls
            body = json.dumps(notes).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    http.server.ThreadingHTTPServer(("", int(port)), Notes).serve_forever()


if __name__ == "__main__":
    {"once": once, "forever": forever}[sys.argv[1]](*sys.argv[2:])
