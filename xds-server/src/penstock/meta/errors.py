"""Base of all errors that Penstock raises for causes outside its own code."""

from __future__ import annotations


class PenstockError(Exception):
    """A cause outside our code; the text names the cause and the next step."""
