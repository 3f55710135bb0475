"""Configuration of the controller, read once."""

from __future__ import annotations

from pathlib import Path

import msgspec

from penstock.compiler.compile import KINDS
from penstock.compiler.settings import Settings
from penstock.core.kinds import ConfigMap, Deployment, Node, Secret
from penstock.meta.paths import RunPaths
from penstock.sources.registry import Registry, registry


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a controller is told when it starts."""

    sources: tuple[Path, ...]
    """Folders and files of YAML."""
    paths: RunPaths = RunPaths()
    settings: Settings = Settings()
    log_json: bool = False


def known_kinds() -> Registry:
    """Return every kind that a folder may hold."""
    return registry(KINDS, (Deployment, ConfigMap, Secret, Node))
