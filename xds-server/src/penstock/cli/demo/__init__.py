"""`make demo`: the shop, told in five steps, each measured.

With root and eBPF the whole mesh; else what Gateways alone can show, and what was left out.
"""

from penstock.cli.demo.play import run

__all__ = ["run"]
