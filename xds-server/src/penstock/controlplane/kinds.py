"""The kinds that a folder may hold; alone here, for commands that read files and ask no server."""

from __future__ import annotations

from penstock.compiler.kinds import KINDS
from penstock.core.deployments import Deployment
from penstock.core.kinds import ClusterTrustBundle, ConfigMap, Secret
from penstock.sources.registry import Registry, registry


def known_kinds() -> Registry:
    """Return every kind that a folder may hold."""
    return registry(KINDS, (Deployment, ConfigMap, Secret, ClusterTrustBundle))
