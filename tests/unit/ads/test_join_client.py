"""A node that cannot join says why, and goes on trying."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from penstock.ads.dial import Controller, fixed_controllers
from penstock.ads.join import JoinClient
from penstock.ca.authority import new_authority
from support.fake_clock import FakeClock
from support.kube import free_ports
from support.nodes import running
from support.real_envoy import eventually


class Folder:
    """What a node is given."""

    def __init__(self, folder: Path) -> None:
        self.authority = folder / "ca.crt"
        self.token = folder / "token"
        now = datetime.now(UTC)
        self.authority.write_bytes(new_authority(now).certificates(now))
        self.token.write_text("a token")

    def spoil(self, name: str, content: str | None) -> None:
        """Have a file say something else, or not be there."""
        file: Path = getattr(self, name)
        file.unlink()
        if content is not None:
            file.write_text(content)


async def reasons(given: Folder, places: Sequence[Controller], attempts: int = 1) -> list[str]:
    """Return why a node got no certificate, attempt by attempt."""
    clock = FakeClock()
    client = JoinClient(
        "n1",
        ca_file=given.authority,
        token_file=given.token,
        controllers=fixed_controllers(*places),
        clock=clock,
        random=lambda: 0.0,
    )
    with structlog.testing.capture_logs() as logs:
        async with running(client.run()):
            for attempt in range(attempts):
                await eventually(lambda n=attempt: len(logs) > n and clock.sleepers == 1)  # type: ignore[misc]
                clock.advance(60.0)
    assert client.ends is None
    return [str(one["reason"]) for one in logs[:attempts]]


HERE = Controller(host="127.0.0.1")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("token", None, "token of this node cannot be read"),
        ("token", " \n", "is empty"),
        ("authority", None, "ConfigMap penstock-ca"),
        ("authority", "hello", "no PEM"),
        ("authority", "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----", "no usable"),
    ],
)
async def test_what_a_node_lacks_is_named(
    tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    given = Folder(tmp_path)
    given.spoil(name, content)
    assert words in (await reasons(given, [HERE]))[0]


async def test_no_controller_is_said(tmp_path: Path) -> None:
    assert "no controller is ready" in (await reasons(Folder(tmp_path), []))[0]


async def test_controllers_take_turns(tmp_path: Path) -> None:
    one, two = (Controller(host=host, join=free_ports(1)[0]) for host in ("127.0.0.1", "127.0.0.2"))
    said = await reasons(Folder(tmp_path), [one, two], attempts=3)
    hosts = [reason.removeprefix("no answer from ").partition(":")[0] for reason in said]
    assert hosts == ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
