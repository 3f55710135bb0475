"""What `python -m support.cluster` tells people."""

from __future__ import annotations

import pytest

from support.cluster import programs
from support.cluster.cluster import Cluster
from support.cluster.commands import LINKS, how_to_use
from support.cluster.errors import ClusterError
from support.cluster.plan import DEFAULT_NAME, Plan
from support.kube import MissingProgramError


def test_the_line_for_a_shell_names_the_kubeconfig_of_that_very_cluster() -> None:
    assert f"KUBECONFIG={LINKS / 'kubeconfig'} " in how_to_use(Cluster(Plan(name=DEFAULT_NAME)))
    try:
        folder = programs.program("kubectl").parent
    except MissingProgramError as error:
        pytest.skip(str(error))
    other = Cluster(Plan(name="other"))
    assert how_to_use(other) == f"export KUBECONFIG={other.kubeconfig} PATH={folder}:$PATH"


def test_who_is_not_root_or_in_a_chroot_hears_it_before_anything_is_built() -> None:
    """A chroot is told by its list of mounts, in which nothing is at "/"."""
    machine = "22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n23 22 0:5 / /proc rw - proc proc rw\n"
    chroot = "41 22 0:5 / /proc rw - proc proc rw\n"
    programs.check_machine(user=0, mounts=machine)
    with pytest.raises(ClusterError, match="root is needed"):
        programs.check_machine(user=1000, mounts=machine)
    with pytest.raises(ClusterError, match="which it is not in a chroot"):
        programs.check_machine(user=0, mounts=chroot)
