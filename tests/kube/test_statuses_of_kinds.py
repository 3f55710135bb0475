"""Statuses in a real API server: of Services, of experimental kinds, and of Ingresses by Events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.gatewayapi.resources import CONTROLLER_NAME
from penstock.meta.names import NamespacedName
from support.kube import KubeApi, gateway_api_crds, policy_crds
from support.replicas import LEASE, replica
from support.source_suite import eventually
from support.status_objects import (
    CLUSTER,
    conditions,
    get,
    made_anew,
    of_gateway_api,
    put_status,
    route,
    settled,
)


def balanced(name: str, **spec: Any) -> dict[str, Any]:
    port = {"name": "http", "port": 80}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "status"},
        "spec": {"type": "LoadBalancer", "ports": [port], **spec},
    }


@pytest.fixture
def service(api: KubeApi) -> Iterator[dict[str, Any]]:
    """Make a Service that is ours to balance."""
    api.namespace("status")
    api.delete(LEASE)
    made = balanced("ours", loadBalancerIP="192.0.2.9")
    api.delete(made)
    api.apply(made)
    yield made
    api.delete(made)


def ingress(api: KubeApi, raw: dict[str, Any]) -> list[dict[str, Any]]:
    return list(get(api, raw)["status"]["loadBalancer"].get("ingress", []))


async def test_a_load_balancer_gets_its_address_once(api: KubeApi, service: dict[str, Any]) -> None:
    async with replica(api, settings=CLUSTER) as one:
        await eventually(lambda: ingress(api, service) == [{"ip": "192.0.2.9", "ipMode": "VIP"}])
        await one.idle()
        api.apply(service | {"metadata": {**service["metadata"], "labels": {"a": "b"}}})
        version = get(api, service)["metadata"]["resourceVersion"]
        services, key = one.world.compiler.db.services, NamespacedName("status", "ours")
        await eventually(lambda: services.snapshot()[key].metadata.resource_version == version)
        await one.idle()
        assert get(api, service)["metadata"]["resourceVersion"] == version


async def test_a_load_balancer_of_another_class_is_left_alone(
    api: KubeApi, service: dict[str, Any]
) -> None:
    other = balanced("others", loadBalancerClass="x.test/other")
    api.delete(other)
    api.apply(other)
    try:
        async with replica(api, settings=CLUSTER):
            await eventually(lambda: bool(ingress(api, service)))
            assert ingress(api, other) == []
    finally:
        api.delete(other)


async def test_what_is_no_load_balancer_any_more_has_no_address(
    api: KubeApi, service: dict[str, Any]
) -> None:
    async with replica(api, settings=CLUSTER):
        await eventually(lambda: bool(ingress(api, service)))
        assert set(conditions(get(api, service)["status"])) == {"penstock.dev/AddressAssigned"}
        api.apply(balanced("ours", type="ClusterIP"))
        await eventually(lambda: ingress(api, service) == [])
        await eventually(lambda: conditions(get(api, service)["status"]) == {})


def of_x(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": "x", "namespace": "status"},
        "spec": spec,
    }


async def test_experimental_kinds_say_whether_they_hold(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    named = {"group": "gateway.networking.x-k8s.io", "kind": "XBackend", "name": "x"}
    out: dict[str, Any] = route() | {"metadata": {"name": "out", "namespace": "status"}}
    out["spec"]["rules"] = [{"backendRefs": [named]}]
    place = {"hostname": "a.test"}
    backend = {"type": "ExternalHostname", "externalHostname": place, "port": {"number": 80}}
    target = {"group": "", "kind": "Service", "name": "missing"}
    nowhere = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "missing"}
    tracing = {"mode": "Enabled", "provider": {"backendRef": {"name": "missing", "port": 4317}}}
    made = [
        out,
        of_x("XBackend", backend),
        of_x("XBackendTrafficPolicy", {"targetRefs": [target], "retryConstraint": {}}),
        of_x("XTelemetryPolicy", {"targetRefs": [nowhere], "tracing": tracing}),
    ]
    for raw in made:
        api.delete(raw)
        api.apply(raw)
    try:
        async with replica(api):
            await settled(api, *objects, out)
            await eventually(lambda: all(get(api, one).get("status") for one in made))
            _, external, traffic, traced = (get(api, one)["status"] for one in made)
            (at_gateway,) = external["ancestors"]
            assert conditions(at_gateway) == {"Accepted": "True", "ResolvedRefs": "True"}
            (at_service,) = traffic["ancestors"]
            assert at_service["ancestorRef"] == target | {"namespace": "status"}
            (accepted,) = at_service["conditions"]
            assert (accepted["status"], accepted["reason"]) == ("False", "TargetNotFound")
            (at_nobody,) = traced["ancestors"]
            assert at_nobody["ancestorRef"] == nowhere | {"namespace": "status"}
            (accepted,) = at_nobody["conditions"]
            assert (accepted["status"], accepted["reason"]) == ("False", "TargetNotFound")
    finally:
        for raw in made:
            api.delete(raw)


async def test_a_kind_that_is_installed_later_is_served_without_a_new_start(
    bare_api: KubeApi,
) -> None:
    api, late = bare_api, "tlsroutes"
    api.install([*(one for one in gateway_api_crds() if late not in one.name), *policy_crds()])
    the_class, the_gateway, *_ = made_anew(api)
    listener = {"name": "tls", "port": 443, "protocol": "TLS", "tls": {"mode": "Passthrough"}}
    the_gateway["spec"]["listeners"].append(listener)
    api.apply(the_gateway)
    spec = {
        "parentRefs": [{"name": "g"}],
        "hostnames": ["a.test"],
        "rules": [{"backendRefs": [{"name": "b", "port": 443}]}],
    }
    raw = of_gateway_api("TLSRoute", "t", spec)

    def lacking() -> str:
        found = get(api, the_class).get("status", {}).get("conditions", [])
        return "".join(one["message"] for one in found if one["type"].endswith("/KindsServed"))

    def features() -> set[str]:
        return {one["name"] for one in get(api, the_class)["status"]["supportedFeatures"]}

    async with replica(api):
        await eventually(lambda: "no CRDs of TLSRoute:" in lacking())
        assert {"HTTPRoute", "TCPRoute"} < features()
        assert "TLSRoute" not in features()
        await asyncio.to_thread(api.install, [o for o in gateway_api_crds() if late in o.name])
        await asyncio.to_thread(api.apply, raw)
        await eventually(lambda: "parents" in get(api, raw).get("status", {}))
        assert conditions(get(api, raw)["status"]["parents"][0])["Accepted"] == "True"
        await eventually(lambda: lacking() == "" and "TLSRoute" in features())


async def test_what_others_wrote_of_a_policy_for_tls_stays(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    """As the suite's BackendTLSPolicyPreserveForeignStatus (v1.7) has it."""
    authority = {"group": "", "kind": "ConfigMap", "name": "none"}
    spec = {
        "targetRefs": [{"group": "", "kind": "Service", "name": "b"}],
        "validation": {"hostname": "b.test", "caCertificateRefs": [authority]},
    }
    raw = of_gateway_api("BackendTLSPolicy", "t", spec)
    gateway = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"}
    condition = {
        "type": "Accepted", "status": "False", "reason": "Seen", "message": "",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    theirs = {
        "controllerName": "example.com/other",
        "ancestorRef": gateway,
        "conditions": [condition],
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "b", "namespace": "status"},
        "spec": {"ports": [{"port": 80}]},
    }
    for one in (raw, service):
        api.delete(one)
        api.apply(one)
    try:
        put_status(api, raw, lambda status: status.update(ancestors=[theirs]))
        async with replica(api):
            await settled(api, *objects)
            await eventually(lambda: len(get(api, raw)["status"]["ancestors"]) == 2)
            first, ours = get(api, raw)["status"]["ancestors"]
            assert first == theirs
            assert ours["controllerName"] == CONTROLLER_NAME
            assert conditions(ours) == {"Accepted": "False", "ResolvedRefs": "False"}
            api.apply(route({"name": "other"}))
            await eventually(lambda: get(api, raw)["status"]["ancestors"] == [theirs])
    finally:
        for one in (raw, service):
            api.delete(one)


