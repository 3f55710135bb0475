"""One API server for all tests that do no harm to it, and new ones for those that do."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from support.kube import KubeApi, gateway_api_crds, kube_api, policy_crds


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[KubeApi]:
    """Serve every kind that Penstock knows."""
    with kube_api(tmp_path_factory.mktemp("kube")) as running:
        running.install([*gateway_api_crds(), *policy_crds()])
        yield running


@pytest.fixture
def bare_api(tmp_path: Path) -> Generator[KubeApi]:
    """Serve the kinds of Kubernetes itself, to this test only."""
    (tmp_path / "kube").mkdir()
    with kube_api(tmp_path / "kube") as running:
        yield running
