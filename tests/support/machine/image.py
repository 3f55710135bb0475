"""The disk of the machine: Debian from its packages, and in it this project with its Python.

Made once for each set of packages and requirements, and kept in the cache. The settings for package
registries are those of this machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple

from support.kube import ROOT
from support.machine import guest
from support.machine.errors import MachineError

Say = Callable[[str], None]
DISK_BYTES = 32 << 30
"""Of a file with holes: what is not written takes no place."""
_PINS = ("requirements-dev.txt", "pyproject.toml", "deploy/setup/system-packages")
_APT = Path("/etc/apt")
_TRUST = Path("/etc/ssl/certs/ca-certificates.crt")
_PIP = Path("/etc/pip.conf")
_CARRIED = re.compile(
    r"(PIP_|SSL_CERT|REQUESTS_CA|CURL_CA|GIT_SSL|https?_proxy|no_proxy)", re.IGNORECASE
)
_MIRROR = re.compile(r"^(?:URIs:|deb(?:\s+\[[^\]]*\])?)\s+(\S+/debian/?)(?=\s|$)", re.MULTILINE)
_LOCAL = "PIP_FIND_LINKS"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Image(NamedTuple):
    """What qemu is given; nothing of it is changed by a run."""

    disk: Path
    kernel: Path
    initrd: Path


def image(cache: Path, say: Say) -> Image:
    """Return the image for this checkout; one that is not there is made, in some minutes.

    Raises:
        MachineError: a step failed; the text has its last words.
    """
    folder = cache / f"machine-{digest()}"
    made = Image(folder / "disk.img", folder / "vmlinuz", folder / "initrd.img")
    if made.disk.exists():
        return made
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / "root"
    _remove(root)
    try:
        say(f"making the image once: Debian {guest.SUITE} from its packages, some minutes")
        _debian(root)
        say("making the image: this project and its Python packages")
        _project(root)
        _settle(root)
        for name, target in (("vmlinuz", made.kernel), ("initrd.img", made.initrd)):
            shutil.copyfile(next((root / "boot").glob(f"{name}-*")), target)
        _write_disk(root, made.disk)
    finally:
        _remove(root)
    return made


def digest() -> str:
    """Return what an image is known by: all that decides what is in it but the time."""
    found = hashlib.sha256(
        repr((guest.SUITE, guest.PACKAGES, sorted(guest.FILES.items()))).encode()
    )
    for name in _PINS:
        found.update((ROOT / name).read_bytes())
    return found.hexdigest()[:16]


def mirror(sources: str) -> str:
    """Return where packages come from by a text of apt's sources; empty if it says nothing.

    Source: sources.list(5), both formats.
    """
    found = _MIRROR.search(sources)
    return found[1] if found else ""


def _debian(root: Path) -> None:
    source = mirror("\n".join(_sources().values()))
    _run("debootstrap", "--variant=minbase", guest.SUITE, str(root), *([source] if source else []))
    _carry_settings(root)
    with _mounted(root):
        _inside(root, "apt-get", "update", "-qq")
        _inside(root, "apt-get", "install", "-qq", "--no-install-recommends", *guest.PACKAGES)
        _inside(root, "apt-get", "clean")


def _sources() -> dict[str, str]:
    """Return the text of apt's sources by their files, if this machine is of the same Debian."""
    files = [_APT / "sources.list", *sorted((_APT / "sources.list.d").glob("*"))]
    texts = {str(file): file.read_text("utf-8") for file in files if file.is_file()}
    return {file: text for file, text in texts.items() if guest.SUITE in text}


def _carry_settings(root: Path) -> None:
    """Let the machine ask the registries that this one asks, and trust whom it trusts."""
    sources = _sources()
    if sources:
        (root / "etc/apt/sources.list").unlink(missing_ok=True)
    for name, text in sources.items():
        (root / name.lstrip("/")).write_text(text, encoding="utf-8")
    for file in sorted((_APT / "apt.conf.d").glob("99*")):
        shutil.copy(file, root / "etc/apt/apt.conf.d")
    keys = Path("/usr/share/keyrings")
    if keys.is_dir():
        shutil.copytree(keys, root / "usr/share/keyrings", dirs_exist_ok=True)
    _carry_trust(root)
    if _PIP.exists():
        shutil.copy(_PIP, root / "etc")
    own = Path.home() / ".config" / "pip"
    if own.is_dir():
        shutil.copytree(own, root / "root" / ".config" / "pip", dirs_exist_ok=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")


def _carry_trust(root: Path) -> None:
    """Let the machine trust whom this one trusts; ca-certificates writes the file anew."""
    (root / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
    if _TRUST.exists():
        shutil.copy(_TRUST, root / "etc/ssl/certs")


def _project(root: Path) -> None:
    _carry_trust(root)
    _run("git", "clone", "-q", str(ROOT), str(root / guest.CHECKOUT.lstrip("/")))
    with _mounted(root):
        _inside(root, "make", "-C", guest.CHECKOUT, "setup")


def _settle(root: Path) -> None:
    for name, text in guest.FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text(guest.RESOLVER, encoding="ascii")
    _inside(root, "systemctl", "enable", "-q", "systemd-networkd", guest.UNIT)
    _inside(root, "systemctl", "mask", "-q", *guest.IDLE_UNITS)


def _write_disk(root: Path, disk: Path) -> None:
    partial = disk.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    partial.touch()
    os.truncate(partial, DISK_BYTES)
    _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", "-d", str(root), str(partial))
    partial.rename(disk)


@contextlib.contextmanager
def _mounted(root: Path) -> Generator[None]:
    _run("mount", "-t", "proc", "proc", str(root / "proc"))
    try:
        yield
    finally:
        _run("umount", str(root / "proc"))


def _inside(root: Path, *words: str) -> None:
    _run("chroot", str(root), *words, environment={"HOME": "/root", "PATH": _PATH, **carried()})


def carried() -> dict[str, str]:
    """Return what of this environment says how registries are asked."""
    found = {key: one for key, one in os.environ.items() if _CARRIED.match(key) and key != _LOCAL}
    return found | {"LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def _run(*words: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        raise MachineError(f"{' '.join(words[:6])}: exit {done.returncode}\n{done.stdout[-2000:]}")


def _remove(root: Path) -> None:
    """Remove an unfinished root; never what is mounted in it."""
    if os.path.ismount(root / "proc"):
        _run("umount", "--lazy", str(root / "proc"))
    shutil.rmtree(root, ignore_errors=True)