def events_about(api: KubeApi, raw: dict[str, Any]) -> list[tuple[str, str, str]]:
    status, said = api.request("GET", "/apis/events.k8s.io/v1/namespaces/status/events")
    assert status == 200, said
    uid = get(api, raw)["metadata"]["uid"]
    found = [one for one in said["items"] if one["regarding"]["uid"] == uid]
    return [(one["type"], one["reason"], one["note"]) for one in found]


async def test_what_is_wrong_with_an_ingress_is_told_by_events(api: KubeApi) -> None:
    api.namespace("status")
    api.delete(LEASE)
    head = {"apiVersion": "networking.k8s.io/v1"}
    class_ = head | {
        "kind": "IngressClass",
        "metadata": {"name": "penstock"},
        "spec": {"controller": "penstock.dev/ingress-controller"},
    }
    notes = {"nginx.ingress.kubernetes.io/limit-connections": "5"}
    web = head | {
        "kind": "Ingress",
        "metadata": {"name": "web", "namespace": "status", "annotations": notes},
        "spec": {
            "ingressClassName": "penstock",
            "defaultBackend": {"service": {"name": "told", "port": {"number": 80}}},
        },
    }
    behind = balanced("told", type="ClusterIP")

    def told(kind: str, reason: str, note: str) -> bool:
        found = events_about(api, web)
        return any((kind, reason) == one[:2] and note in one[2] for one in found)

    made = [class_, web, behind]
    for raw in made:
        api.delete(raw)
    try:
        for raw in (class_, web):
            api.apply(raw)
        async with replica(api):
            await eventually(lambda: told("Warning", "NotServedAsWritten", "limit-connections"))
            plain = {"name": "web", "namespace": "status", "annotations": None}
            api.apply(web | {"metadata": plain})
            await eventually(lambda: told("Warning", "NotServedAsWritten", "no Service"))
            api.apply(behind)  # a change of another object
            await eventually(lambda: told("Normal", "ServedAsWritten", "everything"))
    finally:
        for raw in made:
            api.delete(raw)


