"""What failed under load is told in lines that a reader can take in."""

from __future__ import annotations

from support.cluster.traffic import Gap, gaps


def test_failures_of_one_kind_in_a_row_are_one_gap() -> None:
    bad = [(10.0, "503"), (10.5, "503"), (11.4, "503"), (12.5, "503"), (12.6, "refused")]
    assert gaps(bad) == [
        Gap("503", 3, 10.0, 11.4),
        Gap("503", 1, 12.5, 12.5),
        Gap("refused", 1, 12.6, 12.6),
    ]


def test_no_failures_are_no_gaps() -> None:
    assert gaps([]) == []
