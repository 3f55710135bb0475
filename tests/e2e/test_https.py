"""`penstock up examples/https`: as a browser would see it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.runtime.files import in_memory
from support.penstock_process import ROOT, Penstock, eventually
from support.pki import Issued, issue

pytestmark = pytest.mark.timeout(240)
PATIENCE = 20.0


class Browser:
    """Makes requests as one that trusts one certificate."""

    def __init__(self, penstock: Penstock) -> None:
        (gateway,) = penstock.status()["gateways"]
        url = next(one for one in gateway["urls"] if one.startswith("https://"))
        host, _, port = url.removeprefix("https://").rstrip("/").partition(":")
        self._at = (host, int(port))

    def status(self, trusted: str, host: str = "shop.test", asked: str = "") -> int:
        """Return the status of a request, 0 if the handshake is refused.

        Args:
            trusted: certificate in PEM.
            host: that the connection is for.
            asked: that the request is for, if it is another one.
        """
        context = ssl.create_default_context(cadata=trusted)
        try:
            with (
                socket.create_connection(self._at, timeout=5) as plain,
                context.wrap_socket(plain, server_hostname=host) as secure,
            ):
                lines = ("GET / HTTP/1.1", f"host: {asked or host}", "connection: close", "", "")
                secure.sendall("\r\n".join(lines).encode())
                return int(secure.recv(64).split()[1])
        except (ssl.SSLError, ConnectionError):
            return 0


@pytest.fixture
def shop(penstock: Penstock) -> Penstock:
    shutil.rmtree(penstock.folder)
    shutil.copytree(ROOT / "examples" / "https", penstock.folder)
    return penstock


def _secret(folder: Path) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((folder / "certificate.yaml").read_text())
    return made


def _write(folder: Path, one: Issued, key: str) -> None:
    raw = _secret(folder)
    raw["stringData"] = {"tls.crt": one.pem, "tls.key": key}
    beside = folder / ".certificate.new"
    beside.write_text(yaml.safe_dump(raw))
    beside.replace(folder / "certificate.yaml")


def _files_with(folder: Path, text: bytes) -> list[Path]:
    files = (one for one in folder.rglob("*") if one.is_file() and not one.is_symlink())
    return [one for one in files if text in one.read_bytes()]


@pytest.mark.usefixtures("rights")
def test_https_is_served_renewed_and_survives_its_processes(shop: Penstock) -> None:
    shop.start()
    browser = Browser(shop)
    data = _secret(shop.folder)["stringData"]
    first, key = data["tls.crt"], data["tls.key"]
    assert browser.status(first) == 200
    assert browser.status(first, "any.shop.test") == 200
    assert browser.status(first, asked="any.shop.test") == 421
    assert browser.status(first, asked="elsewhere.test") == 404
    assert shop.run("proxy", "diff").stdout == ""
    if not in_memory(shop.paths.state):
        assert _files_with(shop.paths.state, key.splitlines()[1].encode()) == []

    renewed = issue("shop.test", "*.shop.test")
    _write(shop.folder, renewed, renewed.key_pem)
    assert eventually(lambda: browser.status(renewed.pem) == 200, PATIENCE)

    page = shop.status()
    for name in ("agent", "envoy"):
        os.kill(page[name]["pid"], signal.SIGKILL)
    assert eventually(lambda: browser.status(renewed.pem) == 200, PATIENCE)

    _write(shop.folder, renewed, issue("shop.test").key_pem)
    assert eventually(lambda: browser.status(renewed.pem) == 0, PATIENCE)
    shown = shop.run("get", "gateways", "-n", "shop", "-o", "yaml").stdout
    assert "tls.key is not the key of tls.crt" in shown
    assert (
        "PRIVATE KEY" not in shown + shop.run("get", "secrets", "-n", "shop", "-o", "yaml").stdout
    )
    assert shop.stop(signal.SIGINT) == 0
    assert shop.remains() == []
