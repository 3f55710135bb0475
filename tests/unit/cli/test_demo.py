from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

from rich.console import Console

from penstock.cli.demo.gateways_only import copy_with_ports, free_ports
from penstock.cli.demo.load_process import Tally
from penstock.cli.demo.script import Script
from penstock.cli.demo.shop import Expectation, got
from penstock.cli.demo.steps import show_split
from penstock.cli.load import Answer

EXAMPLES = Path(__file__).parents[3] / "examples"


def script() -> tuple[Script, io.StringIO]:
    out = io.StringIO()
    return Script(Console(file=out, width=200)), out


def tally(v1: int, v2: int, failed: int = 0) -> Tally:
    counts = {Answer(200, "v1"): v1, Answer(200, "v2"): v2, Answer(0, "", "refused"): failed}
    return Tally(Counter({answer: count for answer, count in counts.items() if count}))


def test_the_end_counts_and_its_exit_status_tells_failure() -> None:
    told, out = script()
    told.check("GET /", "200", "200", holds=True)
    assert told.end(1.0) == 0
    told.check("GET /", "200", "403", holds=False)
    told.leave_out("pods", "no rights")
    assert told.end(1.0) == 1
    assert "1 passed, 0 failed  (1 s)" in out.getvalue()
    assert "1 passed, 1 failed, 1 steps not run" in out.getvalue()


def test_a_split_holds_within_three_points() -> None:
    told, out = script()
    show_split(told, tally(1990, 2010), (50, 50))
    show_split(told, tally(1850, 2150), (50, 50))
    assert (told.passed, told.failed) == (1, 1)
    assert "█" * 20 + "▒" * 20 in out.getvalue()


def test_a_split_with_a_failure_or_too_few_requests_does_not_hold() -> None:
    told, _ = script()
    show_split(told, tally(4000, 0, failed=1), (100, 0))
    show_split(told, tally(100, 0), (100, 0))
    assert told.failed == 2


def test_a_refusal_is_only_what_the_kernel_refuses() -> None:
    expected = Expectation("GET", "http://orders/", 0)
    assert expected.holds(Answer(0, "", "connection refused"))
    assert not expected.holds(Answer(0, "", "no answer in 3 s"))
    assert not expected.holds(Answer(200, "v1"))
    assert got(Answer(200, "v1")) == "200 v1"


def test_complaints_name_what_went_wrong() -> None:
    assert tally(1, 0, failed=3).complaints == "3 of refused"
    assert tally(1, 0, failed=3).failures == 3


def test_the_gateway_example_gets_free_ports(tmp_path: Path) -> None:
    ports = free_ports(3)
    assert len(set(ports)) == 3
    copy_with_ports(EXAMPLES / "gateway", tmp_path / "copy", ports)
    assert f"port: {ports[0]}" in (tmp_path / "copy" / "gateway.yaml").read_text()
    assert f"port: {ports[2]}" in (tmp_path / "copy" / "orders.yaml").read_text()
