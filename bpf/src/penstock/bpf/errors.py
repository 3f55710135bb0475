"""What can go wrong between user space and the kernel."""

from __future__ import annotations

import errno
import os

from penstock.meta.errors import PenstockError


class BuildError(PenstockError):
    """The programs could not be compiled."""


class DatapathError(PenstockError):
    """The kernel or libbpf refused something.

    Attributes:
        errno: the kernel's error number, 0 if there is none.
    """

    def __init__(self, text: str, error: int = 0) -> None:
        """Keep *error* and put its name behind *text*."""
        self.errno = error
        name = f": {errno.errorcode.get(error, error)} ({os.strerror(error)})" if error else ""
        super().__init__(text + name)
