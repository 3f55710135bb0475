"""Entry point of `penstock`."""

from __future__ import annotations

import gc
import sys

from penstock.meta.errors import PenstockError
from penstock.runtime.slim import import_structlog

CANNOT = 2
"""Exit status: nothing runs, or the request makes no sense. 1 is a negative answer."""
INTERRUPTED = 130
YOUNG = 20_000
"""Objects that are made between two looks for garbage: to import a command makes 150,000, for good,
and with Python's 700 a tenth of the time goes to looking at them."""


def main() -> None:
    """Run the command of sys.argv; what a user can cause is one line and never a traceback."""
    gc.set_threshold(YOUNG)
    import_structlog()
    from penstock.cli.commands import app  # noqa: PLC0415 - with that threshold

    try:
        app()
    except PenstockError as error:
        sys.stderr.write(f"penstock: {error}\n")
        sys.exit(CANNOT)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
