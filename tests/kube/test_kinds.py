"""Kinds as a real API server gives them: many objects, late kinds, kinds that are denied."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from penstock.compiler.kinds import KINDS
from penstock.core.crds import CustomResourceDefinition
from penstock.core.deployments import Deployment
from penstock.core.events import EventType
from penstock.core.kinds import ConfigMap
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.resources import HTTPRoute
from penstock.gatewayapi.versions import BUNDLE_VERSION, NEWEST, release_of
from penstock.meta.back_off import BackOff
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Severity
from penstock.runtime.clock import SystemClock
from penstock.sources.kubernetes.access import Access
from penstock.sources.kubernetes.kubeconfig import from_kubeconfig
from penstock.sources.kubernetes.reflector import Phase
from penstock.sources.kubernetes.requests import Pace
from penstock.sources.kubernetes.source import KubernetesSource
from support.kube import ROOT, KubeApi, gateway_api_crds
from support.source_suite import Recorder, config_map, eventually, running

QUICK = Pace(absent=0.1, denied=0.1, back_off=BackOff(first=0.05, longest=0.2), vanished=1.0)
PAGES = msgspec.structs.replace(QUICK, stream_snapshots=False)
GATEWAYS = "gateways.gateway.networking.k8s.io"
ROUTE = ObjectRef("HTTPRoute", "shop", "r")


def source_at(
    access: Access, kinds: Iterable[type[Object]], pace: Pace = QUICK
) -> KubernetesSource:
    return KubernetesSource(access, kinds, SystemClock(), random.random, pace=pace)


def route(name: str = "r") -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"rules": [{"backendRefs": [{"name": "b", "port": 80}]}]},
    }


@pytest.mark.parametrize("pace", [QUICK, PAGES], ids=["stream", "pages"])
async def test_thousand_objects_are_one_batch(api: KubeApi, pace: Pace) -> None:
    api.namespace("many")
    made = [config_map(f"m{number}", x="1") for number in range(1000)]
    for raw in made:
        raw["metadata"]["namespace"] = "many"
    if api.request("GET", "/api/v1/namespaces/many/configmaps/m999")[0] == 404:
        api.create_all(made)
    source = source_at(api.access, (ConfigMap,), pace)
    async with running(source) as seen:
        names = {ref.name for ref in seen.objects if ref.namespace == "many"}
        assert len(names) == 1000
        assert len(seen.batches) == 1


@pytest.mark.parametrize("context", ["test", "bearer"])
async def test_contexts_of_a_kubeconfig_are_let_in(api: KubeApi, context: str) -> None:
    access = from_kubeconfig(api.kubeconfig, context)
    async with running(source_at(access, (ConfigMap,))):
        pass


async def test_kind_whose_definition_comes_later_is_taken_up(bare_api: KubeApi) -> None:
    bare_api.namespace("shop")
    source = source_at(bare_api.access, (HTTPRoute, ConfigMap))
    async with running(source) as seen:
        assert "httproutes.gateway.networking.k8s.io" in str(source.problems()[0])
        assert source.problems()[0].problem.severity is Severity.WARNING
        await asyncio.to_thread(bare_api.install, gateway_api_crds())
        await asyncio.to_thread(bare_api.apply, route())
        await seen.until(lambda: ROUTE in seen.objects)
        assert source.problems() == ()


async def test_kind_whose_definition_goes_is_empty(bare_api: KubeApi) -> None:
    bare_api.namespace("shop")
    bare_api.install(gateway_api_crds())
    bare_api.apply(route())
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "httproutes.gateway.networking.k8s.io"},
    }
    source = source_at(bare_api.access, (HTTPRoute, ConfigMap))
    async with running(source) as seen:
        assert ROUTE in seen.objects
        await asyncio.to_thread(bare_api.delete, definition)
        await seen.until(lambda: ROUTE not in seen.objects)
        await eventually(lambda: source.states()[0].phase is Phase.ABSENT)


async def test_kind_that_may_not_be_read_holds_everything_back_and_is_named(
    api: KubeApi,
) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}]
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "reader"}}
    api.apply({**rbac, "kind": "ClusterRole", "rules": rules})
    binding = {
        **rbac,
        "kind": "ClusterRoleBinding",
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "reader",
        },
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}],
    }
    api.pki.issue("reader", "/CN=reader", "extendedKeyUsage=clientAuth")
    config = json.loads(api.kubeconfig.read_text())
    user = {"client-certificate": "pki/reader.crt", "client-key": "pki/reader.key"}
    config["users"][0]["user"] = user
    path = api.kubeconfig.parent / "reader"
    path.write_text(json.dumps(config))
    source, seen = source_at(from_kubeconfig(path), (ConfigMap,)), Recorder()
    task = asyncio.create_task(source.run(seen))
    try:
        await eventually(source.problems)
        assert "configmaps cannot be read" in str(source.problems()[0])
        assert seen.batches == []
        await asyncio.to_thread(api.apply, binding)
        await seen.until(lambda: seen.batches)
        assert source.problems() == ()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def documents(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.rglob("*.yaml"))
    found = [one for file in files for one in yaml.safe_load_all(file.read_text()) if one]
    return sorted(found, key=lambda one: one["kind"] != "Namespace")


def pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    """Return a Pod as the Deployment would make it."""
    template, metadata = deployment["spec"]["template"], deployment["metadata"]
    named = {"name": f"{metadata['name']}-0", "namespace": metadata["namespace"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], **named},
        "spec": template["spec"],
    }


async def test_examples_are_accepted_and_understood_with_every_default(api: KubeApi) -> None:
    """The server fills in defaults that nobody wrote; a field unknown to us would break them."""
    made = documents(ROOT / "examples" / "shop")
    for raw in made:
        if raw["kind"] == "Namespace":
            api.namespace(raw["metadata"]["name"])
    made += [pod_of(raw) for raw in made if raw["kind"] == "Deployment"]
    for raw in made:
        api.apply(raw)
    try:
        async with running(source_at(api.access, (*KINDS, Deployment, ConfigMap))) as seen:
            wanted = {
                ObjectRef(
                    raw["kind"], raw["metadata"].get("namespace", ""), raw["metadata"]["name"]
                )
                for raw in made
            }
            assert wanted <= set(seen.objects)
            broken = [one for one in seen.objects.values() if isinstance(one, Broken)]
            assert broken == []
            assert {one.type for one in seen.events} == {EventType.ADDED}
    finally:
        for raw in made:
            if raw["kind"] != "Namespace":
                api.delete(raw)


@pytest.mark.parametrize("pace", [QUICK, PAGES], ids=["stream", "pages"])
async def test_of_definitions_of_kinds_the_metadata_alone_is_read(api: KubeApi, pace: Pace) -> None:
    source = source_at(api.access, (CustomResourceDefinition,), pace)
    async with running(source) as seen:
        found = seen.objects[ObjectRef("CustomResourceDefinition", "", GATEWAYS)]
        version = found.metadata.annotations[BUNDLE_VERSION]
        assert release_of(version) <= NEWEST
        assert source.problems() == ()
        body = {"metadata": {"annotations": {"penstock.dev/test": str(pace.stream_snapshots)}}}
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{GATEWAYS}"
        status, _ = api.request("PATCH", path, body, "application/merge-patch+json")
        assert status == 200

        def changed() -> bool:
            now = seen.objects[ObjectRef("CustomResourceDefinition", "", GATEWAYS)]
            notes = now.metadata.annotations
            return notes.get("penstock.dev/test") == str(pace.stream_snapshots)

        await eventually(changed)
