"""A folder of YAML compiled without running anything: for `translate` and `lint`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from penstock.cli.assumed import Assumed, assumed_classes
from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Settings
from penstock.controlplane.kinds import known_kinds
from penstock.core.decode import Decoded
from penstock.core.events import Event, EventType
from penstock.core.pods import Pod
from penstock.gatewayapi.backend_tls_policy import BackendTLSPolicy
from penstock.gatewayapi.external_backend_kind import XBackend
from penstock.lab.cluster import simulate
from penstock.meta.errors import PenstockError
from penstock.sources.file import Loaded, load


class Compiled(msgspec.Struct, frozen=True):
    """What the files hold and what became of it."""

    loaded: Loaded
    compiler: Compiler
    nodes: tuple[str, ...]
    assumed: tuple[Assumed, ...] = ()
    """Classes that are not in the files and were taken for ours."""


def compile_files(
    paths: Iterable[Path], settings: Settings | None = None, *, assume_classes: bool = False
) -> Compiled:
    """Compile files and folders as a lab would in which every pod runs and is ready.

    Args:
        paths: files and folders.
        settings: None is what a controller of this machine would have.
        assume_classes: whether classes that the files name and do not have are taken for ours.

    Raises:
        PenstockError: one of *paths* does not exist, or a mistake of Penstock's own.
    """
    wanted = tuple(paths)
    for path in wanted:
        if not path.exists():
            raise PenstockError(f"{path}: no such file or folder")
    loaded = load(wanted, known_kinds())
    made = simulate(loaded.objects)
    compiler = Compiler(settings or _settings(loaded.objects))
    assumed = assumed_classes(loaded.objects) if assume_classes else []
    objects = [*_without_pods(loaded.objects), *made.objects, *(one.made for one in assumed)]
    compiler.apply([Event(EventType.ADDED, one) for one in objects])
    if compiler.failures:
        first = min(compiler.failures.items(), key=lambda item: item[0])
        raise PenstockError(f"Penstock cannot compile {first[0]}: {first[1]!r}") from first[1]
    nodes = tuple(node.metadata.name for node in made.nodes)
    return Compiled(loaded, compiler, nodes, tuple(assumed))


def _settings(objects: Iterable[Decoded]) -> Settings:
    """Return what a controller of this machine would be told."""
    asks = any(
        isinstance(one, BackendTLSPolicy | XBackend) and one.trusts_system for one in objects
    )
    if not asks:
        return Settings()
    from penstock.runtime.system_authorities import (  # noqa: PLC0415 - few files ask
        read_system_authorities,
    )

    return Settings(system_authorities=read_system_authorities(None))


def _without_pods(objects: Iterable[Decoded]) -> list[Decoded]:
    """Leave out the pods as they are written: they come again with status and addresses."""
    return [one for one in objects if not isinstance(one, Pod)]
