"""Volumes of a pod as folders below the run folder, laid out as kubelet does.

Files of ConfigMaps and Secrets are links into a folder that is replaced whole, so that a running
process sees either all old or all new contents.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from penstock.core.kinds import ConfigMap, Secret
from penstock.core.pods import Container, KeyToPath, Volume
from penstock.lab import syscalls
from penstock.lab.cluster import Desired, PodPlan
from penstock.lab.environment import MissingReferenceError
from penstock.lab.launch import Mount
from penstock.meta.names import NamespacedName

_CURRENT = "..data"


class VolumeFolders:
    """Volumes of all pods of an instance: `volumes/<uid>/<name>`, Secrets on a tmpfs."""

    def __init__(self, root: Path) -> None:
        """Use the run folder *root*."""
        self._plain = root / "volumes"
        self._memory = root / "secrets"

    def prepare(self) -> None:
        """Make the folders and mount the tmpfs.

        Raises:
            OSError: the kernel refused to mount.
        """
        self._plain.mkdir(mode=0o711, exist_ok=True)
        self._memory.mkdir(mode=0o711, exist_ok=True)
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        syscalls.mount("penstock", str(self._memory), "tmpfs", flags, "mode=711,size=64m")

    def fill(self, plan: PodPlan, want: Desired) -> None:
        """Write the contents of a pod's volumes, also again when they changed.

        Raises:
            MissingReferenceError: a ConfigMap, Secret or key that is not optional is missing, or
                the volume is none of configMap, secret, emptyDir, hostPath.
        """
        namespace = plan.pod.metadata.namespace
        for volume in plan.pod.spec.volumes:
            folder = self._folder(plan.uid, volume)
            if volume.config_map is not None:
                key = NamespacedName(namespace, volume.config_map.name)
                source = want.config_maps.get(key)
                contents = _contents(source, key, volume.config_map.items, plan)
                if contents is None and not volume.config_map.optional:
                    raise _missing(plan, "ConfigMap", key)
                publish(folder, contents or {})
            elif volume.secret is not None:
                key = NamespacedName(namespace, volume.secret.secret_name)
                contents = _contents(want.secrets.get(key), key, volume.secret.items, plan)
                if contents is None and not volume.secret.optional:
                    raise _missing(plan, "Secret", key)
                publish(folder, contents or {})
            elif volume.empty_dir is not None:
                _open_folder(folder)
            elif volume.host_path is None:
                raise MissingReferenceError(
                    f"Pod {plan.key}: volume {volume.name!r} is of a kind that the lab lacks; "
                    "use configMap, secret, emptyDir or hostPath"
                )

    def mounts(self, plan: PodPlan, container: Container) -> list[Mount]:
        """Return what is mounted where in *container*."""
        volumes = {volume.name: volume for volume in plan.pod.spec.volumes}
        found: list[Mount] = []
        for wanted in container.volume_mounts:
            volume = volumes[wanted.name]
            source = self._source(plan.uid, volume)
            if wanted.sub_path:
                source = _below(source, wanted.sub_path)
                if not source.exists():
                    _open_folder(source)
            frozen = volume.config_map is not None or volume.secret is not None
            target = os.path.normpath("/" + wanted.mount_path.lstrip("/"))
            read_only = wanted.read_only or frozen
            found.append(Mount(source=str(source.resolve()), target=target, read_only=read_only))
        return found

    def remove(self, uid: str) -> None:
        """Remove the volumes of a pod."""
        for folder in (self._plain / uid, self._memory / uid):
            shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, uid: str, volume: Volume) -> Path:
        base = self._memory if volume.secret is not None else self._plain
        return base / uid / volume.name

    def _source(self, uid: str, volume: Volume) -> Path:
        if volume.host_path is not None:
            return Path(volume.host_path.path)
        return self._folder(uid, volume)


def publish(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Make *folder* show *contents*, all at once.

    Args:
        folder: made if it is missing.
        contents: by relative path.
    """
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    text = repr(sorted(contents.items())).encode()
    version = f"..{hashlib.sha256(text).hexdigest()[:16]}"
    current = folder / _CURRENT
    old = str(current.readlink()) if current.is_symlink() else ""
    if old == version:
        return
    for path, content in contents.items():
        file = folder / version / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (folder / version).mkdir(exist_ok=True)
    link = folder / "..next"
    link.symlink_to(version)
    link.replace(current)
    _link_top(folder, {PurePosixPath(path).parts[0] for path in contents})
    if old:
        shutil.rmtree(folder / old, ignore_errors=True)


def _link_top(folder: Path, names: set[str]) -> None:
    """Make one link in *folder* for each of *names* and remove the others."""
    present = {entry.name for entry in folder.iterdir() if not entry.name.startswith("..")}
    for name in names - present:
        (folder / name).symlink_to(f"{_CURRENT}/{name}")
    for name in present - names:
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()


def _contents(
    source: ConfigMap | Secret | None,
    key: NamespacedName,
    items: tuple[KeyToPath, ...],
    plan: PodPlan,
) -> dict[str, bytes] | None:
    if source is None:
        return None
    files = source.files()
    if not items:
        return files
    chosen: dict[str, bytes] = {}
    for item in items:
        if item.key not in files:
            raise MissingReferenceError(f"Pod {plan.key}: {key} has no key {item.key!r}")
        _check_relative(item.path, plan)
        chosen[item.path] = files[item.key]
    return chosen


def _check_relative(path: str, plan: PodPlan) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or any(part.startswith("..") for part in parts):
        raise MissingReferenceError(f"Pod {plan.key}: {path!r} must be a path inside the volume")


def _below(folder: Path, path: str) -> Path:
    """Return *path* below *folder*.

    Raises:
        MissingReferenceError: it leads out of the folder.
    """
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts:
        raise MissingReferenceError(f"subPath {path!r} must be a path inside the volume")
    return folder / path


def _open_folder(folder: Path) -> None:
    """Make a folder that every user of the pod may write, as kubelet does for emptyDir."""
    folder.mkdir(mode=0o777, parents=True, exist_ok=True)
    folder.chmod(0o777)


def _missing(plan: PodPlan, kind: str, key: NamespacedName) -> MissingReferenceError:
    return MissingReferenceError(
        f"Pod {plan.key}: {kind} {key} does not exist; add it to the folder, or set optional: true"
    )
