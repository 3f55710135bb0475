"""The kinds that a folder may hold; alone here, for commands that read files and ask no server."""

from __future__ import annotations

from penstock.compiler.kinds import KINDS
from penstock.core.deployments import Deployment
from penstock.core.kinds import ClusterTrustBundle, ConfigMap, Secret
from penstock.core.objects import Object
from penstock.policy.resources import CiliumClusterwideNetworkPolicy
from penstock.sources.registry import Registry, registry

_MORE: tuple[type[Object], ...] = (Deployment, ConfigMap, Secret, ClusterTrustBundle)


def known_kinds() -> Registry:
    """Return every kind that a folder may hold."""
    return registry(KINDS, (*_MORE, CiliumClusterwideNetworkPolicy))
