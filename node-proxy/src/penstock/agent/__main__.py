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
from penstock.runtime.logs import log_to_stderr


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent; return the exit status."""
    config = parse(sys.argv[1:] if argv is None else argv)
    level = logging.getLevelNamesMapping()[config.log_level.upper()]
    log_to_stderr(json=not sys.stderr.isatty(), level=level)
    try:
        asyncio.run(serve(config))
    except PenstockError as error:
        structlog.get_logger(__name__).error("agent cannot run", error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
