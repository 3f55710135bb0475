"""The source interface against a real API server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest_asyncio

from penstock.core.deployments import Deployment
from penstock.core.kinds import ConfigMap, EndpointSlice, Namespace, Service
from penstock.core.pods import Pod
from penstock.meta.names import ObjectRef
from penstock.policy.resources import CiliumNetworkPolicy
from penstock.runtime.clock import SystemClock
from penstock.sources.kubernetes.source import KubernetesSource
from penstock.sources.source import Source
from support.kube import KubeApi
from support.source_suite import SourceSuite

KINDS = (ConfigMap, Deployment, EndpointSlice, Namespace, Service, Pod, CiliumNetworkPolicy)


class KubeStore:
    """Objects in the API server, which are gone after the test."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._made: dict[ObjectRef, dict[str, Any]] = {}
        self.source: Source = KubernetesSource(api.access, KINDS, SystemClock(), random.random)

    async def put(self, raw: dict[str, Any]) -> None:
        metadata = raw["metadata"]
        ref = ObjectRef(raw["kind"], metadata.get("namespace", ""), metadata["name"])
        self._made[ref] = raw
        await asyncio.to_thread(self._api.apply, raw)

    async def remove(self, ref: ObjectRef) -> None:
        await asyncio.to_thread(self._api.delete, self._made.pop(ref))

    async def clean(self) -> None:
        for ref in list(self._made):
            if ref.kind != "Namespace":
                await self.remove(ref)


class TestKubernetesSource(SourceSuite):
    @pytest_asyncio.fixture
    async def store(self, api: KubeApi) -> AsyncGenerator[KubeStore]:
        api.namespace("shop")
        store = KubeStore(api)
        yield store
        await store.clean()
