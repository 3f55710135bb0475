"""What goes into a dump has no secret in it, wherever one was planted."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.check import Where
from penstock.cli.sysdump.command import sysdump
from penstock.cli.sysdump.parts import LARGEST, Part, read_archive, tail, write_archive
from penstock.cli.sysdump.redact import redact, redact_bytes, redact_text
from penstock.meta.paths import RunPaths

PLANTED = "pl4nted"
KEY = f"-----BEGIN EC PRIVATE KEY-----\nMHc{PLANTED}\n{PLANTED}==\n-----END EC PRIVATE KEY-----"
JWT = f"eyJhbGciOiJSUzI1NiJ9.eyJzdWIi{PLANTED}.c2ln{PLANTED}"
CERTIFICATE = f"-----BEGIN CERTIFICATE-----\n{'QUJD' * 30}\n-----END CERTIFICATE-----"


@pytest.mark.parametrize(
    "line",
    [
        f"Authorization: Bearer {PLANTED}",
        f"authorization: Basic {PLANTED}==",
        f'"authorization": "Bearer {PLANTED}"',
        f"Cookie: a=1; session={PLANTED}; b=2",
        f"set-cookie: session={PLANTED}; HttpOnly",
        f"X-Api-Key: {PLANTED}",
        f"x-auth-token={PLANTED}",
        f"password={PLANTED} user=a",
        f"db_password: {PLANTED}",
        f"GET /orders?card={PLANTED} 200",
        f"http://shop.test/orders?card={PLANTED}&b=1",
        f"to https://user:{PLANTED}@registry.test/x",
        f"joined with {JWT}",
        f"key {KEY} end",
        f"hash {'deadbeef' * 10}{PLANTED.encode().hex()}",
    ],
)
def test_text_loses_its_secrets(line: str) -> None:
    assert PLANTED not in redact_text(line)
    assert PLANTED.encode().hex() not in redact_text(line)


@pytest.mark.parametrize(
    "line",
    [
        "image penstock@sha256:" + "0123456789abcdef" * 4,
        "GET /orders 200 in 3 ms",
        "pod 5f1c1f9e-6c7d-4c1e-9a51-0a4d6f1a2b3c captured",
        "gw|shop/shop/80|shop.test to mesh|shop/orders/80",
        CERTIFICATE,
    ],
)
def test_text_without_secrets_stays(line: str) -> None:
    assert redact_text(line) == line


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "Secret", "metadata": {"name": "a"}, "data": {"tls.key": PLANTED}},
        {"items": [{"kind": "Secret", "stringData": {"x": PLANTED}}]},
        {"filters": [{"requestHeaderModifier": {"set": [{"name": "X", "value": PLANTED}]}}]},
        {"filters": [{"requestHeaderModifier": {"add": [{"name": "X", "value": PLANTED}]}}]},
        {"matches": [{"headers": [{"type": "Exact", "name": "x-user", "value": PLANTED}]}]},
        {"matches": [{"queryParams": [{"name": "q", "value": PLANTED}]}]},
        {"http": [{"headers": [f"X-Token: {PLANTED}"]}]},
        {"http": [{"headerMatches": [{"name": "X", "value": PLANTED}]}]},
        {"http": [{"headerMatches": [{"name": "X", "secret": {"name": PLANTED}}]}]},
        {"headers": [{"name": "x", "string_match": {"exact": PLANTED}}]},
        {"headers": [{"name": "x", "string_match": {"safe_regex": {"regex": PLANTED}}}]},
        {"query_parameters": [{"name": "x", "string_match": {"exact": PLANTED}}]},
        {"request_headers_to_add": [{"header": {"key": "x", "value": PLANTED}}]},
        {"containers": [{"env": [{"name": "A", "value": PLANTED}]}]},
        {"permissions": [{"header": {"name": "x", "string_match": {"exact": PLANTED}}}]},
        {"principals": [{"header": {"name": "x", "string_match": {"safe_regex": {
            "regex": PLANTED}}}}]},
        {"header": {"key": "x", "value": PLANTED}},
        {"predicate": {"name": "x", "value": {"deeper": [PLANTED]}}},
        {"private_key": {"inline_bytes": PLANTED}},
        {"privateKey": {"inlineString": PLANTED}},
        {"session_ticket_keys": {"keys": [{"inline_bytes": PLANTED}]}},
        {"dynamic_active_secrets": [{"secret": {"tls_certificate": {"chain": PLANTED}}}]},
        {"token": PLANTED},
        {"status": {"token": PLANTED}},
        {"metadata": {"annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": f'{{"value": "{PLANTED}"}}'}}},
        {"metadata": {"annotations": {"nginx.ingress.kubernetes.io/configuration-snippet":
            f"proxy_set_header X-Api-Key {PLANTED};"}}},
        {"metadata": {"annotations": {"note": f"Bearer {PLANTED}{PLANTED}"}}},
        {"metadata": {"managedFields": [{"x": PLANTED}]}},
        {"data": {"ca.crt": f"{CERTIFICATE}\n{KEY}"}},
        {"path": f"/orders?card={PLANTED}"},
        {"log": f"joined: {JWT}"},
    ],
)  # fmt: skip
def test_data_loses_its_secrets(data: Any) -> None:
    assert PLANTED not in json.dumps(redact(data))
    assert PLANTED.encode() not in redact_bytes(json.dumps(data).encode())
    assert PLANTED.encode() not in redact_bytes((json.dumps(data) + "\nplain\n").encode())


def test_names_and_structure_stay() -> None:
    route = {
        "metadata": {"name": "shop"},
        "matches": [{"headers": [{"type": "Exact", "name": "x-user", "value": "a"}]}],
        "backendRefs": [{"name": "orders", "port": 80, "weight": 90}],
    }
    assert redact(route) == {
        "metadata": {"name": "shop"},
        "matches": [{"headers": [{"type": "Exact", "name": "x-user", "value": "[redacted]"}]}],
        "backendRefs": [{"name": "orders", "port": 80, "weight": 90}],
    }


def test_where_a_certificate_comes_from_stays() -> None:
    listener = {"tls": {"certificateRefs": [{"name": "shop"}], "mode": "Terminate"}}
    assert redact(listener) == listener
    volume = {"secret": {"secretName": "shop"}}
    assert "shop" not in json.dumps(redact({"secret": {"data": "shop"}}))
    assert redact({"secretName": "shop"}) == {"secretName": "shop"}
    assert redact(volume) == {"secret": {"secretName": "[redacted]"}}


def test_a_key_whose_end_is_cut_off_is_gone() -> None:
    assert PLANTED.encode() not in redact_bytes(KEY[: KEY.index("-----END")].encode())


def test_an_archive_holds_what_was_given_and_equal_parts_give_equal_bytes() -> None:
    parts = [Part("b.txt", b"b\n"), Part("a/x.json", b'{"token": "pl4nted", "a": 1}')]
    first, second = io.BytesIO(), io.BytesIO()
    write_archive(parts, first)
    write_archive(reversed(parts), second)
    assert first.getvalue() == second.getvalue()
    read = read_archive(first.getvalue())
    assert [one.name for one in read] == ["a/x.json", "b.txt"]
    assert json.loads(read[0].content) == {"token": "[redacted]", "a": 1}


def test_of_a_long_log_the_end_is_kept() -> None:
    line = b"x" * 99 + b"\n"
    kept = tail(line * (LARGEST // 100 + 10))
    assert len(kept) <= LARGEST
    assert kept.startswith(b"x")
    assert kept.endswith(line)


def test_a_run_folder_without_processes_gives_its_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = RunPaths(tmp_path / "run")
    paths.logs.mkdir(parents=True)
    log = '{"event": "joined", "token": "%s"}\nAuthorization: Bearer %s\n' % (PLANTED, PLANTED)  # noqa: UP031
    (paths.logs / "agent.log").write_text(log)
    (paths.root / "node.pem").write_text(KEY)
    out = tmp_path / "dump.tar.gz"
    assert sysdump(Where(node=True, paths=paths), out, dry_run=False) == 0
    assert out.stat().st_mode & 0o777 == 0o600
    parts = {one.name: one.content for one in read_archive(out.read_bytes())}
    assert b"joined" in parts["logs/agent.log"]
    assert b"no agent runs" in parts["agent/status.json.error.txt"]
    assert json.loads(parts["check.json"])["findings"]
    assert all(PLANTED.encode() not in content for content in parts.values())
    assert "secrets are taken out" in capsys.readouterr().out


def test_a_dry_run_tells_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = RunPaths(tmp_path / "run")
    paths.logs.mkdir(parents=True)
    (paths.logs / "envoy.log").write_text("")
    out = tmp_path / "dump.tar.gz"
    assert sysdump(Where(node=True, paths=paths), out, dry_run=True) == 0
    told = capsys.readouterr().out.splitlines()
    assert {"check.json", "envoy/config_dump.json", "logs/envoy.log"} <= set(told)
    assert not out.exists()
