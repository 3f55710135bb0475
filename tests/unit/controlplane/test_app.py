"""The start of the controller."""

from __future__ import annotations

import gc
from collections.abc import Callable

from penstock.controlplane.app import START_SECONDS, spare_collector


def test_garbage_is_not_kept_for_ever_while_there_is_no_first_snapshot() -> None:
    later: dict[float, Callable[[], None]] = {}
    try:
        spare_collector(later.__setitem__)
        assert not gc.isenabled()
        later[START_SECONDS]()
        assert gc.isenabled()
    finally:
        gc.enable()
