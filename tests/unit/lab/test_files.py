from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.objects import Object
from penstock.lab import logs, teardown
from penstock.lab.cluster import desired, simulate
from penstock.lab.environment import MissingReferenceError
from penstock.lab.state import (
    ContainerRecord,
    LabRecord,
    NoLabError,
    PodRecord,
    find_pod,
    read_state,
    write_state,
)
from penstock.lab.store import ObjectStore, file_name
from penstock.lab.syscalls import mounts_below
from penstock.lab.teardown import FolderInUseError
from penstock.lab.volumes import VolumeFolders, publish
from penstock.meta.paths import RunPaths
from penstock.runtime.processes import ProcessId, own_process
from support.lab import config_map, container, deployment, pod, service

OBJECTS = simulate([deployment("a"), service("a", {"port": 80})]).objects


def test_store_writes_one_file_for_each_object(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    assert store.write(OBJECTS) == len(OBJECTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(file_name, OBJECTS))
    raw = json.loads((tmp_path / "service.kube-system.kube-dns.json").read_bytes())
    assert (raw["apiVersion"], raw["kind"]) == ("v1", "Service")
    assert "publishNotReadyAddresses" not in raw["spec"]


def test_store_writes_only_what_changed(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    store.write(OBJECTS)
    assert store.write(OBJECTS) == 0
    assert store.write(OBJECTS[1:]) == 1
    assert not (tmp_path / file_name(OBJECTS[0])).exists()


def test_store_removes_files_of_an_earlier_run(tmp_path: Path) -> None:
    ObjectStore(tmp_path).write(OBJECTS)
    ObjectStore(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    small: list[Object] = [config_map("c", a="x")]
    large: list[Object] = [config_map("c", a="y" * 500_000)]
    store = ObjectStore(tmp_path)
    store.write(small)
    done = threading.Event()

    def write() -> None:
        for _ in range(30):
            store.write(large)
            store.write(small)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(len(json.loads((tmp_path / file_name(small[0])).read_bytes())["data"]["a"]))
    writer.join()
    assert seen <= {1, 500_000}


CONTENTS = st.dictionaries(
    st.text("abc", min_size=1, max_size=2), st.binary(max_size=4), max_size=4
)


@settings(deadline=None)
@given(st.lists(CONTENTS, min_size=1, max_size=5))
def test_published_folder_shows_the_last_contents(
    tmp_path_factory: pytest.TempPathFactory, versions: list[dict[str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("volume")
    for contents in versions:
        publish(folder, contents)
    shown = {
        path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("..")
    }
    assert shown == versions[-1]
    assert len([path for path in folder.iterdir() if path.name.startswith("..")]) == 2


def test_published_folder_takes_paths_with_folders(tmp_path: Path) -> None:
    publish(tmp_path, {"conf.d/a.conf": b"1"})
    assert (tmp_path / "conf.d" / "a.conf").read_bytes() == b"1"


def volumes_of(
    tmp_path: Path, volume: dict[str, Any], mount: dict[str, Any]
) -> tuple[VolumeFolders, list[Any]]:
    one = pod(
        "a",
        container(volumeMounts=[{"name": "v", "mountPath": "/data", **mount}]),
        volumes=[{"name": "v", **volume}],
    )
    want = desired([one, config_map("settings", colour="blue")])
    folders = VolumeFolders(tmp_path)
    folders.fill(want.plans[0], want)
    return folders, list(folders.mounts(want.plans[0], one.spec.containers[0]))


def test_config_map_is_mounted_read_only(tmp_path: Path) -> None:
    _, (mount,) = volumes_of(tmp_path, {"configMap": {"name": "settings"}}, {})
    assert (mount["target"], mount["read_only"]) == ("/data", True)
    assert Path(mount["source"], "colour").read_text() == "blue"


def test_one_key_is_mounted_as_a_file_by_sub_path(tmp_path: Path) -> None:
    where = {"mountPath": "//etc/./colour", "subPath": "colour"}
    _, (mount,) = volumes_of(tmp_path, {"configMap": {"name": "settings"}}, where)
    assert mount["target"] == "/etc/colour"
    assert Path(mount["source"]).read_text() == "blue"


def test_items_choose_keys_and_paths(tmp_path: Path) -> None:
    chosen = {"name": "settings", "items": [{"key": "colour", "path": "x/y"}]}
    _, (mount,) = volumes_of(tmp_path, {"configMap": chosen}, {})
    assert Path(mount["source"], "x", "y").read_text() == "blue"


def test_empty_dir_is_writable_for_everybody(tmp_path: Path) -> None:
    _, (mount,) = volumes_of(tmp_path, {"emptyDir": {}}, {})
    assert Path(mount["source"]).stat().st_mode & 0o777 == 0o777
    assert not mount["read_only"]


@pytest.mark.parametrize(
    ("volume", "mount", "complaint"),
    [
        ({"configMap": {"name": "none"}}, {}, "ConfigMap shop/none does not exist"),
        ({"persistentVolumeClaim": {"claimName": "x"}}, {}, "of a kind that the lab lacks"),
        ({"emptyDir": {}}, {"subPath": "../../x"}, "inside the volume"),
        (
            {"configMap": {"name": "settings", "items": [{"key": "no", "path": "x"}]}},
            {},
            "has no key 'no'",
        ),
        (
            {"configMap": {"name": "settings", "items": [{"key": "colour", "path": "../x"}]}},
            {},
            "inside the volume",
        ),
    ],
)
def test_volume_that_cannot_be_made_says_why(
    tmp_path: Path, volume: dict[str, Any], mount: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(MissingReferenceError, match=complaint):
        volumes_of(tmp_path, volume, mount)


def test_long_log_is_rotated_in_place(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("ab") as writer:
        writer.write(b"x" * 100)
        writer.flush()
        assert not logs.rotate(log, limit=100)
        assert logs.rotate(log, limit=99)
        writer.write(b"new")
    assert b"".join(logs.read(log)) == b"x" * 100 + b"new"


def test_following_survives_rotation_and_a_late_start(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    steps = iter(["first", "second", ""])
    seen: list[bytes] = []

    def stop() -> bool:
        step = next(steps, "")
        if step == "second":
            logs.rotate(log, limit=0)
        if step:
            with log.open("ab") as writer:
                writer.write(step[:3].encode())
        return not step

    seen += logs.follow(log, stop)
    assert b"".join(seen) == b"firsec"


def record(*names: str) -> LabRecord:
    pods = tuple(
        PodRecord(
            uid=name,
            namespace=name.split("/")[0],
            name=name.split("/")[1],
            netns="",
            cgroup="",
            addresses=(),
            phase="Running",
            ready=True,
            restarts=0,
            reason="",
            message="",
            containers=(ContainerRecord(name="c", process=None, cgroup="", log=""),),
        )
        for name in names
    )
    return LabRecord(process=own_process(), cgroup="", pods=pods)


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    with pytest.raises(NoLabError, match="no lab in"):
        read_state(paths)
    write_state(paths, record("shop/a"))
    assert read_state(paths) == record("shop/a")


@pytest.mark.parametrize("name", ["a-x1y2z-0", "shop/a-x1y2z-0", "a"])
def test_pod_is_found_by_name_and_by_deployment(name: str) -> None:
    assert find_pod(record("shop/a-x1y2z-0", "shop/b-x1y2z-0"), name).uid == "shop/a-x1y2z-0"


def test_ambiguous_and_unknown_pods_are_errors() -> None:
    with pytest.raises(NoLabError, match="several namespaces"):
        find_pod(record("one/a", "two/a"), "a")
    with pytest.raises(NoLabError, match=r"does not exist; there are: one/a"):
        find_pod(record("one/a"), "c")


def test_process_is_told_from_a_later_one_with_its_number() -> None:
    me = own_process()
    assert me.alive
    assert not ProcessId(me.pid, me.started + 1).alive


def test_run_folder_with_other_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FolderInUseError, match="holds other files"):
        teardown.claim(RunPaths(tmp_path))
    teardown.teardown(RunPaths(tmp_path))
    assert (tmp_path / "thesis.txt").exists()


def test_run_folder_of_a_running_lab_is_not_taken(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "run")
    teardown.claim(paths)
    parent = os.getppid()
    write_state(paths, LabRecord(process=ProcessId(parent, _started(parent)), cgroup=""))
    with pytest.raises(FolderInUseError, match="already runs"):
        teardown.claim(paths)
    write_state(paths, LabRecord(process=ProcessId(parent, 1), cgroup=""))
    teardown.claim(paths)


def _started(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_mounts_are_found_with_escaped_names() -> None:
    assert "/proc" in mounts_below("/proc")
    assert mounts_below("/pro") == []
