"""Times connect(): run as `python connector.py HOST PORT COUNT`, prints nanoseconds as JSON.

Connections end with a reset, so that none is left in TIME_WAIT; a pause now and then lets the
server empty its queue, for a SYN that meets a full one waits a second. Needs the standard library
only.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time

RESET = struct.pack("=ii", 1, 0)
GROUP = 32
"""Connections between pauses; a stock Envoy's queue holds 128."""
PAUSE = 1e-3
"""Seconds that Envoy has to take what is in its queue, or connections would wait a second in it."""


def connect(address: tuple[str, int]) -> int:
    """Return the nanoseconds that one connect() took."""
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        start = time.perf_counter_ns()
        made.connect(address)
        return time.perf_counter_ns() - start


def main() -> None:
    host, port, count = sys.argv[1:]
    found: list[int] = []
    for number in range(int(count)):
        if number % GROUP == 0:
            time.sleep(PAUSE)
        found.append(connect((host, int(port))))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
