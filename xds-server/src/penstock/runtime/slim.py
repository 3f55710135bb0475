"""Libraries without what they load at import and nobody here uses; it would be a tenth of a start.

To be called before anybody else imports them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Generator, Mapping
from types import ModuleType
from typing import cast

_NO_AUTHORITIES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}


def import_structlog() -> None:
    """Import structlog without rich, in which it would show tracebacks: ours are plain."""
    with _absent("rich"):
        importlib.import_module("structlog")


def import_aiohttp() -> None:
    """Import aiohttp without the authorities of the system, which it reads to trust them.

    Its default context trusts nobody then. Connections here have contexts of their own.
    """
    with _environment(_NO_AUTHORITIES):
        importlib.import_module("aiohttp")


@contextlib.contextmanager
def _absent(name: str) -> Generator[None]:
    """Let the import of a module fail meanwhile, if it is not there already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = cast("ModuleType", None)
    try:
        yield
    finally:
        del sys.modules[name]


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Generator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
