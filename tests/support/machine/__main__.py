"""`python -m support.machine`: see commands.py."""

from __future__ import annotations

import sys

from support.machine.commands import main

sys.exit(main(sys.argv[1:]))
