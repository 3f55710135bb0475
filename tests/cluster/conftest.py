"""One cluster for all tests of this folder; each test has a namespace of its own in it."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from support.cluster import programs
from support.cluster.cluster import Cluster, running
from support.cluster.errors import ClusterError
from support.cluster.mesh import Mesh, mesh_on
from support.cluster.news import news
from support.cluster.plan import Plan

MINUTES = 10
"""For one test; the first one starts the cluster, and outages take a while."""

_CLUSTER = pytest.StashKey[Cluster]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests on a cluster more time than others."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(MINUTES * 60))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell with a failure what the cluster says of itself."""
    report = yield
    if report.failed and (found := item.session.stash.get(_CLUSTER, None)):
        report.sections.append(("what the cluster says", news(found)))
    return report


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Generator[Cluster]:
    """Two nodes; skipped where they cannot run."""
    if os.geteuid() != 0:
        pytest.skip("a cluster needs root")
    try:
        programs.check()
    except ClusterError as error:
        pytest.skip(str(error))
    with running(Plan(name=f"pk{os.getpid()}"), _say, own_images=True) as found:
        request.session.stash[_CLUSTER] = found
        yield found
        del request.session.stash[_CLUSTER]


def _say(text: str) -> None:
    sys.stderr.write(f"cluster: {text}\n")


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Generator[str]:
    """Return a namespace that is new, in which Pods can be made."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[:40].strip("-")
    name = f"{test}-{secrets.token_hex(3)}"
    cluster.make_namespace(name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def mesh(cluster: Cluster) -> Generator[Mesh]:
    """Penstock on the cluster, installed by helm."""
    with mesh_on(cluster) as found:
        yield found
