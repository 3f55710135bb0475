"""Build hook: generate Envoy's message classes and compile the eBPF programs."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent


class GenerateHook(BuildHookInterface[Any]):
    """Make what is not in git: `penstock.pb` and `penstock/bpf/objects/*.bpf.o`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Run before the files of the wheel are collected."""
        del version, build_data
        runpy.run_path(str(ROOT / "xds-server" / "protogen.py"))["generate"]()
        sys.path[:0] = [str(ROOT / "bpf" / "src"), str(ROOT / "xds-server" / "src")]
        from penstock.bpf.build import build
        from penstock.bpf.errors import BuildError

        try:
            build()
        except BuildError as error:
            # A machine without clang can still serve Gateways and run everything but eBPF.
            sys.stderr.write(f"eBPF programs were not compiled: {error}\n")
