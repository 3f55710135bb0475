from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from penstock.cli.answers import IntendedResource, NodeResource
from penstock.cli.difference import Difference, compare
from penstock.cli.dump import Running
from penstock.cli.formats import Format
from penstock.cli.proxy import diff, listing
from penstock.meta.paths import RunPaths
from support import cli_answers
from support.cli_answers import CLUSTER, LISTENER, UID, WORKLOAD, held, meant
from support.fake_apis import Answers

Golden = Callable[[str], None]


@pytest.mark.parametrize("what", ["listeners", "routes", "clusters", "endpoints"])
def test_each_row_names_the_users_object(what: str, paths: RunPaths, golden: Golden) -> None:
    assert listing(paths, what, Format.TABLE) == 0
    golden(f"proxy-{what}")


def test_a_listing_as_json_has_the_node_and_the_rows(
    paths: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    listing(paths, "clusters", Format.JSON)
    shown = msgspec.json.decode(capsys.readouterr().out)
    assert shown["node"] == "lab"
    assert list(shown["items"][1]) == ["name", "type", "intended", "acked", "runs", "object"]


def test_diff_is_empty_after_convergence(
    paths: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diff(paths, Format.TABLE) == 0
    assert capsys.readouterr().out == ""


def test_diff_lists_what_envoy_refused_with_its_reason(
    paths: RunPaths, agent: Answers, golden: Golden
) -> None:
    agent["/v1/snapshot"]["resources"] = [
        held("Cluster", "mesh|shop/orders-v1/80", "1", acked="", rejected="cannot bind: in use"),
        *cli_answers.HELD,
    ]
    agent["/v1/snapshot"]["resources"].remove(held("Cluster", "mesh|shop/orders-v1/80"))
    assert diff(paths, Format.TABLE) == 1
    golden("proxy-diff-rejected")


def test_diff_without_controller_compares_with_what_the_agent_was_told(
    paths: RunPaths, agent: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    paths.controller_api.unlink()
    agent["/v1/status"]["controller_connected"] = False
    assert diff(paths, Format.TABLE) == 0
    assert "no controller answers" in capsys.readouterr().err


def test_in_a_pod_an_agent_with_a_controller_knows_what_is_meant(
    paths: RunPaths, agent: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    paths.controller_api.unlink()
    agent["/v1/status"]["controller_connected"] = True
    assert diff(paths, Format.TABLE) == 0
    assert capsys.readouterr().err == ""


def resource(type_url: str, name: str, version: str = "1", **more: Any) -> IntendedResource:
    return msgspec.convert(meant(type_url, name, version) | more, IntendedResource)


def kept(kind: str, name: str, version: str = "1", **more: str) -> NodeResource:
    return msgspec.convert(held(kind, name, version, **more), NodeResource)


def runs(kind: str, name: str, version: str = "1") -> Running:
    return Running(kind, name, version, {})


def whats(found: list[Difference]) -> list[str]:
    return [one.what for one in found]


def test_what_envoy_lacks_is_missing() -> None:
    found = compare([resource(CLUSTER, "a")], [kept("Cluster", "a")], [], ())
    assert whats(found) == ["missing"]


def test_what_nobody_means_is_extra() -> None:
    assert whats(compare([], [], [runs("Cluster", "a")], ())) == ["extra"]


def test_another_version_is_different() -> None:
    found = compare(
        [resource(CLUSTER, "a", "2")], [kept("Cluster", "a", "2")], [runs("Cluster", "a")], ()
    )
    assert whats(found) == ["different"]


def test_what_the_agent_has_not_got_is_pending() -> None:
    running = [runs("Cluster", "a")]
    assert whats(compare([resource(CLUSTER, "a", "2")], [kept("Cluster", "a")], running, ())) == [
        "pending"
    ]


def test_what_envoy_has_not_accepted_is_pending() -> None:
    found = compare(
        [resource(CLUSTER, "a")], [kept("Cluster", "a", acked="")], [runs("Cluster", "a")], ()
    )
    assert found[0].detail == "Envoy has not accepted it"


def test_a_listener_of_a_pod_that_is_not_here_is_not_missing() -> None:
    name = f"{UID}/egress"
    intended, at_agent = [resource(LISTENER, name)], [kept("Listener", name, acked="")]
    assert compare(intended, at_agent, [], pods=()) == []
    assert whats(compare(intended, at_agent, [], pods={UID})) == ["missing"]


def test_own_types_are_judged_by_what_the_agent_took() -> None:
    assert compare([resource(WORKLOAD, "u")], [], [], ()) == []
    assert whats(compare([resource(WORKLOAD, "u", acked=None)], [], [], ())) == ["pending"]
