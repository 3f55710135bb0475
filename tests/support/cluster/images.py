"""The images of the test cluster that are not Penstock's own, made from what is on this machine."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ociimages.archive import Image, write_archive
from ociimages.closure import MissingLibraryError, libraries
from ociimages.recipes import CHECKOUT, HOME, RecipeError, Recipes
from ociimages.tree import PROGRAM, Entry, File, Folder, Layer, Link, files_below, write_layer
from support.cluster.archives import ALIASES
from support.cluster.errors import ClusterError
from support.cluster.node_settings import PAUSE_IMAGE
from support.cluster.programs import program
from support.kube import MissingProgramError

COREDNS_IMAGE = "penstock.dev/coredns:1"
ECHO_IMAGE = "penstock.dev/echo:latest"
CLIENT_IMAGE = "penstock.dev/client:latest"
_SUITE = "registry.k8s.io/gateway-api/"
NAMES: Mapping[str, tuple[str, ...]] = {
    "pause": (PAUSE_IMAGE,),
    "coredns": (COREDNS_IMAGE, "registry.k8s.io/coredns/coredns:v1.12.2"),
    "echo-basic": (
        f"{_SUITE}echo-basic:v1.5.1",
        f"{_SUITE}echo-basic:v1.6.0-dev.2",
        f"{_SUITE}echo-basic:v1.6.0-dev.3",
    ),
    "echo-advanced": (f"{_SUITE}echo-advanced:v1.5.1",),
}
"""Images of Go programs and the names that manifests call them by; most are those of the suite of
Gateway API 1.6.3."""

_ROOT, _NOBODY = "0:0", "65532:65532"
_PROGRAMS = ("cat", "curl", "ls", "sleep")
_PATH = "PATH=/usr/local/bin:/usr/bin:/bin"


def write_images(folder: Path, cache: Path) -> None:
    """Write an archive for each image into *folder*, and what else they are called.

    Those of the suite are left out where its programs are not built.

    Args:
        cache: what `deploy/images` keeps between runs.
    """
    aliases: dict[str, str] = {}
    for program_name, (name, *others) in NAMES.items():
        try:
            layer, entrypoint = _layer_of(program_name, cache / "layers")
        except MissingProgramError:
            continue
        write(Image(name, (layer,), (entrypoint,), (_PATH,), _ROOT), folder)
        aliases |= dict.fromkeys(others, name)
    for image in _python_images(cache):
        write(image, folder)
    (folder / ALIASES).write_text(json.dumps(aliases), encoding="utf-8")


def cache_folder() -> Path:
    """Return what `deploy/images` keeps between runs."""
    return Path(os.environ.get("PENSTOCK_CACHE") or Path.home() / ".cache" / "penstock") / "images"


def write_own_images(folder: Path, cache: Path) -> list[str]:
    """Write archives of Penstock's own images, as they are in this checkout; return their names.

    Raises:
        ClusterError: one cannot be made.
    """
    recipes = Recipes(cache)
    try:
        images = (recipes.penstock(), recipes.envoy())
    except (RecipeError, MissingLibraryError) as error:
        raise ClusterError(f"images of Penstock: {error}") from error
    for image in images:
        write(image, folder)
    return [image.name for image in images]


def write(image: Image, folder: Path) -> None:
    """Write an archive into *folder*; the registry serves it at once."""
    file = image.name.replace("/", "_").replace(":", "_")
    write_archive(image, folder / f"{file}.tar")


def _layer_of(name: str, layers: Path) -> tuple[Layer, str]:
    """Return a layer with a program, and where in it that is."""
    files: dict[str, Entry] = {
        "etc/passwd": File(b"root:x:0:0::/:\nnobody:x:65534:65534::/:\n"),
        "tmp": Folder(0o1777),
    }
    if name == "echo-advanced":
        certificate, key = _certificate()
        files |= {
            "usr/local/bin/server": File(program("echo-server"), PROGRAM),
            "usr/local/bin/client": File(program("echo-client"), PROGRAM),
            "cert.crt": File(certificate),
            "cert.key": File(key),
        }
        return write_layer(files, layers), "/usr/local/bin/server"
    files[name] = File(program(name), PROGRAM)
    return write_layer(files, layers), f"/{name}"


def _python_images(cache: Path) -> tuple[Image, Image]:
    """Return what the lab runs for the same names: our own echo server, and a place to call from.

    Both have Python, a shell and curl, for those who look around with `kubectl exec`.
    """
    echo = echo_image(ECHO_IMAGE, cache)
    return echo, echo._replace(name=CLIENT_IMAGE, entrypoint=("/usr/bin/sleep", "infinity"))


def echo_image(name: str, cache: Path, *environment: str) -> Image:
    """Return our echo server under a name; *environment* is more of it, as NAME=VALUE."""
    recipes = Recipes(cache)
    roots = (CHECKOUT / "xds-server", CHECKOUT / "node-proxy")
    tree: dict[str, Entry] = {}
    for root, package in itertools.product(roots, ("lab", "runtime", "meta")):
        folder = root / "src" / "penstock" / package
        tree |= files_below(folder, f"{HOME}/penstock/{package}", _is_source)
    ours = write_layer(tree, cache / "layers")
    return Image(
        name,
        layers=(*recipes.base(), write_layer(_shell(), cache / "layers"), ours),
        entrypoint=("/usr/local/bin/python3", "-m", "penstock.lab.echo"),
        environment=(_PATH, f"PYTHONPATH=/{HOME}", "PYTHONDONTWRITEBYTECODE=1", *environment),
        user=_NOBODY,
    )


def _shell() -> dict[str, Entry]:
    """Return the programs of this machine that there are, with their libraries."""
    wanted = {"dash": "usr/bin/sh", **{name: f"usr/bin/{name}" for name in _PROGRAMS}}
    found = {place: shutil.which(name) for name, place in wanted.items()}
    programs = {place: Path(path).resolve() for place, path in found.items() if path}
    files: dict[str, Entry] = {place: File(path, PROGRAM) for place, path in programs.items()}
    return {**files, **libraries(list(programs.values()), ()), "bin": Link("usr/bin")}


def _is_source(path: PurePosixPath) -> bool:
    return path.name != "__pycache__"


def _certificate() -> tuple[bytes, bytes]:
    """Return a certificate that nobody checks, and its key."""
    with tempfile.TemporaryDirectory() as scratch:
        certificate, key = Path(scratch, "crt"), Path(scratch, "key")
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:P-256", "-nodes", "-days", "3650", "-subj", "/CN=echo",
                "-keyout", str(key), "-out", str(certificate),
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        return certificate.read_bytes(), key.read_bytes()
