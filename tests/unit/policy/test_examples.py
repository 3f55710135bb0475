"""The examples that are shipped are right and do what their comments say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from penstock.ir.policy import TCP, Direction, EndpointPolicy, Verdict
from penstock.policy import judge
from penstock.policy.judge import HttpRequest
from support.policies import OUTSIDE, Json, Pod, World, read

EXAMPLES = Path(__file__).parents[3] / "policies" / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
IN, OUT = Direction.INGRESS, Direction.EGRESS


def pod(identity: int, namespace: str, **labels: str) -> Pod:
    return Pod(identity=identity, namespace=namespace, labels=tuple(labels.items()))


FRONTEND, ORDERS = pod(70000, "shop", app="frontend"), pod(70001, "shop", app="orders")
PAYMENTS, INTRUDER = pod(70002, "shop", app="payments"), pod(70003, "shop", quarantine="yes")
SCRAPER, SUPPORT = pod(70004, "monitoring", app="scraper"), pod(70005, "shop", app="support-desk")
WORLD = World([FRONTEND, ORDERS, PAYMENTS, INTRUDER, SCRAPER, SUPPORT])


def load(name: str) -> Json:
    document: Json = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    return document


def policy_of(subject: Pod, *names: str) -> EndpointPolicy:
    parsed = [read(load(name)) for name in names]
    return WORLD.policy_of(subject, parsed, {"http": frozenset({8080})})


def connects(policy: EndpointPolicy, peer: int, port: int, way: Direction = IN) -> bool:
    return judge.l4(policy, way, peer, port, TCP)[0] is not Verdict.DENY


def answers(
    policy: EndpointPolicy, peer: Pod, port: int, request: HttpRequest, way: Direction = IN
) -> bool:
    return judge.http(policy, way, peer.identity, port, request)[0]


def test_there_are_examples() -> None:
    assert len(NAMES) >= 6


@pytest.mark.parametrize("name", NAMES)
def test_example_has_no_problem(name: str) -> None:
    assert read(load(name)).problems == ()


def test_default_deny_closes_both_directions() -> None:
    policy = policy_of(ORDERS, "default-deny")
    assert not connects(policy, FRONTEND.identity, 8080)
    assert not connects(policy, FRONTEND.identity, 8080, OUT)


def test_frontend_reads_the_public_part_only() -> None:
    policy = policy_of(ORDERS, "http-read-only", "default-deny")
    for path in ("/public", "/public/7", "/public?page=2", "/healthz"):
        assert answers(policy, FRONTEND, 8080, HttpRequest(path=path))
    assert not answers(policy, FRONTEND, 8080, HttpRequest(path="/publicity"))
    assert not answers(policy, FRONTEND, 8080, HttpRequest(path="/public", method="POST"))
    assert not connects(policy, INTRUDER.identity, 8080)


def test_refunds_need_their_header() -> None:
    policy = policy_of(PAYMENTS, "http-headers")

    def refund(peer: Pod, **headers: str) -> bool:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = HttpRequest(method="POST", path="/refunds", headers=named)
        return answers(policy, peer, 8080, request)

    assert refund(ORDERS, x_reason="returned")
    assert not refund(ORDERS, x_reason="other")
    assert not refund(ORDERS, x_ticket="1")
    assert refund(SUPPORT, x_ticket="1")
    assert not refund(SUPPORT)


def test_metrics_are_read_from_the_other_namespace() -> None:
    policy = policy_of(ORDERS, "other-namespace")
    assert answers(policy, SCRAPER, 9090, HttpRequest(path="/metrics"))
    assert not connects(policy, FRONTEND.identity, 9090)


def test_deny_takes_away_and_leaves_the_rest() -> None:
    policy = policy_of(PAYMENTS, "deny-wins")
    assert not connects(policy, INTRUDER.identity, 5432)
    assert connects(policy, INTRUDER.identity, 5433)
    assert connects(policy, FRONTEND.identity, 5432)
    assert not connects(policy, OUTSIDE, 80)


def test_egress_of_the_frontend() -> None:
    policy = policy_of(FRONTEND, "egress")
    assert answers(policy, ORDERS, 8080, HttpRequest(path="/public"), OUT)
    assert not answers(policy, ORDERS, 8080, HttpRequest(path="/admin"), OUT)
    assert connects(policy, PAYMENTS.identity, 53, OUT)
    assert not connects(policy, PAYMENTS.identity, 8080, OUT)
    assert not connects(policy, OUTSIDE, 443, OUT)
