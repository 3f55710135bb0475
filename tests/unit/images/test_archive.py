"""Images are OCI archives, the same bytes for the same input."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import warnings
from pathlib import Path

import pytest

from ociimages.archive import Image, write_archive
from ociimages.closure import is_elf, libraries
from ociimages.python import with_bytecode
from ociimages.tree import PROGRAM, Entry, File, Folder, Link, files_below, write_layer

TREE: dict[str, Entry] = {
    "usr/bin/b": File(b"#!/bin/sh\n", PROGRAM),
    "usr/bin/a": Link("b"),
    "tmp": Folder(0o1777),
    "etc/passwd": File(b"root:x:0:0::/:\n"),
}


def test_a_layer_is_sorted_belongs_to_root_and_has_no_times(tmp_path: Path) -> None:
    layer = write_layer(TREE, tmp_path)
    with tarfile.open(layer.path) as archive:
        found = archive.getmembers()
    assert [one.name for one in found] == [
        "etc", "etc/passwd", "tmp", "usr", "usr/bin", "usr/bin/a", "usr/bin/b",
    ]  # fmt: skip
    assert {(one.uid, one.gid, one.mtime) for one in found} == {(0, 0, 0)}
    modes = {one.name: one.mode for one in found}
    assert (modes["tmp"], modes["usr/bin/b"], modes["etc/passwd"]) == (0o1777, 0o755, 0o644)


def test_equal_trees_give_equal_layers(tmp_path: Path) -> None:
    again = dict(reversed(TREE.items()))
    assert write_layer(TREE, tmp_path / "a").digest == write_layer(again, tmp_path / "b").digest


def test_an_archive_is_an_image_layout_whose_digests_hold(tmp_path: Path) -> None:
    layer = write_layer(TREE, tmp_path)
    image = Image("localhost/x:dev", (layer,), ("/usr/bin/b",), ("PATH=/usr/bin",), "65532:65532")
    out = tmp_path / "image.tar"
    write_archive(image, out)
    first = out.read_bytes()
    write_archive(image, out)
    assert out.read_bytes() == first
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        files = {
            one.name: content.read()
            for one in archive
            if (content := archive.extractfile(one)) is not None
        }
    blobs = {name.rpartition("/")[2]: data for name, data in files.items() if "sha256" in name}
    assert all(hashlib.sha256(data).hexdigest() == digest for digest, data in blobs.items())
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "localhost/x:dev"
    manifest = json.loads(blobs[entry["digest"].partition(":")[2]])
    config = json.loads(blobs[manifest["config"]["digest"].partition(":")[2]])
    assert config["config"]["User"] == "65532:65532"
    assert config["rootfs"]["diff_ids"] == [f"sha256:{layer.digest}"]


def test_bytecode_is_what_python_imports_without_looking_at_the_source(tmp_path: Path) -> None:
    tree = with_bytecode({"m.py": File(b"x = 1\n"), "bad.py": File(b"x = (\n")}, tmp_path)
    tag = sys.implementation.cache_tag
    assert set(tree) == {"m.py", "bad.py", f"__pycache__/m.{tag}.pyc"}
    compiled = tree[f"__pycache__/m.{tag}.pyc"]
    assert isinstance(compiled, File)
    assert isinstance(compiled.content, Path)
    assert compiled.content.read_bytes()[4:8] == b"\1\0\0\0"
    assert (
        with_bytecode({"m.py": File(b"x = 1\n")}, tmp_path)[f"__pycache__/m.{tag}.pyc"] == compiled
    )


def test_a_module_that_warns_is_compiled_all_the_same(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(with_bytecode({"m.py": File(b"x = '\\d'\n")}, tmp_path)) == 2


def test_the_libraries_of_a_program_are_all_there(tmp_path: Path) -> None:
    program = Path("/bin/sh").resolve()
    if not is_elf(program):
        pytest.skip("/bin/sh is no program")
    found = libraries([program], ())
    assert any(name.endswith("/libc.so.6") for name in found)
    assert any("ld-linux" in name for name in found)
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    root = tmp_path / "root"
    for name, entry in {**found, "bin/sh": File(program, PROGRAM)}.items():
        assert isinstance(entry, File)
        assert isinstance(entry.content, Path)
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(entry.content.read_bytes())
        target.chmod(0o755)
    ran = subprocess.run(["/usr/sbin/chroot", root, "/bin/sh", "-c", "exit 42"], check=False)
    assert ran.returncode == 42


def test_files_are_taken_with_their_right_to_be_run(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run").write_text("")
    (tmp_path / "a" / "run").chmod(0o700)
    (tmp_path / "left").write_text("")
    found = files_below(tmp_path, "opt", lambda path: path.name != "left")
    assert found == {"opt/a/run": File(tmp_path / "a" / "run", PROGRAM)}
