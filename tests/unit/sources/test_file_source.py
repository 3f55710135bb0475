"""Files come in, events come out."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import watchfiles

from penstock.core.kinds import BUILTIN_KINDS, ConfigMap
from penstock.meta.names import ObjectRef
from penstock.policy.resources import CiliumNetworkPolicy
from penstock.sources.file import RESCAN_SECONDS, FileSource
from penstock.sources.registry import registry
from penstock.sources.source import Source
from support.fake_clock import FakeClock
from support.source_suite import A, Recorder, SourceSuite, config_map, running

KINDS = registry(BUILTIN_KINDS, (CiliumNetworkPolicy,))


class FolderStore:
    """One file for each object."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.source: Source = FileSource([folder], KINDS, self.clock)

    async def put(self, raw: dict[str, Any]) -> None:
        metadata = raw["metadata"]
        ref = ObjectRef(raw["kind"], metadata.get("namespace", ""), metadata["name"])
        self._path(ref).write_text(json.dumps(raw))
        await asyncio.sleep(0)

    async def remove(self, ref: ObjectRef) -> None:
        self._path(ref).unlink()
        await asyncio.sleep(0)

    def _path(self, ref: ObjectRef) -> Path:
        return self.folder / f"{ref.kind}.{ref.namespace}.{ref.name}.yaml"


class TestFileSource(SourceSuite):
    @pytest_asyncio.fixture
    async def store(self, tmp_path: Path) -> FolderStore:
        return FolderStore(tmp_path)


class Knock:
    """A watch that tells of a change when the test says so."""

    def __init__(self) -> None:
        self._paths: asyncio.Queue[Collection[str]] = asyncio.Queue()

    def at(self, *paths: Path) -> None:
        self._paths.put_nowait({str(path) for path in paths})

    async def __call__(self, paths: Sequence[Path]) -> AsyncIterator[Collection[str]]:
        assert paths
        while True:
            yield await self._paths.get()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def put(path: Path, *objects: dict[str, Any]) -> Path:
    path.write_text("".join(f"---\n{json.dumps(one)}\n" for one in objects))
    return path


async def test_rescan_finds_what_no_event_told(tmp_path: Path, clock: FakeClock) -> None:
    source = FileSource([tmp_path], KINDS, clock, Knock())
    async with running(source) as seen:
        put(tmp_path / "a.yaml", config_map("a"))
        clock.advance(RESCAN_SECONDS)
        await seen.until(lambda: A in seen.objects)


async def test_what_was_written_before_watching_began_is_read_though_another_change_is_told_first(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = asyncio.Event()

    async def late(*_: Path, **__: object) -> AsyncIterator[set[tuple[watchfiles.Change, str]]]:
        await listed.wait()
        put(tmp_path / "a.yaml", config_map("a"))
        told = put(tmp_path / "b.yaml", config_map("b"))
        yield {(watchfiles.Change.added, str(told))}
        await asyncio.Event().wait()

    monkeypatch.setattr(watchfiles, "awatch", late)
    async with running(FileSource([tmp_path], KINDS, clock)) as seen:
        listed.set()
        await seen.until(lambda: ObjectRef("ConfigMap", "shop", "b") in seen.objects)
        assert A in seen.objects


async def test_nothing_is_sent_when_nothing_changed(tmp_path: Path, clock: FakeClock) -> None:
    put(tmp_path / "a.yaml", config_map("a"))
    knock = Knock()
    async with running(FileSource([tmp_path], KINDS, clock, knock)) as seen:
        (tmp_path / "a.yaml").touch()
        knock.at(tmp_path / "a.yaml")
        knock.at(put(tmp_path / "b.yaml", config_map("b")))
        await seen.until(lambda: len(seen.batches) > 1)
        changed = [str(event.object.ref) for event in seen.batches[1].events]
        assert changed == ["ConfigMap shop/b"]


async def test_file_that_lost_its_end_is_believed_after_a_while(
    tmp_path: Path, clock: FakeClock
) -> None:
    both = put(tmp_path / "a.yaml", config_map("a"), config_map("b"))
    knock = Knock()
    async with running(FileSource([tmp_path], KINDS, clock, knock)) as seen:
        knock.at(put(both, config_map("a")))
        knock.at(put(tmp_path / "c.yaml", config_map("c")))
        await seen.until(lambda: ObjectRef("ConfigMap", "shop", "c") in seen.objects)
        assert ObjectRef("ConfigMap", "shop", "b") in seen.objects
        clock.advance(2.0)
        await seen.until(lambda: ObjectRef("ConfigMap", "shop", "b") not in seen.objects)


async def test_folder_that_appears_later_is_read(tmp_path: Path, clock: FakeClock) -> None:
    source = FileSource([tmp_path / "later"], KINDS, clock)
    async with running(source) as seen:
        assert seen.objects == {}
        assert "does not exist" in str(source.problems()[0])
        (tmp_path / "later").mkdir()
        put(tmp_path / "later" / "a.yaml", config_map("a"))
        await seen.until(lambda: A in seen.objects)
        assert source.problems() == ()


async def test_config_map_mount_is_swapped_at_once(tmp_path: Path, clock: FakeClock) -> None:
    """The kubelet writes `..<time>/`, points `..data` at it, and files are links through it."""
    for number in "12":
        (tmp_path / f"..{number}").mkdir()
        put(tmp_path / f"..{number}" / "a.yaml", config_map("a", x=number))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    async with running(FileSource([tmp_path], KINDS, clock)) as seen:
        assert len(seen.objects) == 1
        (tmp_path / "..tmp").symlink_to("..2")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        await seen.until(lambda: data(seen) == {"x": "2"})
        assert len(seen.batches) == 2


async def test_save_by_rename_is_one_change(tmp_path: Path, clock: FakeClock) -> None:
    put(tmp_path / "a.yaml", config_map("a", x="1"))
    async with running(FileSource([tmp_path], KINDS, clock)) as seen:
        (tmp_path / "4913").touch()
        (tmp_path / "4913").unlink()
        (tmp_path / "a.yaml").rename(tmp_path / "a.yaml~")
        put(tmp_path / "a.yaml", config_map("a", x="2"))
        (tmp_path / "a.yaml~").unlink()
        await seen.until(lambda: data(seen) == {"x": "2"})
        assert [len(batch.events) for batch in seen.batches] == [1, 1]


async def test_relative_folder_and_single_file_are_watched(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    single = put(tmp_path / "single.conf", config_map("a", x="1"))
    async with running(FileSource([Path("folder"), single], KINDS, clock)) as seen:
        put(single, config_map("a", x="2"))
        put(tmp_path / "folder" / "b.yaml", config_map("b"))
        await seen.until(lambda: data(seen) == {"x": "2"} and len(seen.objects) == 2)


async def test_storm_of_renames_ends_in_the_last_state(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "a.yaml"
    async with running(FileSource([tmp_path], KINDS, clock)) as seen:
        for number in range(200):
            put(tmp_path / "next", config_map("a", x=str(number)))
            os.replace(tmp_path / "next", path)  # noqa: PTH105 - as editors do it
        await seen.until(lambda: seen.objects and data(seen) == {"x": "199"})


def data(seen: Recorder) -> dict[str, str]:
    found = seen.objects[A]
    assert isinstance(found, ConfigMap)
    return found.data
