"""`penstock check`: is everything there that is needed, and does it work?"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from penstock.cli.checks.addresses import gateway_addresses
from penstock.cli.checks.finding import Finding, Verdict
from penstock.cli.checks.ingresses import ingresses
from penstock.cli.checks.machine import chain, machine, node
from penstock.cli.checks.observed import Cluster, access_of, has_access, observe
from penstock.cli.checks.platform import REVIEWS, platform
from penstock.cli.checks.served import served
from penstock.cli.checks.services import services
from penstock.cli.checks.workloads import workloads
from penstock.cli.formats import Format
from penstock.cli.output import say, show_value
from penstock.meta.paths import RunPaths
from penstock.meta.version import VERSION

CNI_FOLDERS = (Path("/host/cni/conf"), Path("/etc/cni/net.d"))
"""Where CNI configurations are: in the agent's pod, and on the node itself."""


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked."""

    node: bool = False
    """This node and its agent, and no cluster."""
    paths: RunPaths = RunPaths()
    cni_folder: Path | None = None
    kubeconfig: Path | None = None
    context: str = ""
    namespace: str = "penstock-system"


def check(where: Where, form: Format, *, quiet: bool, every: bool = False) -> int:
    """Show what was found; return 1 if something fails, else 0.

    Args:
        where: what is checked.
        form: how it is shown.
        quiet: show only what is not ok.
        every: name all objects, not the first few; JSON and YAML always do.

    Raises:
        PenstockError: the kubeconfig is not usable.
    """
    found = findings(where)
    shown = [one for one in found if not quiet or one.verdict is not Verdict.OK]
    if form in (Format.JSON, Format.YAML):
        show_value({"version": VERSION, "findings": shown}, form)
    else:
        show(shown, every=every)
        if not quiet:
            say(_summary(found))
    return 1 if any(one.verdict is Verdict.FAIL for one in found) else 0


def findings(where: Where) -> list[Finding]:
    """Return what is found on this node, in a cluster, or if none is named on this machine."""
    environment = dict(os.environ)
    if where.node:
        return [*machine(), *node(where.paths), _chain(where.cni_folder)]
    if not has_access(where.kubeconfig, environment):
        return list(machine())
    return judged(asyncio.run(seen(where)))


async def seen(where: Where) -> Cluster:
    """Return the cluster as its API server tells it.

    Raises:
        PenstockError: the kubeconfig is not usable.
    """
    environment = dict(os.environ)
    access = access_of(where.kubeconfig, where.context, environment)
    return await observe(access, where.namespace, REVIEWS, environment)


def judged(cluster: Cluster) -> list[Finding]:
    """Return what is to be said about a cluster."""
    found = list(platform(cluster))
    if not cluster.unreachable:
        found += services(cluster)
        found += workloads(cluster, VERSION, datetime.now(UTC))
        found += gateway_addresses(cluster)
        found += served(cluster)
        found += ingresses(cluster)
    return found


def show(found: Sequence[Finding], *, every: bool = False) -> None:
    """Print one line for each finding, and below it the next step if there is one.

    Args:
        found: in order.
        every: below that, a line for each of those of which the first one names a few.
    """
    width = max((len(one.subject) for one in found), default=0)
    for one in found:
        say(f"{one.id}  {one.verdict:<4}  {one.subject:<{width}}  {one.found}")
        if one.hint and one.verdict is not Verdict.OK:
            say(f"{'':<{len(one.id) + 8}}→ {one.hint}")
        if one.every and not every:
            say(f"{'':<{len(one.id) + 8}}→ --all names all {len(one.every)}")
        for text in one.every if every else ():
            say(f"{'':<{len(one.id) + 8}}- {text}")


def _chain(folder: Path | None) -> Finding:
    folders = (folder,) if folder else CNI_FOLDERS
    return chain(next((one for one in folders if os.access(one, os.R_OK)), folders[-1]))


def _summary(found: Sequence[Finding]) -> str:
    counts = {verdict: sum(one.verdict is verdict for one in found) for verdict in Verdict}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
