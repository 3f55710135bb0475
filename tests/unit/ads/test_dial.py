"""Whom an agent dials, and when it doubts its certificate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest

from penstock.ads.dial import Controller, ControllersDialer, DialError, read_bundle
from penstock.meta.back_off import BackOff


class Fixed:
    def __init__(self) -> None:
        self.doubts = 0

    async def channel(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials()

    def doubt(self) -> None:
        self.doubts += 1


def dialer(*hosts: str, random: float = 0.0) -> tuple[ControllersDialer, Fixed]:
    async def controllers() -> Sequence[Controller]:
        return [Controller(host=host) for host in hosts]

    credentials = Fixed()
    return ControllersDialer(controllers, credentials, lambda: random), credentials


async def dial(one: ControllersDialer) -> str:
    dialed = await one.dial()
    await dialed.channel.close()
    return dialed.target


async def test_the_next_session_goes_to_another_controller() -> None:
    one, _ = dialer("10.0.0.1", "10.0.0.2")
    targets = [await dial(one) for _ in range(3)]
    assert targets == ["10.0.0.1:15012", "10.0.0.2:15012", "10.0.0.1:15012"]


async def test_chance_chooses_among_the_others() -> None:
    one, _ = dialer("a", "b", "c", random=0.999)
    assert [await dial(one) for _ in range(2)] == ["c:15012", "b:15012"]


async def test_the_only_controller_is_dialed_again() -> None:
    one, _ = dialer("fd00::1")
    assert [await dial(one) for _ in range(2)] == ["[fd00::1]:15012"] * 2


async def test_no_controller_is_said() -> None:
    one, _ = dialer()
    with pytest.raises(DialError, match="no controller is ready"):
        await one.dial()


async def test_failures_in_a_row_put_the_certificate_in_doubt() -> None:
    one, credentials = dialer("a")
    for answered in (False, False, False, True, False, False, False):
        one.ended("a:15012", answered=answered)
    assert credentials.doubts == 0
    one.ended("a:15012", answered=False)
    assert credentials.doubts == 1


def test_bundle_that_is_missing_or_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(DialError, match="penstock-ca"):
        read_bundle(tmp_path / "ca.crt")
    (tmp_path / "ca.crt").write_text("hello")
    with pytest.raises(DialError, match="no PEM"):
        read_bundle(tmp_path / "ca.crt")


def test_pauses_of_a_fleet_are_random_from_nothing_on() -> None:
    back_off = BackOff(first=2.0, longest=20.0, spread=1.0)
    assert [back_off.pause(n, 0.0) for n in (1, 2, 9)] == [0.0, 0.0, 0.0]
    assert [back_off.pause(n, 0.5) for n in (1, 2, 9)] == pytest.approx([1.0, 2.0, 10.0])
