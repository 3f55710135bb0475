"""Configuration of the controller, read once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import msgspec

from penstock.compiler.kinds import KINDS, STATUS_KINDS
from penstock.compiler.settings import Settings
from penstock.controlplane.kinds import known_kinds
from penstock.controlplane.network import Network
from penstock.controlplane.referenced import REFERENCED
from penstock.core.kinds import Service
from penstock.ingress.resources import Ingress
from penstock.meta.clock import Clock
from penstock.meta.paths import RunPaths
from penstock.sources.kubernetes.access import Access
from penstock.sources.kubernetes.observed import Observed
from penstock.sources.kubernetes.source import KubernetesSource
from penstock.sources.merged import MergedSource, WithoutKind
from penstock.sources.source import Source

TOLD_KINDS = STATUS_KINDS - {Ingress.kind, Service.kind}
"""Kinds of CustomResourceDefinitions with a status of ours: see Observed."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a controller is told when it starts."""

    sources: tuple[Path, ...] = ()
    """Folders and files of YAML that the user wrote."""
    access: Access | None = None
    """The API server to read from instead."""
    environment: dict[str, str] = {}
    """What a credential plugin of `access` is started with."""
    lease_namespace: str = "kube-system"
    """Where the Lease is whose holder writes statuses into the API server."""
    made: Path | None = None
    """Folder of what a lab makes of them. Pods come from there only: a Pod that the user wrote has
    no address yet."""
    paths: RunPaths = RunPaths()
    network: Network = Network()
    settings: Settings = Settings()
    """Of the compiler, but for the authorities of the system."""
    system_authorities: Path | None = None
    """File with those; None is where this system keeps them."""


def source_of(config: Config, clock: Clock) -> Source:
    """Return the source of everything that the controller compiles."""
    if config.access is not None:
        return KubernetesSource(
            config.access,
            KINDS,
            clock,
            random.random,
            environment=config.environment,
            referenced=REFERENCED,
            observed=Observed(TOLD_KINDS),
        )
    if config.made is None:
        return _files(config.sources, clock)
    # Pods that the user wrote are decoded, and mistakes in them told.
    written = WithoutKind(_files(config.sources, clock), "Pod")
    return MergedSource([written, _files([config.made], clock)])


def _files(paths: Sequence[Path], clock: Clock) -> Source:
    from penstock.sources.file import FileSource  # noqa: PLC0415  with an API server there are none

    return FileSource(paths, known_kinds(), clock=clock)
