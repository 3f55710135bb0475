"""What a killed run of the tests leaves is ended by the next one, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys

from support.leftovers import MARK, begin_run, left_processes

RUN = """
import os, subprocess
from support.leftovers import begin_run
begin_run()
print(subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=2).pid, flush=True)
os.kill(os.getpid(), 9)
"""


def killed_run() -> int:
    """Return what a run has left that was killed: the number of a process."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    unmarked = {name: value for name, value in os.environ.items() if name != MARK}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**unmarked, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        check=False,
    )
    return int(done.stdout)


def test_a_run_ends_what_a_killed_one_has_left() -> None:
    left = killed_run()
    assert left in set(left_processes())
    begin_run()
    assert left not in set(left_processes())


def test_what_a_run_starts_that_still_goes_on_is_not_left() -> None:
    with subprocess.Popen(["sleep", "600"]) as mine:
        try:
            assert mine.pid not in set(left_processes())
        finally:
            mine.kill()
