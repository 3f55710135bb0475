from __future__ import annotations

from pathlib import Path

import pytest

from penstock.agent.homecoming import LOOKS, Homecoming

PID = 4711


class Machine:
    """A process, its own network namespace and others, as files."""

    def __init__(self, folder: Path) -> None:
        self.home, self.host, self.pod, self.other = (
            folder / name for name in ("home", "host", "pod", "other")
        )
        for namespace in (self.home, self.host, self.pod, self.other):
            namespace.touch()
        self._net = folder / "proc" / str(PID) / "ns" / "net"
        self._net.parent.mkdir(parents=True)
        self.known: Path | None = self.home
        self.watch = Homecoming(
            folder / "admin.sock",
            pid=lambda: PID,
            home=lambda: self.known,
            host=self.host,
            review=lambda: None,
            proc=folder / "proc",
        )

    def looks(self, *places: Path | None) -> list[int | None]:
        return [self._look(place) for place in places]

    def _look(self, place: Path | None) -> int | None:
        self._net.unlink(missing_ok=True)
        if place is not None:
            self._net.symlink_to(place)
        return self.watch.astray()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_envoy_that_stays_elsewhere_is_told_once(machine: Machine) -> None:
    found = machine.looks(machine.home, *([machine.pod] * (LOOKS + 3)))
    assert found == [None] * LOOKS + [PID] + [None] * 3


def test_visits_of_pods_are_its_work(machine: Machine) -> None:
    assert not any(machine.looks(*([machine.pod, machine.other] * LOOKS)))
    back = [machine.pod] * (LOOKS - 1) + [machine.home]
    assert not any(machine.looks(*(back * 3)))


def test_a_process_that_is_gone_is_nowhere(machine: Machine) -> None:
    assert not any(machine.looks(*([None] * LOOKS)))


def test_without_a_known_home_nothing_is_said(machine: Machine) -> None:
    machine.known = None
    assert not any(machine.looks(*([machine.pod] * LOOKS)))


def test_in_the_network_of_the_node_it_is_left(machine: Machine) -> None:
    """A port there may be somebody else's for ever; Gateways dial from its pod all the same."""
    assert not any(machine.looks(*([machine.host] * LOOKS)))
