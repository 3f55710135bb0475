"""Signals that ask a process to end."""

from __future__ import annotations

import asyncio
import signal


def stop_signal(*more: signal.Signals) -> asyncio.Event:
    """Return an event of the running loop that SIGTERM, SIGINT and *more* set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, *more):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
