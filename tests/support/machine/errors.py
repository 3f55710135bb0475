"""What goes wrong with a machine, in words that say what to do."""

from __future__ import annotations


class MachineError(Exception):
    """A machine cannot be made or started, or ends before its command does."""
