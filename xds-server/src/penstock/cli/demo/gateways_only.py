"""What the demo shows without root or eBPF."""

from __future__ import annotations

from penstock.cli.demo.script import Script
from penstock.cli.demo.stage import Stage


async def play_gateways(stage: Stage, script: Script, reason: str) -> None:
    """Play what needs no rights."""
    del stage
    script.leave_out("everything", reason)
