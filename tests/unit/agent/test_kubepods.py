"""Cgroups of pods as kubelets with both drivers name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.agent.kubepods import (
    Kubepods,
    inodes,
    named_namespaces,
    namespace_of,
    processes,
    uid_in,
    uid_of,
)

UID = "0a1b2c3d-1111-2222-3333-444455556666"
UNDERSCORED = UID.replace("-", "_")
STATIC = "5a1fb59e0cde1cd3b4c0f3f5b8b2c0aa"


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        (f"pod{UID}", UID),
        (f"kubepods-pod{UNDERSCORED}.slice", UID),
        (f"kubepods-besteffort-pod{UNDERSCORED}.slice", UID),
        (f"kubelet-kubepods-burstable-pod{UNDERSCORED}.slice", UID),
        (f"pod{STATIC}", STATIC),
        ("kubepods.slice", ""),
        ("kubepods-burstable.slice", ""),
        ("burstable", ""),
        ("podman", ""),
        ("cri-containerd-0a1b2c.scope", ""),
    ],
)
def test_uid_of_a_cgroup(name: str, uid: str) -> None:
    assert uid_of(name) == uid


def test_uid_is_found_wherever_a_process_sees_its_cgroup_from() -> None:
    assert uid_in(f"/kubepods/burstable/pod{UID}/0123abcd") == UID
    assert uid_in(f"/../../pod{UID}/0123abcd") == UID
    assert uid_in("/system.slice/sshd.service") == ""


@pytest.mark.parametrize(
    "place",
    [
        f"kubepods/pod{UID}",
        f"kubepods/burstable/pod{UID}",
        f"kubepods/besteffort/pod{UID}",
        f"kubepods.slice/kubepods-pod{UNDERSCORED}.slice",
        f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice",
    ],
)
def test_cgroup_of_a_pod_is_found_by_uid(tmp_path: Path, place: str) -> None:
    cgroup = tmp_path / place
    (cgroup / "cri-containerd-abc.scope").mkdir(parents=True)
    kubepods = Kubepods(tmp_path / place.partition("/")[0])
    assert kubepods.find(UID) == cgroup
    assert kubepods.all() == {UID: cgroup}
    assert kubepods.find(STATIC) is None


def test_processes_of_all_containers_are_found(tmp_path: Path) -> None:
    for container, text in (("pause", "11\n"), ("app", "12\n13\n"), ("gone", "0\n")):
        folder = tmp_path / container
        folder.mkdir()
        (folder / "cgroup.procs").write_text(text)
    (tmp_path / "cgroup.procs").write_text("")
    assert sorted(processes(tmp_path)) == [11, 12, 13]
    assert len(inodes(tmp_path)) == 4


def test_a_cgroup_that_is_gone_has_no_processes(tmp_path: Path) -> None:
    assert list(processes(tmp_path / "gone")) == []
    assert inodes(tmp_path / "gone") == frozenset()
    assert Kubepods(tmp_path / "gone").all() == {}


def test_a_process_that_enters_namespaces_is_asked_last_for_that_of_its_pod(tmp_path: Path) -> None:
    cgroup, proc = tmp_path / "cgroup", tmp_path / "proc"
    cgroup.mkdir()
    for pid in (11, 12):
        (proc / str(pid) / "ns").mkdir(parents=True)
        (proc / str(pid) / "ns" / "net").touch()
    home = (proc / "12" / "ns" / "net").stat().st_ino
    (cgroup / "cgroup.procs").write_text("11\n12\n")
    assert namespace_of(cgroup, proc, last=11) == home
    (cgroup / "cgroup.procs").write_text("12\n")
    assert namespace_of(cgroup, proc, last=12) == home


def test_a_name_of_a_namespace_that_goes_away_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "cni-1").symlink_to(tmp_path / "gone")
    (tmp_path / "cni-2").touch()
    assert list(named_namespaces(tmp_path).values()) == [tmp_path / "cni-2"]
