"""`python -m penstock.agent`: run the agent of a node."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence

import structlog

from penstock.agent.app import serve
from penstock.agent.config import parse
from penstock.meta.errors import PenstockError


def configure_logs(level: str) -> None:
    """Write logs to stderr: for people on a terminal, as JSON lines elsewhere."""
    human = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if human else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent; return the exit status."""
    config = parse(sys.argv[1:] if argv is None else argv)
    configure_logs(config.log_level)
    try:
        asyncio.run(serve(config))
    except PenstockError as error:
        structlog.get_logger(__name__).error("agent cannot run", error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
