"""Structured logs on standard error."""

from __future__ import annotations

import logging
import sys

import structlog

from penstock.meta.errors import PenstockError

LEVELS = ("debug", "info", "warning", "error")


class LogError(PenstockError):
    """Logs cannot be as wished."""


def log_to_stderr(*, json: bool, level: str = "info") -> None:
    """Log as text for people or as one JSON object a line; *level* is the least that is told.

    Raises:
        LogError: there is no such level.
    """
    if level not in LEVELS:
        raise LogError(f"--log-level {level}: one of {', '.join(LEVELS)}")
    colours = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer()
            if json
            else structlog.dev.ConsoleRenderer(colors=colours),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
