"""XTelemetryPolicies: what they change, whom they tell, and what they leave as it is."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.problems import problems_of
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.envoy.cluster import HTTP_OPTIONS
from penstock.envoy.span_attributes import CONSTANTS, FORMATS, USUAL
from penstock.gatewayapi.filters import Fraction
from penstock.gatewayapi.telemetry import share
from penstock.ir.tracing import ALL, KEYS, is_known
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as options_pb2
from penstock.xds import types
from penstock.xds.resource import Resource
from support import objects, streams
from support.pki import issue

X = "gateway.networking.x-k8s.io"
Thing = Object | Broken
BASE: list[Thing] = [
    objects.gateway_class(),
    objects.gateway("front"),
    objects.gateway("other"),
    objects.service("web", "10.96.0.1"),
    objects.endpoint_slice("web", ["10.244.0.1"]),
    objects.service("otel", "10.96.0.9"),
    objects.endpoint_slice("otel", ["10.244.0.9"]),
    objects.pod("otel-0", "10.244.0.9", {"app": "otel"}),
    objects.http_route("r", parent={"name": "front"}, backends=[("web", 1)]),
    objects.http_route("o", parent={"name": "other"}, backends=[("web", 1)]),
]
TRACES = "traces|shop/otel/80"
CA = issue("ca.test")
Json = dict[str, Any]


def policy(name_: str = "p", mode: str = "Enabled", **ref: object) -> Thing:
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "front"}
    tracing: dict[str, object] = {"mode": mode}
    if mode == "Enabled":
        tracing["provider"] = {"backendRef": ref or {"name": "otel", "port": 80}}
    return objects.made(
        {
            "apiVersion": f"{X}/v1alpha1",
            "kind": "XTelemetryPolicy",
            "metadata": {"name": name_, "namespace": "shop"},
            "spec": {"targetRefs": [target], "tracing": tracing},
        }
    )


GRANT = objects.gateway_api(
    "ReferenceGrant",
    "otel",
    {
        "from": [{"group": X, "kind": "XTelemetryPolicy", "namespace": "shop"}],
        "to": [{"group": "", "kind": "Service"}],
    },
    "data",
)


def tls() -> tuple[Thing, Thing]:
    """Return authorities, and a policy that the collector is met with TLS."""
    return streams.tls("otel", CA)


def compiled(*more: Thing) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added([*BASE, *more]))
    assert compiler.failures == {}
    return compiler


def found(compiler: Compiler) -> dict[tuple[str, str], Resource]:
    return {(types.short(one.type_url), one.name): one for one in compiler.resources("")}


def apply(compiler: Compiler, thing: Thing, kind: EventType) -> tuple[set[str], set[str]]:
    changes = compiler.apply([Event(kind, thing)])
    assert compiler.failures == {}
    deltas = [change.delta for change in changes]
    came = {one.name for delta in deltas for one in delta.upserts}
    return came, {one.name for delta in deltas for one in delta.removals}


def cluster(compiler: Compiler, name: str = TRACES) -> cluster_pb2.Cluster:
    return cluster_pb2.Cluster.FromString(found(compiler)["Cluster", name].body)


def endpoints(compiler: Compiler, name: str = TRACES) -> bytes:
    return found(compiler)["ClusterLoadAssignment", name].body


def test_a_policy_changes_its_gateway_alone_and_its_end_leaves_no_trace_of_it() -> None:
    compiler, without = compiled(), found(compiled())
    came, gone = apply(compiler, policy(), EventType.ADDED)
    of_gateway = {"gateway/shop/front/80", "gw|shop/front/80|*"}
    assert (came, gone) == ({*of_gateway, TRACES, "penstock"}, set())
    came, gone = apply(compiler, policy(), EventType.DELETED)
    assert (came, gone) == ({*of_gateway, "penstock"}, {TRACES})
    assert {key: one.body for key, one in found(compiler).items()} == {
        key: one.body for key, one in without.items()
    }


@pytest.mark.parametrize("mode", ["Disabled", "ImplementationDefault"])
def test_a_policy_that_switches_nothing_on_changes_nothing(mode: str) -> None:
    assert apply(compiled(), policy(mode=mode), EventType.ADDED) == (set(), set())


@pytest.mark.parametrize("ref", [{"name": "none", "port": 80}, {"name": "otel", "port": 81}])
def test_without_a_collector_no_listener_and_no_route_changes(ref: Json) -> None:
    assert apply(compiled(), policy(**ref), EventType.ADDED) == ({"penstock"}, set())


def test_a_collector_of_another_namespace_is_told_while_a_grant_says_so() -> None:
    there = objects.service("otel", "10.96.0.8", namespace="data")
    asked = policy(name_="p", namespace="data", name="otel", port=80)
    compiler = compiled(there, asked)
    assert ("Cluster", "traces|data/otel/80") not in found(compiler)
    came, _ = apply(compiler, GRANT, EventType.ADDED)
    assert {"traces|data/otel/80", "gateway/shop/front/80"} <= came
    came, gone = apply(compiler, GRANT, EventType.DELETED)
    assert (came & {"gateway/shop/front/80"}, gone) == (
        {"gateway/shop/front/80"},
        {"traces|data/otel/80"},
    )


def test_the_next_policy_holds_when_the_first_is_gone() -> None:
    compiler = compiled(policy("a", mode="Disabled"), policy("b"))
    assert "penstock.gateway" not in _front(compiler)
    apply(compiler, policy("a", mode="Disabled"), EventType.DELETED)
    assert "penstock.gateway" in _front(compiler)


def _front(compiler: Compiler) -> str:
    return found(compiler)["Listener", "gateway/shop/front/80"].body.decode(errors="replace")


def test_one_that_cannot_be_read_is_as_if_it_were_not_there() -> None:
    broken = policy(mode="Nonsense")
    assert isinstance(broken, Broken)
    assert apply(compiled(), broken, EventType.ADDED) == (set(), set())
    compiler = compiled(policy())
    _, gone = apply(compiler, policy(mode="Nonsense"), EventType.MODIFIED)
    assert gone == {TRACES}


def test_endpoints_of_a_collector_come_and_go_without_a_word_to_listeners() -> None:
    more = objects.endpoint_slice("otel", ["10.244.0.9", "10.244.0.8"])
    came, gone = apply(compiled(policy()), more, EventType.MODIFIED)
    assert (came & {"gateway/shop/front/80", "gw|shop/front/80|*"}, gone) == (set(), set())
    assert TRACES in came


def test_a_collector_that_lets_no_gateway_in_is_told_nothing() -> None:
    own = {"endpointSelector": {"matchLabels": {"app": "otel"}}, "ingress": [{}]}
    ours = {**own, "ingress": [{"fromEntities": ["ingress"]}]}
    assert b"10.244.0.9" in endpoints(compiled(policy()))
    closed = {**own, "ingress": [{"fromEndpoints": [{"matchLabels": {"app": "x"}}]}]}
    assert b"10.244.0.9" not in endpoints(compiled(policy(), objects.policy("p", closed)))
    assert b"10.244.0.9" in endpoints(compiled(policy(), objects.policy("p", ours)))


def test_tls_to_a_collector_is_what_a_policy_says() -> None:
    assert not cluster(compiled(policy())).HasField("transport_socket")
    compiler = compiled(policy(), *tls())
    assert cluster(compiler).HasField("transport_socket")
    status = status_of(compiler.db, tls()[1], lambda _: None)
    assert status is not None
    assert [one["ancestorRef"]["name"] for one in status["ancestors"]] == ["front"]


def test_what_a_policy_says_that_does_not_hold_is_no_business_of_its_gateway() -> None:
    authorities, of_otel = tls()
    compiler = compiled(authorities, of_otel, policy("a", name="web", port=80), policy("b"))
    assert status_of(compiler.db, of_otel, lambda _: None) is None
    compiler.apply([Event(EventType.DELETED, policy("a", name="web", port=80))])
    told = status_of(compiler.db, of_otel, lambda _: None) or {}
    assert [one["ancestorRef"]["name"] for one in told["ancestors"]] == ["front"]


def test_a_port_that_needs_tls_is_told_nothing_without() -> None:
    secure = objects.service("otel", "10.96.0.9", app_protocol="https")
    assert ("Cluster", TRACES) not in found(compiled(policy(), secure))
    assert cluster(compiled(policy(), secure, *tls())).HasField("transport_socket")


def test_a_collector_may_be_pods_by_their_labels_or_outside() -> None:
    asked = policy(group=X, kind="XBackend", name="picked")
    pods = objects.xbackend("picked", {"app": "otel"}, port=4317)
    compiler = compiled(asked, pods)
    name = "traces|shop/~picked"
    assert "http2_protocol_options" in str(_options(cluster(compiler, name)))
    assert b"10.244.0.9" in endpoints(compiler, name)
    outside = objects.xbackend("picked", "otel.example.com", port=4318)
    came, gone = apply(compiler, outside, EventType.MODIFIED)
    assert {name, "gateway/shop/front/80"} <= came
    assert gone == {name}  # the endpoints: DNS has them now
    assert "http2_protocol_options" not in str(_options(cluster(compiler, name)))
    status = status_of(compiler.db, outside, lambda _: None)
    assert status is not None
    assert [one["ancestorRef"]["name"] for one in status["ancestors"]] == ["front"]


def _options(made: cluster_pb2.Cluster) -> options_pb2.HttpProtocolOptions:
    packed = made.typed_extension_protocol_options[HTTP_OPTIONS].value
    return options_pb2.HttpProtocolOptions.FromString(packed)


def test_lint_says_what_keeps_a_policy_from_what_it_says() -> None:
    compiler = compiled(policy(name="none", port=80))
    (said,) = problems_of(compiler.db, policy(name="none", port=80))
    assert (said.path, said.message) == (
        "spec.tracing.provider.backendRef",
        "BackendNotFound: there is no Service shop/none",
    )
    later = compiled(policy("a"), policy("b"))
    (said,) = problems_of(later.db, policy("b"))
    assert said.path == "spec.targetRefs[0]"
    assert said.message.startswith("Conflicted: XTelemetryPolicy shop/a ")


def test_every_attribute_that_is_known_has_a_value() -> None:
    assert {*FORMATS, *CONSTANTS} == KEYS
    assert not FORMATS.keys() & CONSTANTS.keys()
    assert set(USUAL) < KEYS
    assert is_known("http.request.header.x-a")
    assert not is_known("http.request.header.")


@pytest.mark.parametrize(
    ("numerator", "denominator", "millionths"),
    [
        (0, 1, 0), (1, 1, ALL), (1, 3, 333_333), (1, 2**31 - 1, 1),
        (2**31 - 2, 2**31 - 1, ALL - 1), (5, 100, 50_000),
    ],
)  # fmt: skip
def test_only_none_is_none_and_only_all_is_all(
    numerator: int, denominator: int, millionths: int
) -> None:
    assert share(Fraction(numerator=numerator, denominator=denominator)) == millionths
