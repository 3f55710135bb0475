"""Every reason of XTelemetryPolicies, provoked.

The list of them is that of the Go types of Gateway API v1.7, with those of GEP-713.
"""

from __future__ import annotations

import msgspec
import pytest

from penstock.core.objects import Broken, Object
from support import objects
from support.reasons import Case, Json, Thing, case, check, check_list, conditions

X = "gateway.networking.x-k8s.io"
GATEWAY = objects.gateway_api("Gateway", "gw", {
    "gatewayClassName": "penstock", "listeners": [{"name": "l", "protocol": "HTTP", "port": 80}],
})  # fmt: skip
OTEL = objects.service("otel", "10.96.0.9")
SECURE = objects.service("otel", "10.96.0.9", app_protocol="https")


def policy(name: str = "p", target: str = "gw", kind: str = "Gateway", **tracing: object) -> Thing:
    group = "gateway.networking.k8s.io" if kind == "Gateway" else ""
    spec: Json = {"targetRefs": [{"group": group, "kind": kind, "name": target}]}
    if tracing:
        spec["tracing"] = tracing
    head = {"name": name, "namespace": "shop", "generation": 4}
    return objects.made(
        {"apiVersion": f"{X}/v1alpha1", "kind": "XTelemetryPolicy", "metadata": head, "spec": spec}
    )


def traced(*, name: str = "p", attributes: tuple[Json, ...] = (), **ref: object) -> Thing:
    provider = {"backendRef": {"name": "otel", **ref}}
    more: Json = {"attributes": list(attributes)} if attributes else {}
    return policy(name, mode="Enabled", provider=provider, **more)


def known(key: str) -> Json:
    return {"name": "a", "sourceType": "Attribute", "attributeKey": key}


def outside(**spec: object) -> Thing:
    place = {"type": "ExternalHostname", "externalHostname": {"hostname": "a.test"}}
    head = {"name": "otel", "namespace": "shop"}
    port = {"port": {"number": 4317}}
    return objects.made(
        {"apiVersion": f"{X}/v1alpha1", "kind": "XBackend", "metadata": head,
         "spec": place | port | spec}
    )  # fmt: skip


CASES = (
    case("a policy for a Gateway of ours is accepted", "XTelemetryPolicy Accepted True Accepted",
         policy(), GATEWAY),
    case("one that switches traces off is accepted, too",
         "XTelemetryPolicy Accepted True Accepted", policy(mode="Disabled"), GATEWAY),
    case("of two for a Gateway the second by name is conflicted",
         "XTelemetryPolicy Accepted False Conflicted", policy("z"), policy("a"), GATEWAY),
    case("a policy for a Service is invalid", "XTelemetryPolicy Accepted False Invalid",
         policy(kind="Service")),
    case("a Gateway that is not there is not found",
         "XTelemetryPolicy Accepted False TargetNotFound", policy(target="none"), GATEWAY),
    case("a collector that is there is resolved",
         "XTelemetryPolicy ResolvedRefs True ResolvedRefs", traced(port=80), OTEL, GATEWAY),
    case("a collector may be outside of the cluster",
         "XTelemetryPolicy ResolvedRefs True ResolvedRefs",
         traced(group=X, kind="XBackend"), outside(), GATEWAY),
    case("a collector that is not there is not found",
         "XTelemetryPolicy ResolvedRefs False BackendNotFound", traced(port=80), GATEWAY),
    case("a port that a Service does not have is not found",
         "XTelemetryPolicy ResolvedRefs False BackendNotFound", traced(port=81), OTEL, GATEWAY),
    case("an XBackend that is not there is not found",
         "XTelemetryPolicy ResolvedRefs False BackendNotFound",
         traced(group=X, kind="XBackend"), GATEWAY),
    case("a collector of another kind is no collector",
         "XTelemetryPolicy ResolvedRefs False InvalidKind",
         traced(group="x.test", kind="Thing"), GATEWAY),
    case("a collector of another namespace needs a grant",
         "XTelemetryPolicy ResolvedRefs False RefNotPermitted",
         traced(namespace="other", port=80), GATEWAY),
    case("a port that says it needs TLS needs a BackendTLSPolicy",
         "XTelemetryPolicy ResolvedRefs False UnsupportedProtocol",
         traced(port=80), SECURE, GATEWAY),
    case("an XBackend that is not served is no collector",
         "XTelemetryPolicy ResolvedRefs False UnsupportedProtocol",
         traced(group=X, kind="XBackend"), outside(protocol="TCP"), GATEWAY),
    case("attributes that a Gateway does not know are left out",
         "XTelemetryPolicy PartiallyInvalid True UnsupportedValue",
         traced(port=80, attributes=(known("gen_ai.tool.name"),)), OTEL, GATEWAY),
)  # fmt: skip

LISTED = """
    Accepted True Accepted
    Accepted False Conflicted Invalid TargetNotFound
    ResolvedRefs True ResolvedRefs
    ResolvedRefs False BackendNotFound InvalidKind RefNotPermitted UnsupportedProtocol
    PartiallyInvalid True UnsupportedValue"""


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.fact)
def test_reason(one: Case) -> None:
    check(one)


def test_every_reason_that_is_listed_is_provoked() -> None:
    check_list("XTelemetryPolicy", LISTED, CASES)


def test_the_older_policy_goes_first_whatever_its_name() -> None:
    older, newer = (
        _since(policy(name), f"2026-01-0{day}T00:00:00Z") for name, day in (("z", 1), ("a", 2))
    )
    said = {
        name: conditions(case(name, "XTelemetryPolicy Accepted True Accepted", *world, GATEWAY))
        for name, world in {"older": (older, newer), "newer": (newer, older)}.items()
    }
    assert said["older"][0]["status"] == "True"
    assert said["newer"][0]["reason"] == "Conflicted"
    assert "XTelemetryPolicy shop/z is for" in said["newer"][0]["message"]


def _since(thing: Thing, when: str) -> Thing:
    assert not isinstance(thing, Broken)
    made: Object = msgspec.structs.replace(
        thing, metadata=msgspec.structs.replace(thing.metadata, creation_timestamp=when)
    )
    return made


def test_messages_say_where() -> None:
    for one in CASES:
        for said in conditions(one):
            if said["type"] == "PartiallyInvalid" or said["reason"] == "BackendNotFound":
                assert said["message"].startswith("spec.tracing.")
