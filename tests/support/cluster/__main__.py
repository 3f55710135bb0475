"""`python -m support.cluster`: see commands.py."""

from __future__ import annotations

import sys

from support.cluster.commands import main

sys.exit(main(sys.argv[1:]))
