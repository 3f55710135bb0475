"""What `python -m support.cluster` tells people."""

from __future__ import annotations

import pytest

from support.cluster import programs
from support.cluster.cluster import Cluster
from support.cluster.commands import LINKS, how_to_use
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
