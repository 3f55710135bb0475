"""Unix sockets of HTTP APIs."""

from __future__ import annotations

import socket
from pathlib import Path


def private_socket(path: Path) -> socket.socket:
    """Bind a unix socket that only its owner can connect to, in the place of a former one.

    Raises:
        OSError: the path is longer than 107 bytes, or its folder does not exist.
    """
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
        path.chmod(0o600)
    except OSError:
        bound.close()
        raise
    return bound
