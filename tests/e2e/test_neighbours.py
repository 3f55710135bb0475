"""Two instances on one machine do not know of each other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from penstock.bpf.capabilities import missing_capabilities
from penstock.lab.rights import missing_rights
from penstock.lab.state import read_state
from support.siege import REFUSED, Siege, ask, request, siege
from support.siege_load import Load

pytestmark = pytest.mark.timeout(240)

ALLOWED, FORBIDDEN = request("GET", "/public/x"), request("GET", "/private")


@pytest.fixture(scope="module")
def labs() -> Iterator[tuple[Siege, Siege]]:
    if missing := missing_rights() or missing_capabilities():
        pytest.skip(missing[0])
    with siege("one") as one, siege("other") as other:
        yield one, other


def verdicts(lab: Siege) -> list[object]:
    client, vip = lab.inside("client"), (lab.vip("server"), 80)
    intruder = ask(lab.inside("intruder"), lab.address("server-v1"), 8080, ALLOWED)
    return [
        ask(client, *vip, ALLOWED).outcome,
        ask(client, *vip, FORBIDDEN).outcome,
        intruder.outcome,
    ]


def test_same_names_and_addresses_in_both_are_two_things(labs: tuple[Siege, Siege]) -> None:
    one, other = labs
    assert one.pod("client").addresses == other.pod("client").addresses
    assert one.pod("client").uid == other.pod("client").uid
    for lab in labs:
        assert verdicts(lab) == [200, 403, REFUSED]
    ask(one.inside("client"), one.vip("server"), 80, request("GET", "/public/only-in-one"))
    assert one.reached("only-in-one")
    assert not other.reached("only-in-one")


def test_what_is_killed_changed_and_ended_in_one_is_not_noticed_in_the_other(
    labs: tuple[Siege, Siege],
) -> None:
    one, other = labs
    with Load() as load:
        target = (other.vip("server"), 80)
        load.add("allowed", other.inside("client"), target, ALLOWED)
        load.add("new", other.inside("client"), target, ALLOWED, keep=False)
        load.add("forbidden", other.inside("client"), target, FORBIDDEN)
        load.wait(50)
        for process in (one.envoy(), one.processes().agent, one.processes().controller):
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
        (one.folder / "policy.yaml").unlink()
        one.until(one.whole)
        client, vip = one.inside("client"), one.vip("server")
        one.until(lambda: ask(client, vip, 80, FORBIDDEN).outcome == 200)
        assert one.close() == []
        load.wait(50)
    assert set(load.tally("allowed")) == set(load.tally("new")) == {200}
    assert set(load.tally("forbidden")) == {403}
    assert all(pod.ready for pod in read_state(other.paths).pods)


def test_second_instance_in_the_same_run_folder_is_refused(labs: tuple[Siege, Siege]) -> None:
    _, other = labs
    before = other.processes()
    empty = other.scratch / "empty"
    empty.mkdir()
    for folder in (other.folder, empty):
        again = other.penstock("up", str(folder))
        assert again.returncode == 2
        assert "already runs" in again.stderr
        assert "penstock down" in again.stderr
    assert verdicts(other) == [200, 403, REFUSED]
    assert other.processes() == before
