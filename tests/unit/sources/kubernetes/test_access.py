"""Where the server is and who we are: kubeconfig, service account, credential plugins."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from penstock.sources.kubernetes.access import Access, AccessError, Credentials, Pem
from penstock.sources.kubernetes.kubeconfig import from_kubeconfig, in_cluster
from support.fake_clock import FakeClock


def kubeconfig(
    folder: Path, user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None
) -> Path:
    """Write a kubeconfig with one context and return its path."""
    path = folder / "config"
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://k.test/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path.write_text(json.dumps(config))
    return path


def plugin(folder: Path, answer: str, code: int = 0) -> dict[str, Any]:
    """Return a user whose plugin notes its environment and prints *answer*."""
    program = folder / "plugin"
    text = f"printf '%s\\n' \"$KUBERNETES_EXEC_INFO $EXTRA\" >>{folder}/asked"
    program.write_text(f"#!/bin/sh\n{text}\ncat <<'E'\n{answer}\nE\nexit {code}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    env = [{"name": "EXTRA", "value": "extra"}]
    return {"exec": {"command": "./plugin", "args": ["a"], "env": env, "installHint": "ask"}}


def credentials(path: Path, clock: FakeClock | None = None) -> Credentials:
    return Credentials(from_kubeconfig(path), clock or FakeClock(), {"PATH": "/usr/bin:/bin"})


def test_files_are_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    user = {"client-certificate": "me.crt", "client-key": "/abs/me.key"}
    access = from_kubeconfig(kubeconfig(tmp_path, user, {"certificate-authority": "ca.crt"}))
    assert access.server == "http://k.test"
    assert access.authority == Pem(tmp_path / "ca.crt")
    assert access.certificate == Pem(tmp_path / "me.crt")
    assert access.key == Pem(Path("/abs/me.key"))


def test_data_wins_over_files(tmp_path: Path) -> None:
    data = base64.b64encode(b"PEM").decode()
    cluster = {"certificate-authority": "ca.crt", "certificate-authority-data": data}
    access = from_kubeconfig(kubeconfig(tmp_path, cluster=cluster))
    assert access.authority == Pem(content=b"PEM")


async def test_static_token_and_password_become_headers(tmp_path: Path) -> None:
    bearer = credentials(kubeconfig(tmp_path, {"token": "t"}))
    assert await bearer.headers() == {"Authorization": "Bearer t"}
    basic = credentials(kubeconfig(tmp_path, {"username": "u", "password": "p"}))
    assert await basic.headers() == {"Authorization": "Basic dTpw"}


async def test_token_of_a_file_is_read_again_each_minute(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    clock = FakeClock()
    found = credentials(kubeconfig(tmp_path, {"tokenFile": "token"}), clock)
    assert await found.headers() == {"Authorization": "Bearer one"}
    (tmp_path / "token").write_text("two\n")
    clock.advance(59.0)
    assert await found.headers() == {"Authorization": "Bearer one"}
    clock.advance(2.0)
    assert await found.headers() == {"Authorization": "Bearer two"}


async def test_refused_token_is_read_again_at_once(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one")
    found = credentials(kubeconfig(tmp_path, {"tokenFile": "token"}))
    await found.headers()
    (tmp_path / "token").write_text("two")
    found.refuse()
    assert await found.headers() == {"Authorization": "Bearer two"}


async def test_plugin_is_asked_again_before_its_credential_ends(tmp_path: Path) -> None:
    clock = FakeClock()
    status = {"token": "t", "expirationTimestamp": "2023-11-14T22:23:20Z"}  # 600 s after the start
    answer = json.dumps({"kind": "ExecCredential", "status": status})
    found = credentials(kubeconfig(tmp_path, plugin(tmp_path, answer)), clock)
    for seconds, times in ((0.0, 1), (560.0, 1), (20.0, 2)):
        clock.advance(seconds)
        assert await found.headers() == {"Authorization": "Bearer t"}
        assert len((tmp_path / "asked").read_text().splitlines()) == times
    asked = (tmp_path / "asked").read_text().splitlines()
    assert '"kind":"ExecCredential"' in asked[0]
    assert asked[0].endswith(" extra")


@pytest.mark.parametrize(("answer", "code"), [("{}", 1), ("no", 0), ("{}", 0)])
async def test_plugin_that_gives_nothing_is_told(tmp_path: Path, answer: str, code: int) -> None:
    found = credentials(kubeconfig(tmp_path, plugin(tmp_path, answer, code)))
    with pytest.raises(AccessError, match="plugin"):
        await found.headers()


async def test_missing_plugin_is_told_with_its_hint(tmp_path: Path) -> None:
    user = {"exec": {"command": "no-such-plugin", "installHint": "install it from there"}}
    with pytest.raises(AccessError, match="install it from there"):
        await credentials(kubeconfig(tmp_path, user)).headers()


def test_pod_finds_its_service_account(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    access = in_cluster(environment, tmp_path)
    assert access.server == "https://[fd00::1]:6443"
    assert access.token_file == tmp_path / "token"
    assert access.authority == Pem(tmp_path / "ca.crt")


def test_outside_of_a_pod_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="name a kubeconfig"):
        in_cluster({}, tmp_path)


def test_secrets_are_not_shown() -> None:
    access = Access(server="https://k.test", token="secret", password="secret")  # noqa: S106
    assert "secret" not in repr(access) + repr(Pem(content=b"secret"))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("current-context",), "x", "no context named x"),
        (("current-context",), "", "no current-context"),
        (("clusters",), [], "no cluster named k"),
        (("clusters", 0, "cluster"), {}, "cluster k: .*server"),
        (("clusters", 0, "cluster", "proxy-url"), "x", "proxy-url"),
        (("users", 0, "user", "auth-provider"), {}, "use exec"),
    ],
)
def test_mistakes_in_a_kubeconfig_are_named(
    tmp_path: Path, place: tuple[Any, ...], value: Any, said: str
) -> None:
    path = kubeconfig(tmp_path)
    config = json.loads(path.read_text())
    around = config
    for step in place[:-1]:
        around = around[step]
    around[place[-1]] = value
    path.write_text(json.dumps(config))
    with pytest.raises(AccessError, match=said):
        from_kubeconfig(path)


def test_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="cannot be read"):
        from_kubeconfig(tmp_path / "none")
    (tmp_path / "config").write_text("a: [")
    with pytest.raises(AccessError, match="not YAML"):
        from_kubeconfig(tmp_path / "config")


async def test_unusable_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no")
    cluster = {"server": "https://k.test", "certificate-authority": "ca.crt"}
    with pytest.raises(AccessError, match="cannot be used"):
        await credentials(kubeconfig(tmp_path, cluster=cluster)).context()
