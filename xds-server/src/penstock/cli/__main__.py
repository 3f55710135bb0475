"""Entry point of `penstock`."""

from __future__ import annotations

import sys

from penstock.cli.commands import app
from penstock.meta.errors import PenstockError

CANNOT = 2
"""Exit status: nothing runs, or the request makes no sense. 1 is a negative answer."""
INTERRUPTED = 130


def main() -> None:
    """Run the command of sys.argv; what a user can cause is one line and never a traceback."""
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
