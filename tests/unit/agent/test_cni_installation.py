"""Our plugin in a container runtime's folders, which other plugins own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.agent.cni import (
    PLUGIN,
    CniError,
    CniInstallation,
    PluginSettings,
    install,
    uninstall,
)
from penstock.agent.config import CniFolders

SETTINGS = PluginSettings(socket=Path("/run/penstock/agent.sock"), unpoliced=("penstock-system",))
LIST: dict[str, Any] = {
    "name": "pods",
    "cniVersion": "1.0.0",
    "disableCheck": True,
    "plugins": [{"type": "bridge", "z": 1, "a": {"b": []}}, {"type": "portmap"}],
}
SINGLE: dict[str, Any] = {"cniVersion": "0.4.0", "name": "one", "type": "bridge", "mtu": 1400}
OURS = {
    "type": PLUGIN,
    "socket": "/run/penstock/agent.sock",
    "timeout": 25.0,
    "unpolicedNamespaces": ["penstock-system"],
}


class Node:
    def __init__(self, folder: Path) -> None:
        self.folders = CniFolders(programs=folder / "bin", configuration=folder / "net.d")
        self.folders.configuration.mkdir()
        self.program = folder / "built"
        self.program.write_bytes(b"#!program 1")

    def write(self, name: str, content: object) -> Path:
        path = self.folders.configuration / name
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=4))
        return path

    def read(self, name: str) -> Any:
        return json.loads((self.folders.configuration / name).read_text())

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folders.configuration.iterdir())

    def install(self, settings: PluginSettings = SETTINGS) -> bool:
        return install(self.folders, settings, self.program)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_the_plugin_goes_behind_the_others_and_nothing_else_changes(node: Node) -> None:
    path = node.write("10-pods.conflist", LIST)
    path.chmod(0o640)
    assert node.install()
    assert node.read("10-pods.conflist") == {**LIST, "plugins": [*LIST["plugins"], OURS]}
    assert list(node.read("10-pods.conflist")) == list(LIST)
    assert path.stat().st_mode & 0o777 == 0o640
    installed = node.folders.programs / PLUGIN
    assert installed.read_bytes() == b"#!program 1"
    assert installed.stat().st_mode & 0o777 == 0o755
    assert node.names() == ["10-pods.conflist"]


def test_installing_twice_changes_nothing(node: Node) -> None:
    path = node.write("10-pods.conflist", LIST)
    node.install()
    before = path.stat().st_ino, path.read_bytes()
    assert not node.install()
    assert (path.stat().st_ino, path.read_bytes()) == before


def test_a_plugin_in_the_wrong_place_or_with_other_settings_is_put_right(node: Node) -> None:
    other = {**OURS, "socket": "/elsewhere"}
    node.write("10-pods.conflist", {**LIST, "plugins": [other, *LIST["plugins"]]})
    assert node.install()
    assert node.read("10-pods.conflist")["plugins"] == [*LIST["plugins"], OURS]


def test_the_first_usable_file_is_taken(node: Node) -> None:
    node.write("00-broken.conflist", '{"plugins": [')
    node.write("05-empty.conflist", {"name": "x", "plugins": []})
    node.write("10-pods.conflist", LIST)
    node.write("20-other.conflist", LIST)
    node.write(".00-hidden.conflist", LIST)
    node.write("01-readme.txt", "text")
    node.install()
    assert OURS in node.read("10-pods.conflist")["plugins"]
    assert node.read("20-other.conflist") == LIST


@pytest.mark.parametrize("name", ["10-one.conf", "10-one.json"])
def test_a_single_plugin_becomes_a_list_and_comes_back(node: Node, name: str) -> None:
    content = json.dumps(SINGLE, indent=3)
    node.write(name, content)
    assert node.install()
    assert node.read("10-one.conflist") == {
        "cniVersion": "0.4.0", "name": "one", "plugins": [{"type": "bridge", "mtu": 1400}, OURS],
    }  # fmt: skip
    assert not node.install()
    uninstall(node.folders)
    assert node.names() == [name]
    assert (node.folders.configuration / name).read_text() == content


def test_uninstalling_gives_back_what_was_there(node: Node) -> None:
    node.write("10-pods.conflist", LIST)
    node.install()
    uninstall(node.folders)
    assert node.read("10-pods.conflist") == LIST
    assert not (node.folders.programs / PLUGIN).exists()
    uninstall(node.folders)


def test_a_single_plugin_that_is_written_anew_is_taken_up_again(node: Node) -> None:
    node.write("10-one.conf", SINGLE)
    node.install()
    node.write("10-one.conf", {**SINGLE, "mtu": 1500})
    assert node.install()
    assert node.read("10-one.conflist")["plugins"][0] == {"type": "bridge", "mtu": 1500}


def test_a_network_that_is_written_anew_gets_the_plugin_again(node: Node) -> None:
    node.write("10-pods.conflist", LIST)
    installation = CniInstallation(node.folders, SETTINGS, node.program)
    installation.look()
    newer = {**LIST, "plugins": [{"type": "ptp"}]}
    node.write("10-pods.conflist", newer)
    installation.look()
    assert node.read("10-pods.conflist")["plugins"] == [{"type": "ptp"}, OURS]


def test_a_newer_program_takes_the_place_of_one_that_may_be_running(node: Node) -> None:
    node.write("10-pods.conflist", LIST)
    node.install()
    installed = node.folders.programs / PLUGIN
    with installed.open("rb") as running:
        node.program.write_bytes(b"#!program 2")
        assert node.install()
        assert running.read() == b"#!program 1"
    assert installed.read_bytes() == b"#!program 2"


def test_without_a_network_there_is_nothing_to_add_it_to(node: Node) -> None:
    with pytest.raises(CniError, match="no network is configured"):
        node.install()
    CniInstallation(node.folders, SETTINGS, node.program).look()
    assert node.names() == []


def test_without_the_program_nothing_is_configured(node: Node) -> None:
    node.write("10-pods.conflist", LIST)
    node.program.unlink()
    with pytest.raises(CniError, match="Go"):
        node.install()
    assert node.read("10-pods.conflist") == LIST
