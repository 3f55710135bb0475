from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from penstock.cli import client
from penstock.cli.answers import ConditionView, Health
from penstock.cli.client import ApiError, NotRunningError
from penstock.cli.formats import Format
from penstock.cli.get import get, kind_named
from penstock.cli.observe import Places, Wanted, observe
from penstock.cli.processes import Processes, write_processes
from penstock.cli.reach import reachable
from penstock.cli.status import status
from penstock.lab.state import LabRecord, PodRecord, write_state
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths
from penstock.runtime.processes import ProcessId, own_process
from support import cli_answers
from support.fake_apis import FakeApi, served

Golden = Callable[[str], None]
POD = PodRecord(
    uid="u", namespace="shop", name="web-0", netns="", cgroup="", addresses=(), phase="Running",
    ready=True, restarts=0, reason="", message="", containers=(),
)  # fmt: skip


def test_routes_are_shown_with_their_conditions(paths: RunPaths, golden: Golden) -> None:
    assert get(paths, "httproutes", "", namespace="shop", form=Format.TABLE) == 0
    golden("get-httproutes")


def test_wide_adds_weights_and_the_place_in_the_file(paths: RunPaths, golden: Golden) -> None:
    assert get(paths, "route", "canary", namespace=None, form=Format.WIDE) == 0
    golden("get-httproute-wide")


def test_a_condition_that_is_bad_if_it_is_true_is_why_not() -> None:
    def of(kind: str, status: str) -> ConditionView:
        return ConditionView(type=kind, status=status)

    assert of("Overlapped", "True").is_bad
    assert of("PartiallyInvalid", "True").is_bad
    assert of("Accepted", "False").is_bad
    assert not of("Accepted", "Unknown").is_bad
    assert not of("Accepted", "Unknown").is_as_wanted
    assert of("Accepted", "True").is_as_wanted


def test_ingresses_are_shown_as_kubectl_shows_them(paths: RunPaths, golden: Golden) -> None:
    assert get(paths, "ing", "", namespace=None, form=Format.TABLE) == 0
    golden("get-ingresses")


def test_gateways_are_shown_with_address_and_ports(paths: RunPaths, golden: Golden) -> None:
    assert get(paths, "gw", "", namespace=None, form=Format.TABLE) == 0
    golden("get-gateways")


def test_one_object_as_yaml_is_the_object_itself(paths: RunPaths, golden: Golden) -> None:
    assert get(paths, "gateway", "shop", namespace=None, form=Format.YAML) == 0
    golden("get-gateway-yaml")


def test_an_object_that_is_not_there_is_exit_status_1(
    paths: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get(paths, "po", "none", namespace=None, form=Format.TABLE) == 1
    assert capsys.readouterr().err == "no Pod 'none' in any namespace\n"


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("cnp", "CiliumNetworkPolicy"),
        ("CiliumNetworkPolicies", "CiliumNetworkPolicy"),
        ("gateways", "Gateway"),
        ("HTTPRoute", "HTTPRoute"),
        ("gatewayclasses", "GatewayClass"),
        ("svc", "Service"),
        ("pods", "Pod"),
    ],
)
def test_a_kind_has_many_names(word: str, kind: str) -> None:
    assert kind_named(word) == kind


def test_an_unknown_kind_is_told_with_those_that_are_known() -> None:
    with pytest.raises(PenstockError, match=r"no kind 'widget'; known: BackendTLSPolicy"):
        kind_named("widget")


def test_status_is_one_page(paths: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    gone = ProcessId(own_process().pid, 1)
    write_processes(paths, Processes(up=own_process(), controller=gone, folder="/shop"))
    assert status(paths, Format.JSON) == 1
    page = msgspec.json.decode(capsys.readouterr().out)
    assert list(page) == [
        "runDir", "folder", "mode", "up", "controller", "agent", "envoy", "pods", "gateways",
        "problems",
    ]  # fmt: skip
    assert page["up"]["running"]
    assert page["controller"] == {"running": False, "pid": 0, "synced": True, "objects": 9}
    assert page["gateways"][0]["reachable"] == ["127.0.0.1:8080"]
    assert page["problems"][0]["place"] == "/shop/policy.yaml:18:7"


def test_a_gateways_address_on_this_machine_comes_first(paths: RunPaths) -> None:
    (one,) = reachable(client.agent(paths))
    assert one.gateway == "shop/shop"
    assert one.port == 80
    assert one.addresses == ("127.0.0.1:8080", "10.97.0.27:80")


@pytest.mark.usefixtures("utc")
def test_flows_are_one_line_each_with_the_line_that_decided(
    paths: RunPaths, golden: Golden
) -> None:
    assert observe(paths, Wanted(), last=20, follow=False, form=Format.TABLE) == 0
    golden("observe")


@pytest.mark.usefixtures("utc")
def test_flows_as_json_carry_policy_and_place(paths: RunPaths, golden: Golden) -> None:
    wanted = Wanted(pod="shop/frontend", verdict="denied")
    assert observe(paths, wanted, last=1, follow=False, form=Format.JSON) == 0
    golden("observe-json")


def test_where_there_is_no_flow_one_line_says_so(
    paths: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = Wanted(pod="nope", verdict="denied")
    assert observe(paths, wanted, last=20, follow=False, form=Format.TABLE) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "no flow of pod nope with verdict DENIED yet\n")


def test_a_pod_that_the_lab_does_not_have_is_an_error_that_names_the_others(
    paths: RunPaths,
) -> None:
    write_state(paths, LabRecord(process=own_process(), cgroup="", pods=(POD,)))
    with pytest.raises(PenstockError, match=r"no pod 'nope'; there are: shop/"):
        observe(paths, Wanted(pod="nope"), last=20, follow=False, form=Format.TABLE)


def test_the_place_of_a_policy_is_asked_for_once(run_dir: Path) -> None:
    paths, api = RunPaths(run_dir), FakeApi(cli_answers.controller())
    with served({paths.controller_api: api}):
        places = Places(client.controller(paths))
        assert places.of(cli_answers.POLICY) == places.of(cli_answers.POLICY)
        assert places.of("Default allow") is None
    assert len(api.asked) == 1


def test_nothing_running_is_told_with_the_next_step(run_dir: Path) -> None:
    paths = RunPaths(run_dir)
    with pytest.raises(NotRunningError, match=r"no controller runs in .*; start one: penstock up"):
        get(paths, "gw", "", namespace=None, form=Format.TABLE)


def test_an_answer_of_another_shape_is_told(paths: RunPaths) -> None:
    with pytest.raises(ApiError, match="what this version cannot read"):
        client.controller(paths).get("/v1/health", list[int])


def test_an_error_of_the_api_is_passed_on(run_dir: Path) -> None:
    paths, api = RunPaths(run_dir), FakeApi({})
    api.broken = True
    said = "answered 500 to /v1/health: out of order"
    with served({paths.controller_api: api}), pytest.raises(ApiError, match=said):
        client.controller(paths).get("/v1/health", Health)
