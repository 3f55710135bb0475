"""Our CNI plugin in the node's folders: installed, kept there, and taken away again.

A container runtime takes the first file, by name, of its configuration folder. Our plugin is added
behind the others in that very file, so that the network stays what it was; if the network's own
installer writes the file anew, the plugin is added again. A file with one plugin only (`.conf`)
cannot hold a second, so a list (`.conflist`) takes its place, and it is kept beside.

Source: CNI specification 1.1.0, section 1; containerd, pkg/cri: the first of *.conf, *.conflist,
*.json that can be read.
"""

from __future__ import annotations

import asyncio
import filecmp
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import structlog

from penstock.agent.config import CniFolders
from penstock.meta.errors import PenstockError

PLUGIN = "penstock-cni"
PROGRAM = Path("/opt/penstock/bin") / PLUGIN
"""Where images have the plugin."""
SAVED = ".penstock-saved"
"""Ending of a file that was replaced by a list."""
LOOK_SECONDS = 10.0
_ENDINGS = (".conf", ".conflist", ".json")

log = structlog.get_logger(__name__)


class CniError(PenstockError):
    """The plugin cannot be installed; the text says why."""


class PluginSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the plugin is told in the configuration."""

    socket: Path
    """Of the agent's API, as the node has it."""
    unpoliced: tuple[str, ...] = ()
    """Namespaces whose pods come up without an agent."""
    timeout: float = 25.0
    """Seconds for a pod to be captured; the runtime asks again after a failure."""

    def entry(self) -> dict[str, Any]:
        """Return the plugin's place in a list."""
        return {
            "type": PLUGIN,
            "socket": str(self.socket),
            "timeout": self.timeout,
            "unpolicedNamespaces": list(self.unpoliced),
        }


def install(folders: CniFolders, settings: PluginSettings, program: Path = PROGRAM) -> bool:
    """Put program and configuration in place; return whether something had to change.

    Raises:
        CniError: there is no network configuration yet, or no program.
        OSError: a folder cannot be written.
    """
    copied = _copy_program(program, folders.programs / PLUGIN)
    chosen = _chosen(folders.configuration)
    if chosen is None:
        raise CniError(
            f"{folders.configuration}: no network is configured yet (*.conflist or *.conf); "
            "install a CNI plugin for pod networks first"
        )
    return _chain(*chosen, settings) or copied


def uninstall(folders: CniFolders) -> None:
    """Take configuration and program away, and bring back what was replaced.

    Raises:
        OSError: a folder cannot be written.
    """
    for path in _candidates(folders.configuration):
        content = _read(path)
        plugins = content.get("plugins") if content else None
        if content is None or not isinstance(plugins, list) or not _has_ours(plugins):
            continue
        if saved := _saved(path):
            original = saved.with_name(saved.name.removesuffix(SAVED))
            if not original.exists():
                saved.replace(original)
            path.unlink()
        else:
            content["plugins"] = [one for one in plugins if not _is_ours(one)]
            _write(path, content)
    (folders.programs / PLUGIN).unlink(missing_ok=True)


class CniInstallation:
    """Keeps the plugin installed while the agent runs; it stays when the agent ends."""

    def __init__(
        self, folders: CniFolders, settings: PluginSettings, program: Path = PROGRAM
    ) -> None:
        """Write nothing yet."""
        self._folders = folders
        self._settings = settings
        self._program = program
        self._trouble = "the CNI plugin is not installed yet"

    def missing(self) -> str:
        """Return why pods may start without being captured; "" if the plugin is in place."""
        return self._trouble

    async def run(self) -> None:
        """Look every 10 s until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Install what is not there."""
        try:
            if install(self._folders, self._settings, self._program):
                log.info("CNI plugin installed", folder=str(self._folders.configuration))
            self._trouble = ""
        except (OSError, PenstockError) as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("CNI plugin not installed", reason=self._trouble)


def _copy_program(source: Path, target: Path) -> bool:
    """Copy a program that may be running: a new file takes the old one's name."""
    if not source.is_file():
        raise CniError(f"{source}: the CNI plugin is not there; build node-proxy/cni with Go")
    if target.is_file() and filecmp.cmp(source, target, shallow=False):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.new")
    shutil.copyfile(source, beside)
    beside.chmod(0o755)
    beside.replace(target)
    return True


def _candidates(folder: Path) -> list[Path]:
    """Return the files that a runtime looks at, in its order."""
    try:
        found = [path for path in folder.iterdir() if path.suffix in _ENDINGS]
    except FileNotFoundError:
        return []
    return sorted(path for path in found if not path.name.startswith("."))


def _chosen(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the file that a runtime takes, and its content."""
    for path in _candidates(folder):
        content = _read(path)
        if content is not None and _is_usable(path, content):
            return path, content
    return None


def _is_usable(path: Path, content: dict[str, Any]) -> bool:
    if path.suffix == ".conflist":
        return isinstance(content.get("plugins"), list) and bool(content["plugins"])
    return isinstance(content.get("type"), str)


def _chain(path: Path, content: dict[str, Any], settings: PluginSettings) -> bool:
    """Add our plugin to a configuration; return whether it was not there as it should be."""
    if path.suffix != ".conflist":
        _chain_single(path, content, settings)
        return True
    others = [one for one in content["plugins"] if not _is_ours(one)]
    wanted = [*others, settings.entry()]
    if content["plugins"] == wanted:
        return False
    content["plugins"] = wanted
    _write(path, content)
    return True


def _chain_single(path: Path, content: dict[str, Any], settings: PluginSettings) -> None:
    made: dict[str, Any] = {}
    for key in ("cniVersion", "name"):
        if key in content:
            made[key] = content.pop(key)
    made["plugins"] = [content, settings.entry()]
    _write(path.with_suffix(".conflist"), made, like=path)
    path.replace(path.with_name(path.name + SAVED))


def _saved(path: Path) -> Path | None:
    """Return the file whose place a list has taken."""
    found = (path.with_suffix(ending + SAVED) for ending in (".conf", ".json"))
    return next((one for one in found if one.exists()), None)


def _is_ours(plugin: object) -> bool:
    return isinstance(plugin, dict) and plugin.get("type") == PLUGIN


def _has_ours(plugins: list[object]) -> bool:
    return any(map(_is_ours, plugins))


def _read(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; None if it is none, or half written."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _write(path: Path, content: dict[str, Any], like: Path | None = None) -> None:
    """Replace a configuration whole, with the mode of the file that was there."""
    mode = (like or path).stat().st_mode & 0o777
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(json.dumps(content, indent=2) + "\n")
    beside.chmod(mode)
    beside.replace(path)
