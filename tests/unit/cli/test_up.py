from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from penstock.cli.answers import ConditionView, conditions_of
from penstock.cli.down import down
from penstock.cli.mode import Mode
from penstock.cli.processes import Processes, read_processes, write_processes
from penstock.cli.publish import choose_offset
from penstock.cli.ready import hints, run_dir_option
from penstock.cli.report import Report
from penstock.cli.up import up
from penstock.cli.watch import tell_changes, tell_conditions, wrong
from penstock.meta.errors import PenstockError
from penstock.meta.names import ObjectRef
from penstock.meta.paths import RunPaths
from penstock.meta.problems import Location, Problem
from penstock.runtime.processes import own_process
from penstock.sources.source import SourceProblem
from support import cli_answers

REF = ObjectRef("HTTPRoute", "shop", "orders")


def report() -> tuple[Report, io.StringIO]:
    out = io.StringIO()
    return Report(Console(file=out, width=200)), out


def mistake(line: int, message: str = "unknown field") -> SourceProblem:
    return SourceProblem(
        file="/shop/canary.yaml",
        location=Location("/shop/canary.yaml", line, 3),
        ref=REF,
        problem=Problem("spec.rule", message, "did you mean rules?"),
        last_good=True,
    )


def test_a_mistake_is_told_once_and_its_mending_once() -> None:
    told, out = report()
    known = tell_changes({}, [mistake(4)], told)
    known = tell_changes(known, [mistake(4)], told)
    assert tell_changes(known, [], told) == {}
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert "/shop/canary.yaml:4:3: HTTPRoute shop/orders: spec.rule: unknown field" in lines[0]
    assert "the last good version stays in force" in lines[0]
    assert "mended" in lines[1]


def test_a_mistake_that_moved_is_not_mended() -> None:
    told, out = report()
    tell_changes(tell_changes({}, [mistake(4)], told), [mistake(5)], told)
    assert "mended" not in out.getvalue()


def test_a_run_folder_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PenstockError, match="use a shorter --run-dir"):
        up(tmp_path, RunPaths(Path("/tmp") / ("x" * 90)), only_gateways=True)


def test_processes_are_written_and_read(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    assert read_processes(paths) is None
    written = Processes(up=own_process(), folder="/shop")
    write_processes(paths, written)
    assert read_processes(paths) == written


def test_down_without_anything_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert down(RunPaths(tmp_path / "none")) == 0
    assert "nothing runs in" in capsys.readouterr().out


def test_down_leaves_a_folder_that_is_not_ours_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    down(RunPaths(tmp_path))
    assert (tmp_path / "letter.txt").exists()


def test_hints_name_the_run_folder_unless_it_is_the_usual_one() -> None:
    assert run_dir_option(RunPaths()) == ""
    lines = hints(RunPaths(Path("/run/x")), Path("/shop"), Mode(full=True))
    assert len(lines) == 3
    assert all("--run-dir /run/x" in line for line in lines)


def test_a_mode_says_what_is_missing_in_one_line() -> None:
    assert Mode(full=True).name == "full"
    missing = Mode(full=False, missing=("no CAP_BPF", "no cgroup"))
    assert (missing.name, missing.reason) == ("gateways", "no CAP_BPF; no cgroup")


def test_conditions_of_a_route_are_those_of_its_first_parent() -> None:
    accepted = {"type": "Accepted", "status": "True", "reason": "Accepted"}
    found = conditions_of({"parents": [{"conditions": [accepted]}]})
    assert found == {"Accepted": ConditionView("Accepted", "True", "Accepted")}
    assert conditions_of({"ancestors": [{"conditions": [accepted]}]}) == found
    assert conditions_of({}) == {}


def test_low_ports_are_shifted_to_where_all_are_free() -> None:
    assert choose_offset([80, 443, 9000], lambda _: True) == 8000
    assert choose_offset([80, 443], lambda port: port != 8443) == 18000


def test_a_high_port_that_is_taken_is_told() -> None:
    with pytest.raises(PenstockError, match="port 9000 of a Gateway is in use"):
        choose_offset([80, 9000], lambda port: port != 9000)
    with pytest.raises(PenstockError, match=r"no free port .* tried 8080, 18080"):
        choose_offset([80], lambda _: False)


def test_a_condition_is_told_when_it_turns_false_and_when_it_is_true_again() -> None:
    told, out = report()
    found = dict(wrong(cli_answers.ROUTES[1]))
    known = tell_conditions({}, found, told)
    known = tell_conditions(known, found, told)
    tell_conditions(known, {}, told)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert "HTTPRoute shop/lost ResolvedRefs  BackendNotFound: spec.rules[0]" in lines[0]
    assert "(/shop/policy.yaml:3)" in lines[0]
    assert lines[1].endswith("in force  HTTPRoute shop/lost ResolvedRefs")
