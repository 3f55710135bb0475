"""Take away from a node all that agents left on it, so that pods are as without Penstock.

What agents leave is meant to outlive them: programs and maps in the node's bpffs, the CNI plugin,
addresses of Gateways, the last good state. Every step may be repeated.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import structlog

from penstock.agent.cni import uninstall
from penstock.agent.config import CniFolders
from penstock.agent.node_addresses import MARK
from penstock.bpf.addresses import link_addresses, remove_address
from penstock.bpf.datapath import OWN_NETNS, Datapath
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths

log = structlog.get_logger(__name__)


class LeaveError(PenstockError):
    """Something stays; the text says what."""


def leave(paths: RunPaths, bpffs: Path, cni: CniFolders) -> None:
    """Take everything away; the plugin first, so that no pod waits for an agent.

    Args:
        paths: of the agent.
        bpffs: folder of what is pinned.
        cni: folders of the container runtime.

    Raises:
        LeaveError: a file cannot be removed.
        DatapathError: the kernel refuses.
    """
    try:
        uninstall(cni)
        log.info("CNI plugin removed", folder=str(cni.configuration))
        Datapath.remove(bpffs)
        log.info("programs detached", folder=str(bpffs))
        _remove_addresses()
        for folder in (paths.state, paths.netns, paths.keys):
            shutil.rmtree(folder, ignore_errors=True)
        paths.authority.unlink(missing_ok=True)
    except OSError as error:
        raise LeaveError(f"this node is not left: {error}; mend that and run it again") from error


def _remove_addresses() -> None:
    for one in link_addresses(OWN_NETNS):
        if one.protocol == MARK:
            remove_address(OWN_NETNS, one.interface, one.address)
            log.info("address removed", address=str(one.address))