async def test_an_xbackend_says_which_services_have_routes_to_its_pods(
    api: KubeApi, objects: list[dict[str, Any]]
) -> None:
    named = {"group": "gateway.networking.x-k8s.io", "kind": "XBackend", "name": "x"}
    route_: dict[str, Any] = route({"group": "", "kind": "Service", "name": "b"})
    route_ |= {"metadata": {"name": "to-pods", "namespace": "status"}}
    route_["spec"]["rules"] = [{"backendRefs": [named]}]
    labels = {"matchLabels": {"app": "nobody"}}
    selecting = {"type": "EndpointSelector", "endpointSelector": labels, "port": {"number": 80}}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "b", "namespace": "status"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    }
    made = [route_, of_x("XBackend", selecting), service]
    for raw in made:
        api.delete(raw)
        api.apply(raw)
    try:
        async with replica(api):
            await settled(api, *objects, route_)
            await eventually(lambda: get(api, made[1]).get("status"))
            (at_service,) = get(api, made[1])["status"]["ancestors"]
            ref = {"group": "", "kind": "Service", "name": "b", "namespace": "status"}
            assert at_service["ancestorRef"] == ref
            assert conditions(at_service) == {"Accepted": "True", "ResolvedRefs": "True"}
            (accepted, _) = at_service["conditions"]
            assert accepted["message"] == "no pod with these labels is ready"
    finally:
        for raw in made:
            api.delete(raw)


def older(folder: Path) -> list[Path]:
    """Return files of the definitions, some of which have only what there was before v1."""
    made: list[Path] = []
    for file in gateway_api_crds():
        path = folder / file.name
        documents = [one for one in yaml.safe_load_all(file.read_text()) if one]
        for one in documents:
            if one["metadata"]["name"].partition(".")[0] in ("udproutes", "backendtlspolicies"):
                versions = one["spec"]["versions"]
                kept = [each | {"storage": True} for each in versions if each["name"] != "v1"]
                one["spec"]["versions"] = kept
        path.write_text(yaml.safe_dump_all(documents))
        made.append(path)
    return made


async def test_a_kind_that_the_server_has_in_an_older_version_gets_its_statuses(
    bare_api: KubeApi, tmp_path: Path
) -> None:
    bare_api.install([*older(tmp_path), *policy_crds()])
    made = {
        "apiVersion": "gateway.networking.k8s.io/v1alpha2",
        "kind": "UDPRoute",
        "metadata": {"name": "u", "namespace": "status"},
        "spec": {
            "parentRefs": [{"name": "g"}],
            "rules": [{"backendRefs": [{"name": "b", "port": 53}]}],
        },
    }
    authority = {"group": "", "kind": "ConfigMap", "name": "none"}
    spec = {
        "targetRefs": [{"group": "", "kind": "Service", "name": "b"}],
        "validation": {"hostname": "b.test", "caCertificateRefs": [authority]},
    }
    policy = of_gateway_api("BackendTLSPolicy", "t", spec) | {
        "apiVersion": "gateway.networking.k8s.io/v1alpha3"
    }
    made_anew(bare_api)
    for one in (made, policy):
        bare_api.apply(one)
    async with replica(bare_api):
        await settled(bare_api, made)
        await eventually(lambda: get(bare_api, policy).get("status"))
        (ours,) = get(bare_api, policy)["status"]["ancestors"]
        assert conditions(ours) == {"Accepted": "False", "ResolvedRefs": "False"}
