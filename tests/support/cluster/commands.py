"""The commands behind `make cluster` and `make cluster-down`, and a few for a look inside.

python -m support.cluster up [--own-images] | down | exec-net COMMAND… | node NAME COMMAND… |
    images | load ARCHIVE…
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from support.cluster import programs
from support.cluster.archives import read_archive
from support.cluster.cluster import Cluster, sweep
from support.cluster.errors import ClusterError
from support.cluster.plan import DEFAULT_NAME, Plan
from support.kube import ROOT, MissingProgramError

LINKS = ROOT / ".cluster"
"""What people use: kubeconfig and programs of the cluster that `make cluster` started."""


def main(arguments: Sequence[str]) -> int:
    """Return the exit status."""
    options = _parser().parse_args(arguments)
    cluster = Cluster(Plan(name=options.name))
    try:
        match options.command:
            case "up":
                _up(cluster, own_images=options.own_images)
            case "down":
                _down(cluster)
            case "images":
                for name in cluster.renew_own_images():
                    _say(f"image {name}")
            case "check":
                programs.check_machine()
            case "load":
                _load(cluster, options.archives)
            case "exec-net":
                _become(cluster.in_control_netns(*options.words))
            case "node":
                _become(cluster.in_node(options.node, *options.words))
            case _:
                raise AssertionError(options.command)
    except (ClusterError, MissingProgramError) as error:
        _say_error(str(error))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m support.cluster")
    parser.add_argument("--name", default=DEFAULT_NAME, help="of the cluster; default: %(default)s")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="say why there cannot be one here, before anything is built")
    up = commands.add_parser("up", help="start a cluster, unless it runs")
    up.add_argument("--own-images", action="store_true", help="with Penstock's own images")
    commands.add_parser("down", help="remove it")
    commands.add_parser("images", help="make Penstock's own images anew")
    load = commands.add_parser("load", help="make images of archives known to the cluster")
    load.add_argument("archives", nargs="+", type=Path)
    inside = commands.add_parser("exec-net", help="run a command where pods are reachable")
    inside.add_argument("words", nargs=argparse.REMAINDER)
    node = commands.add_parser("node", help="run a command on a node")
    node.add_argument("node")
    node.add_argument("words", nargs=argparse.REMAINDER)
    return parser


def _up(cluster: Cluster, *, own_images: bool) -> None:
    sweep()
    cluster.up(_say, own_images=own_images)
    if cluster.plan.name == DEFAULT_NAME:
        _link(cluster)
    _say(how_to_use(cluster))


def how_to_use(cluster: Cluster) -> str:
    """Return the line for a shell after which kubectl is there and speaks to *cluster*."""
    if cluster.plan.name == DEFAULT_NAME:
        return f"export KUBECONFIG={LINKS / 'kubeconfig'} PATH={LINKS / 'bin'}:$PATH"
    folder = programs.program("kubectl").parent
    return f"export KUBECONFIG={cluster.kubeconfig} PATH={folder}:$PATH"


def _link(cluster: Cluster) -> None:
    shutil.rmtree(LINKS, ignore_errors=True)
    (LINKS / "bin").mkdir(parents=True)
    (LINKS / "kubeconfig").symlink_to(cluster.kubeconfig)
    (LINKS / "logs").symlink_to(cluster.state)
    for name in ("kubectl", "helm"):
        try:
            (LINKS / "bin" / name).symlink_to(programs.program(name))
        except MissingProgramError as error:
            _say(str(error))


def _down(cluster: Cluster) -> None:
    if os.geteuid() != 0:
        raise ClusterError("root is needed: sudo make cluster-down")
    cluster.down()
    if cluster.plan.name == DEFAULT_NAME:
        shutil.rmtree(LINKS, ignore_errors=True)
    _say("removed")


def _load(cluster: Cluster, archives: Sequence[Path]) -> None:
    for archive in archives:
        _, images = read_archive(archive)
        fresh = cluster.images / f"{archive.name}.new"
        shutil.copyfile(archive, fresh)
        fresh.rename(cluster.images / archive.name)
        for name in images:
            cluster.renew_image(name)
            _say(f"image {name}")


def _become(words: tuple[str, ...]) -> None:
    os.execvp(words[0], words)  # noqa: S606  # no shell is meant


def _say(text: str) -> None:
    sys.stdout.write(f"cluster: {text}\n")
    sys.stdout.flush()


def _say_error(text: str) -> None:
    sys.stderr.write(f"cluster: {text}\n")
