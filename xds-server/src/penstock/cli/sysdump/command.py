"""The command: gather, redact, write one file."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from penstock.cli.check import Where, findings, judged, seen
from penstock.cli.checks.observed import Cluster, access_of, has_access
from penstock.cli.output import complain, say
from penstock.cli.sysdump import cluster as of_cluster
from penstock.cli.sysdump import node as of_node
from penstock.cli.sysdump.parts import Part, write_archive
from penstock.cli.sysdump.redact import as_json
from penstock.meta.version import VERSION

STDOUT = Path("-")
_ALWAYS = ("versions.json", "check.json")


def sysdump(where: Where, file: Path | None, *, dry_run: bool) -> int:
    """Write an archive that can be shown to others; return the exit status.

    Args:
        where: a cluster, or with `node` the run folder and nothing else.
        file: what to write; None makes up a name, "-" is standard output.
        dry_run: tell what would be taken, and take nothing.

    Raises:
        PenstockError: the kubeconfig is not usable.
    """
    local = where.node or not has_access(where.kubeconfig, dict(os.environ))
    if dry_run:
        for name in sorted([*_ALWAYS, *_names(where, local=local)]):
            say(name)
        return 0
    parts = list(_local(where) if local else _cluster(where))
    if file == STDOUT:
        write_archive(parts, sys.stdout.buffer)
        return 0
    target = file or Path(f"penstock-sysdump-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar.gz")
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        write_archive(parts, out)
    say(f"{target}: {len(parts)} files; secrets are taken out, look through it all the same")
    return 0


def _names(where: Where, *, local: bool) -> list[str]:
    return of_node.names(where.paths) if local else of_cluster.names(asyncio.run(seen(where)))


def _local(where: Where) -> Iterator[Part]:
    yield _versions("")
    yield Part("check.json", as_json({"findings": findings(where)}))
    yield from of_node.parts(where.paths)


def _cluster(where: Where) -> Iterator[Part]:
    cluster = asyncio.run(seen(where))
    yield _versions(cluster.version)
    yield Part("check.json", as_json({"findings": judged(cluster)}))
    if cluster.unreachable:
        complain(f"{cluster.server}: {cluster.unreachable}; nothing of the cluster is in the file")
        return
    yield from of_cluster.objects(cluster)
    yield from _logs(where, cluster)
    kubectl = of_cluster.kubectl_command(where.kubeconfig, where.context)
    if kubectl is None:
        complain("kubectl is not on PATH: the nodes' own state is not in the file")
        return
    yield from of_cluster.node_parts(cluster, kubectl)


def _logs(where: Where, cluster: Cluster) -> list[Part]:
    environment = dict(os.environ)
    access = access_of(where.kubeconfig, where.context, environment)
    return asyncio.run(of_cluster.read_logs(access, cluster, environment))


def _versions(kubernetes: str) -> Part:
    kernel = os.uname()
    known = {
        "penstock": VERSION,
        "python": sys.version,
        "kubernetes": kubernetes,
        "machine": f"{kernel.sysname} {kernel.release} {kernel.machine}",
    }
    return Part("versions.json", as_json(known))
