"""What an image name means where there are no images: a command on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from penstock.core.pods import Container
from penstock.meta.errors import PenstockError

_ECHO: tuple[str, ...] = (sys.executable, "-m", "penstock.lab.echo")
_SLEEP: tuple[str, ...] = ("sleep", "infinity")

BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "penstock.dev/echo": _ECHO,
    "penstock.dev/client": _SLEEP,
    "curlimages/curl": _SLEEP,
    "busybox": _SLEEP,
    "alpine": _SLEEP,
    "alpine/curl": _SLEEP,
    "nicolaka/netshoot": _SLEEP,
    "registry.k8s.io/pause": _SLEEP,
}
"""Image names without tag and registry, and the command that stands for their entrypoint."""

_REGISTRIES = ("docker.io/library/", "docker.io/", "index.docker.io/", "quay.io/", "ghcr.io/")


class UnknownImageError(PenstockError):
    """There is no command for an image."""


class Command(msgspec.Struct, frozen=True):
    """What stands for the image's entrypoint and what it needs in its environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """May refer to fields of the pod, as $(metadata.name)."""


def command_of(container: Container, place: str) -> Command:
    """Return the command of *container*, with `args`, before $(VAR) expansion.

    Args:
        container: its `command` wins over the table of images.
        place: what the user wrote it in, for the message.

    Raises:
        UnknownImageError: no `command`, and the image is not in the table.
    """
    if container.command:
        return Command((*container.command, *container.args), {})
    known = BUILT_IN.get(bare_name(container.image))
    if known is None:
        raise UnknownImageError(
            f"{place}: image {container.image!r} has no local command; the lab runs processes of "
            "this machine, not images: give the container a `command`, or use an image of the "
            f"table ({', '.join(sorted(BUILT_IN))})"
        )
    if known is _SLEEP and container.args:
        return Command(container.args, {})
    return Command((*known, *container.args), _echo_env(container) if known is _ECHO else {})


def bare_name(image: str) -> str:
    """Return an image name without registry, tag and digest."""
    name = image.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    name = head + slash + tail.partition(":")[0]
    for registry in _REGISTRIES:
        name = name.removeprefix(registry)
    return name


def _echo_env(container: Container) -> dict[str, str]:
    """Return what the built-in server reads from its environment; `env` of the container wins."""
    ports = [str(port.container_port) for port in container.ports if port.protocol == "TCP"]
    return {
        "PYTHONPATH": own_path(),
        "POD_NAME": "$(metadata.name)",
        "POD_NAMESPACE": "$(metadata.namespace)",
        "PORT": ",".join(ports) or "8080",
    }


def own_path() -> str:
    """Return where this program's packages are, for a Python that runs a part of it."""
    return os.pathsep.join(entry for entry in sys.path if entry and Path(entry).is_dir())
