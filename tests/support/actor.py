"""A process inside one cgroup and network namespace that hands out sockets made there.

Run as `python actor.py CONTROL_FD CGROUP NETNS`. The programs judge a socket by the cgroup and
namespace it was made in, so a test can use it from its own process. Needs the standard library
only, to start fast.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys

CLONE_NEWNET = 0x40000000


def main() -> None:
    control_fd, cgroup, netns = sys.argv[1:]
    with open(f"{cgroup}/cgroup.procs", "w", encoding="ascii") as procs:  # noqa: PTH123 - runs without packages, at once
        procs.write(str(os.getpid()))
    namespace = os.open(netns, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"setns {netns}")
    with socket.socket(fileno=int(control_fd)) as control:
        while request := control.recv(64):
            family, kind, protocol = map(int, request.split())
            try:
                with socket.socket(family, kind, protocol) as made:
                    socket.send_fds(control, [b"0"], [made.fileno()])
            except OSError as error:
                control.send(str(error.errno).encode())


if __name__ == "__main__":
    main()
