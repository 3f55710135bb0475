"""Secrets of a real API server: read where a Gateway may use them, and nowhere else."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Generator
from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.statuses import status_of
from penstock.controlplane.referenced import SECRETS
from penstock.core.events import Batch, Event, EventType
from penstock.core.kinds import Secret
from penstock.gatewayapi.resources import Gateway, GatewayClass, ReferenceGrant
from penstock.meta.back_off import BackOff
from penstock.meta.names import ObjectRef
from penstock.runtime.clock import SystemClock
from penstock.sources.kubernetes.access import Access
from penstock.sources.kubernetes.kubeconfig import from_kubeconfig
from penstock.sources.kubernetes.requests import Pace
from penstock.sources.kubernetes.source import KubernetesSource
from penstock.xds import types
from support.kube import KubeApi
from support.pki import issue, tls_secret_raw
from support.source_suite import Recorder, eventually, running

QUICK = Pace(absent=0.1, denied=0.1, back_off=BackOff(first=0.05, longest=0.2), vanished=1.0)
KINDS = (GatewayClass, Gateway, ReferenceGrant)
API = "gateway.networking.k8s.io/v1"


def source_at(access: Access) -> KubernetesSource:
    return KubernetesSource(
        access, KINDS, SystemClock(), random.random, pace=QUICK, referenced=[SECRETS]
    )


def gateway_class() -> dict[str, Any]:
    spec = {"controllerName": "penstock.dev/gateway-controller"}
    return {"apiVersion": API, "kind": "GatewayClass", "metadata": {"name": "p"}, "spec": spec}


def gateway(namespace: str, *references: str, name: str = "gw") -> dict[str, Any]:
    """Return a Gateway with a listener for each reference, "name" or "namespace/name"."""
    listeners: list[dict[str, Any]] = []
    for index, reference in enumerate(references):
        there, _, secret = reference.rpartition("/")
        listeners.append(
            {
                "name": f"l{index}",
                "port": 443,
                "protocol": "HTTPS",
                "hostname": f"h{index}.test",
                "tls": {"certificateRefs": [{"name": secret, "namespace": there or namespace}]},
            }
        )
    head = {"apiVersion": API, "kind": "Gateway"}
    spec = {"gatewayClassName": "p", "listeners": listeners}
    return {**head, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def grant(namespace: str, source: str, secret: str) -> dict[str, Any]:
    spec = {
        "from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": source}],
        "to": [{"group": "", "kind": "Secret", "name": secret}],
    }
    metadata = {"name": "grant", "namespace": namespace}
    head = {"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant"}
    return {**head, "metadata": metadata, "spec": spec}


def secret(namespace: str, name: str) -> dict[str, Any]:
    return tls_secret_raw(name, namespace, [issue("h0.test")])


def secrets_of(seen: Recorder) -> set[str]:
    return {str(ref.key) for ref in seen.objects if ref.kind == "Secret"}


class Place:
    """Two namespaces of one test: that of the Gateways, and one with Secrets of others."""

    def __init__(self, api: KubeApi, number: int) -> None:
        self.api, self.shop, self.certs = api, f"secrets{number}-shop", f"secrets{number}-certs"
        self.apply, self.delete = api.apply, api.delete

    def set_up(self) -> None:
        for namespace in (self.shop, self.certs):
            self.api.namespace(namespace)
            for name in ("a", "b"):
                self.apply(secret(namespace, name))
        self.apply(gateway_class())


_numbers = itertools.count()


@pytest.fixture
def place(api: KubeApi) -> Generator[Place]:
    made = Place(api, next(_numbers))
    made.set_up()
    yield made
    made.delete(gateway(made.shop, "a"))


async def test_only_what_gateways_may_use_is_read_and_it_is_there_from_the_start(
    place: Place,
) -> None:
    place.apply(gateway(place.shop, "a", f"{place.certs}/a", f"{place.certs}/b", "nowhere"))
    place.apply(grant(place.certs, place.shop, "a"))
    source = source_at(place.api.access)
    async with running(source) as seen:
        assert secrets_of(seen) == {f"{place.shop}/a", f"{place.certs}/a"}
        assert len(seen.batches) == 1
        watched = {one.name: one.objects for one in source.states()}
        assert watched["secrets"] == 2


async def test_reference_and_secret_come_together_and_go_together(place: Place) -> None:
    place.apply(gateway(place.shop, "a"))
    async with running(source_at(place.api.access)) as seen:
        assert secrets_of(seen) == {f"{place.shop}/a"}
        await asyncio.to_thread(place.apply, gateway(place.shop, "b"))
        await seen.until(lambda: secrets_of(seen) == {f"{place.shop}/b"})
        (together,) = seen.batches[1:]
        told = {(one.type.value, one.object.ref.name) for one in together.events}
        assert told == {("MODIFIED", "gw"), ("ADDED", "b"), ("DELETED", "a")}


async def test_secret_that_changes_comes_and_goes_is_told(place: Place) -> None:
    place.apply(gateway(place.shop, "late"))
    ref = ObjectRef("Secret", place.shop, "late")
    async with running(source_at(place.api.access)) as seen:
        assert ref not in seen.objects
        await asyncio.to_thread(place.apply, secret(place.shop, "late"))
        await seen.until(lambda: ref in seen.objects)
        first = seen.objects[ref]
        await asyncio.to_thread(place.apply, secret(place.shop, "late"))
        await seen.until(lambda: seen.objects.get(ref) not in (None, first))
        await asyncio.to_thread(place.delete, secret(place.shop, "late"))
        await seen.until(lambda: ref not in seen.objects)


async def test_grant_that_is_taken_back_takes_the_secret_away_at_once(place: Place) -> None:
    place.apply(gateway(place.shop, f"{place.certs}/a"))
    place.apply(grant(place.certs, place.shop, "a"))
    compiler = Compiler()

    async def take(batch: Batch) -> None:
        compiler.apply(batch.events)
        await seen(batch)

    seen = Recorder()
    task = asyncio.create_task(source_at(place.api.access).run(take))
    try:
        await seen.until(lambda: secrets_of(seen) == {f"{place.certs}/a"})
        assert [r.name for r in compiler.resources("") if r.type_url == types.SECRET] == [
            f"tls|{place.certs}/a"
        ]
        await asyncio.to_thread(place.delete, grant(place.certs, place.shop, "a"))
        await seen.until(lambda: secrets_of(seen) == set())
        assert not any(r.type_url == types.SECRET for r in compiler.resources(""))
        thing = seen.objects[ObjectRef("Gateway", place.shop, "gw")]
        status = status_of(compiler.db, thing, lambda _: None)
        assert status is not None
        assert "RefNotPermitted" in json.dumps(status["listeners"])
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_secret_that_may_not_be_read_is_told_as_such_and_holds_nothing_else_back(
    place: Place,
) -> None:
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "no-secrets"}}
    rules = [
        {
            "apiGroups": ["gateway.networking.k8s.io"],
            "resources": ["*"],
            "verbs": ["get", "list", "watch"],
        }
    ]
    group = "rbac.authorization.k8s.io"
    role = {**rbac, "kind": "ClusterRole"}
    place.apply({**role, "rules": rules})
    place.apply(
        {
            **rbac,
            "kind": "ClusterRoleBinding",
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "no-secrets"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "blind"}],
        }
    )
    place.api.pki.issue("blind", "/CN=blind", "extendedKeyUsage=clientAuth")
    config = json.loads(place.api.kubeconfig.read_text())
    config["users"][0]["user"] = {
        "client-certificate": "pki/blind.crt",
        "client-key": "pki/blind.key",
    }
    path = place.api.kubeconfig.parent / "blind"
    path.write_text(json.dumps(config))
    place.apply(gateway(place.shop, "a"))
    source = source_at(from_kubeconfig(path))
    async with running(source) as seen:
        compiler = Compiler()
        compiler.apply(Event(EventType.ADDED, one) for one in seen.objects.values())
        thing = seen.objects[ObjectRef("Gateway", place.shop, "gw")]
        status = status_of(compiler.db, thing, lambda _: None)
        assert status is not None
        (listener,) = status["listeners"]
        (refs,) = [one for one in listener["conditions"] if one["type"] == "ResolvedRefs"]
        assert refs["reason"] == "InvalidCertificateRef"
        assert f"Secret {place.shop}/a: cannot be read: 403 Forbidden" in refs["message"]
        assert 'User "blind" cannot watch' in refs["message"]
        await eventually(lambda: f"Secret {place.shop}/a cannot be read" in str(source.problems()))
        allowed = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]}
        await asyncio.to_thread(place.apply, {**role, "rules": [*rules, allowed]})
        ref = ObjectRef("Secret", place.shop, "a")
        await seen.until(lambda: isinstance(seen.objects[ref], Secret))
        assert "cannot be read" not in str(source.problems())
