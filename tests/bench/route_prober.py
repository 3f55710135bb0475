"""Asks a Gateway for routes until they are there, or all the time; counts what it is answered.

Run as `python route_prober.py ADDRESS PORT`, a process of its own so that it shares no lock with
others. Reads lines and answers each with lines of JSON:

* `until HOST PATH`: asks on one connection until the status is 200. Answers `"ready"` after the
  first answer that is not, then `{"time_ns", "asked", "failed"}`: monotonic time, and how many
  answers were neither 200 nor 404, closed connections among them.
* `load HOST PATH CONNECTIONS`: asks without pause on so many connections. Answers `"ready"` once
  each has been answered, and at the next line `{"STATUS": COUNT}`, 0 for a closed connection.

Needs the standard library only.
"""

from __future__ import annotations

import collections
import http.client
import json
import sys
import threading
import time

PAUSE = 200e-6
"""Seconds between requests of `until`: asking without pause would take a core from Envoy."""
NOT_YET, SERVED = 404, 200


class Asker:
    """One keep-alive connection."""

    def __init__(self, address: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(address, port, timeout=10)

    def ask(self, host: str, path: str) -> int:
        """Return the status of one answer; 0 if there was none."""
        try:
            self._connection.request("GET", path, headers={"host": host})
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0
        return answer.status


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def until(asker: Asker, host: str, path: str) -> None:
    """Ask until the answer is 200."""
    asked = failed = 0
    while True:
        status = asker.ask(host, path)
        now = time.monotonic_ns()
        asked += 1
        failed += status not in (SERVED, NOT_YET)
        if asked == 1:
            say("ready")
        if status == SERVED:
            say({"time_ns": now, "asked": asked, "failed": failed})
            return
        time.sleep(PAUSE)


def load(address: str, port: int, host: str, path: str, connections: int) -> None:
    """Ask until there is another line to read."""
    ended = threading.Event()
    counts = [collections.Counter[int]() for _ in range(connections)]
    begun = threading.Barrier(connections + 1)

    def work(counter: collections.Counter[int]) -> None:
        asker = Asker(address, port)
        counter[asker.ask(host, path)] += 1
        begun.wait()
        while not ended.is_set():
            counter[asker.ask(host, path)] += 1

    threads = [threading.Thread(target=work, args=(one,)) for one in counts]
    for thread in threads:
        thread.start()
    begun.wait()
    say("ready")
    sys.stdin.readline()
    ended.set()
    for thread in threads:
        thread.join()
    say(sum(counts, collections.Counter[int]()))


def main() -> None:
    address, port = sys.argv[1], int(sys.argv[2])
    asker = Asker(address, port)
    while line := sys.stdin.readline():
        what, *words = line.split()
        if what == "until":
            until(asker, *words)
        else:
            load(address, port, words[0], words[1], int(words[2]))


if __name__ == "__main__":
    main()
