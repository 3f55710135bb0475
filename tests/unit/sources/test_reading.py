"""Which files are looked at, and which of them are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.sources.reading import MAX_BYTES, UnreadableError, list_changed, list_files, read_text


def names(folder: Path) -> list[str]:
    return sorted(os.path.relpath(path, folder) for path in list_files([folder]).files)


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableError) as caught:
        read_text(str(path))
    return str(caught.value)


def test_yaml_and_json_files_are_found_in_all_folders(tmp_path: Path) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    for name in ("a.yaml", "b.yml", "sub/c.json", "sub/deep/d.yaml", "README.md", "e.yaml.bak"):
        (tmp_path / name).touch()
    assert names(tmp_path) == ["a.yaml", "b.yml", "sub/c.json", "sub/deep/d.yaml"]


def test_what_editors_and_git_leave_is_not_found(tmp_path: Path) -> None:
    for name in (".a.yaml.swp", "a.yaml~", ".#a.yaml", "4913", "#a.yaml#", ".a.yaml"):
        (tmp_path / name).touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "a.yaml").touch()
    (tmp_path / "..2024").mkdir()
    (tmp_path / "..2024" / "a.yaml").touch()
    assert names(tmp_path) == []


def test_link_that_leads_in_a_circle_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.yaml").touch()
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    assert names(tmp_path) == ["a/x.yaml"]


def test_link_without_target_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("nowhere")
    (tmp_path / "b.yaml").symlink_to("b.yaml")
    listing = list_files([tmp_path])
    causes = sorted(str(error).rpartition("/")[2] for error in listing.unreadable.values())
    assert causes == [
        "a.yaml:1:1: does not exist; check the path, or the target of the symbolic link",
        "b.yaml:1:1: is a loop of symbolic links; let the link point to a file",
    ]
    assert listing.files == {}


def test_root_may_be_a_file_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "objects").touch()
    assert list(list_files([tmp_path / "objects"]).files) == [str(tmp_path / "objects")]


def test_file_in_two_roots_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").touch()
    listing = list_files([tmp_path, tmp_path / ".." / tmp_path.name / "a.yaml", tmp_path])
    assert list(listing.files) == [str(tmp_path / "a.yaml")]


def test_missing_root_is_reported(tmp_path: Path) -> None:
    listing = list_files([tmp_path / "nothing"])
    assert "does not exist" in str(listing.unreadable[str(tmp_path / "nothing")])


def test_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    assert "is not a regular file; remove it" in refusal(tmp_path / "a.yaml")


def test_device_and_folder_are_refused() -> None:
    assert "is not a regular file" in refusal(Path("/dev/zero"))
    assert refusal(Path("/"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: \xff\n", ":1:4: is not UTF-8 text: byte 0xff; save it as UTF-8"),
        (b"a: 1\nb: \xc3(", ":2:4: is not UTF-8 text: byte 0xc3"),
        ("a: 1".encode("utf-16"), ":1:1: is UTF-16 text; save it as UTF-8"),
        (b"\xfe\xff\0a", ":1:1: is UTF-16 text"),
        ("a: 1".encode("utf-32"), ":1:1: is UTF-32 text"),
        (b"a: 1\n\0\0", ":2:1: holds a NUL character"),
    ],
)
def test_other_than_utf8_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    assert message in refusal(tmp_path / "a.yaml")


def test_utf8_with_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_text(str(tmp_path / "a.yaml"))[0] == "a: 1"


def test_too_large_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").touch()
    os.truncate(tmp_path / "a.yaml", MAX_BYTES + 1)
    assert "is larger than 10 MiB; split it" in refusal(tmp_path / "a.yaml")


def test_file_written_just_now_has_to_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.touch()
    assert read_text(str(path))[1] is None
    os.utime(path, (1, 1))
    assert read_text(str(path))[1] == list_files([path]).files[str(path)]


def test_listing_follows_changes_of_plain_files(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).touch()
    before = list_files([tmp_path])
    (tmp_path / "a.yaml").write_text("longer")
    (tmp_path / "b.yaml").unlink()
    (tmp_path / "c.yaml").touch()
    (tmp_path / ".c.yaml.swp").touch()
    changed = [str(tmp_path / name) for name in ("a.yaml", "b.yaml", "c.yaml", ".c.yaml.swp")]
    after = list_changed(before, [tmp_path], changed)
    assert after.files == list_files([tmp_path]).files
    assert after.changed == frozenset(changed)


@pytest.mark.parametrize("changed", ["sub", "..data", "../outside", "link"])
def test_listing_looks_everywhere_when_folders_or_links_change(
    tmp_path: Path, changed: str
) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    before = list_files([root])
    (root / "sub" / "a.yaml").touch()
    (root / "link").symlink_to("sub")
    after = list_changed(before, [root], [str(root / changed)])
    assert after.changed is None
    assert after.files == list_files([root]).files


def test_removed_folder_takes_its_files_along(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.yaml").touch()
    before = list_files([tmp_path])
    (tmp_path / "sub").rename(tmp_path / ".gone")
    assert list_changed(before, [tmp_path], [str(tmp_path / "sub")]).files == {}
