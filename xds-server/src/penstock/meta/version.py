"""Which version this is: that of the distribution and of the chart."""

from __future__ import annotations

VERSION = "0.1.0"
