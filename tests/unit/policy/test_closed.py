"""Nothing that is wrong or not supported opens anything (spec L.1; reliability B-1)."""

from __future__ import annotations

import pytest

from penstock.core.objects import Broken, ObjectMeta
from penstock.ir.policy import TCP, Direction, Verdict
from penstock.meta.problems import Severity
from penstock.policy import judge
from penstock.policy.parse import parse
from penstock.policy.resources import CiliumNetworkPolicy, IngressRule, LabelSelector, PolicyRule
from penstock.policy.status import conditions
from support.policies import (
    CLIENT,
    OTHER,
    OUTSIDE,
    SERVER,
    WORLD,
    Json,
    app,
    cnp,
    egress,
    errors,
    http_item,
    ingress,
    port,
    read,
    server_policy,
)

IN, OUT = Direction.INGRESS, Direction.EGRESS
ALLOW_ALL = cnp(
    ingress({"fromEntities": ["all"]}, egress=[{"toEntities": ["all"]}]), name="allow-all"
)
LOUD = "NOTHING IN IT IS ENFORCED"


def is_open(
    *raws: Json, way: Direction = IN, peer: int = CLIENT.identity, number: int = 80
) -> bool:
    return judge.l4(server_policy(*raws), way, peer, number, TCP)[0] is not Verdict.DENY


def test_rules_beside_to_ports_close_the_direction() -> None:
    raw = cnp(ingress({"toPorts": [{"ports": [port("80")]}], "rules": {"http": [{}]}}))
    assert not is_open(raw)
    assert is_open(raw, way=OUT)


@pytest.mark.parametrize(
    ("spec", "open_in", "open_out"),
    [
        (ingress({"bogus": 1}), False, True),
        (egress({"bogus": 1}), True, False),
        (ingress({"bogus": 1}, egress=[{}]), False, False),
        ({"endpointSelector": {}, "ingress": ["junk"]}, False, True),
        ({"endpointSelector": app("server"), "ingress": None}, False, True),
        ({"endpointSelector": app("server"), "ingress": 7}, False, True),
        ({"endpointSelector": app("server"), "ingres": [{}]}, False, False),
        ({"endpointSelector": app("server")}, False, False),
        ({"endpointSelector": app("server"), "bogus": 1, "ingress": [{}]}, False, False),
        (ingress({"bogus": 1}, enableDefaultDeny={"ingress": False}), False, True),
        (ingress({"bogus": 1}, enableDefaultDeny={"egress": True}), False, False),
        (egress({}, enableDefaultDeny=None), False, False),
        (egress({}, enableDefaultDeny=True), False, False),
        (egress({}, enableDefaultDeny={"ingres": True}), False, False),
        (egress({}, enableDefaultDeny={"ingress": None}), False, False),
        (egress({}, enableDefaultDeny={"ingress": 1}), False, False),
        (egress({"bogus": 1}, enableDefaultDeny={"ingress": False}), True, False),
        (ingress({"fromEndpoints": [{}], "fromCIDR": ["10.0.0.0/8"]}), False, True),
        (ingress({"fromEndpoints": None, "toPorts": [{"ports": [port("80")]}]}), False, True),
        ({"endpointSelector": {}, "description": 7, "egress": [{}]}, True, False),
    ],
)
def test_broken_policy_closes_the_directions_it_mentions(
    spec: Json, *, open_in: bool, open_out: bool
) -> None:
    raw = cnp(spec)
    assert errors(raw)
    assert (is_open(raw), is_open(raw, way=OUT)) == (open_in, open_out)


@pytest.mark.parametrize(
    "spec",
    [
        {"endpointSelector": app("server"), "ingressDeny": [{"bogus": 1}]},
        {"endpointSelector": app("server"), "ingressDenny": [{"fromEntities": ["all"]}]},
        {"endpointSelector": app("server"), "ingress": [{}], "ingressDeny": None},
        ingress({"fromRequires": [app("client")]}),
    ],
)
def test_lost_deny_rule_is_not_made_up_for_by_other_policies(spec: Json) -> None:
    assert is_open(ALLOW_ALL)
    assert not is_open(ALLOW_ALL, cnp(spec))


def test_lost_allow_rule_leaves_what_other_policies_allow() -> None:
    assert is_open(ALLOW_ALL, cnp(ingress({"bogus": 1})))


@pytest.mark.parametrize(
    "selector",
    [
        {**app("server"), "bogus": 1},
        {"matchLabels": {"app": "server", "tier": 7}},
        {"matchLabels": {"app": "server", "cidr:10.0.0.0/8": ""}},
        {**app("server"), "matchExpressions": [{"key": "a", "operator": "Is"}]},
        {**app("server"), "matchExpressions": "junk"},
    ],
)
def test_half_readable_selector_closes_what_it_may_select(selector: Json) -> None:
    raw = cnp({"endpointSelector": selector, "ingress": [{"fromEntities": ["all"]}]})
    assert errors(raw)
    assert not is_open(raw)


@pytest.mark.parametrize(
    "spec",
    [
        {"ingress": [{}]},
        {"endpointSelector": None, "ingress": [{}]},
        {"endpointSelector": "all", "ingress": [{}]},
        {"endpointSelector": {"matchLabel": {"app": "server"}}, "ingress": [{}]},
        {"endpointSelector": {"matchLabels": {"app": 7}}, "ingress": [{}]},
        "junk",
        [],
    ],
)
def test_unreadable_selector_selects_nothing_and_says_so_loudly(spec: Json) -> None:
    raw = cnp(spec)
    assert read(raw).rules == ()
    assert any(LOUD in one for one in errors(raw))


def test_policy_without_any_spec_says_so_loudly() -> None:
    assert any(LOUD in one for one in errors(cnp()))
    assert any(LOUD in one for one in errors(cnp(specs="junk")))


def test_every_one_of_specs_is_closed_for_itself() -> None:
    raw = cnp(specs=[ingress({"fromEntities": ["all"]}), egress({"bogus": 1}), {"egress": []}])
    assert not is_open(raw)
    assert not is_open(raw, way=OUT)
    assert any(LOUD in one and one.startswith("specs[2]") for one in errors(raw))


@pytest.mark.parametrize(
    "rule",
    [
        {"fromCIDR": ["0.0.0.0/0"]},
        {"fromCIDR": ["0.0.0.0/0"], "toPorts": [{"ports": [port("80")]}]},
        {"fromCIDRSet": [{"cidrGroupRef": "g"}]},
        {"fromGroups": [{"aws": {"region": "eu"}}]},
        {"fromNodes": [{}]},
        {"fromEntities": ["kube-apiserver", "all"]},
        {"icmps": [{"fields": [{"type": 8}]}]},
        {"authentication": {"mode": "required"}, "fromEntities": ["all"]},
        {"authentication": {"mode": "test-always-fail"}, "fromEntities": ["all"]},
        {"toPorts": [{"ports": [port("1", endPort=65535)]}]},
        {"toPorts": [{"ports": [port("80")], "rules": {"kafka": [{"role": "produce"}]}}]},
        {"toPorts": [{"ports": [port("80")], "rules": {"kafka": []}}]},
        {"toPorts": [{"ports": [port("80")], "rules": {"l7proto": "r2d2"}}]},
        {"toPorts": [{"ports": [port("80")], "serverNames": ["a.io"]}]},
        {"toPorts": [{"ports": [port("80")], "terminatingTLS": {"secret": {"name": "s"}}}]},
        {
            "toPorts": [
                http_item("80", {}, {"headerMatches": [{"name": "a", "mismatch": "LOG"}]}),
            ]
        },
        {"fromEndpoints": [{"matchLabels": {"pod-template-hash": "1"}}]},
    ],
)
def test_allow_rule_that_is_not_supported_allows_nothing(rule: Json) -> None:
    raw = cnp(ingress(rule))
    assert errors(raw)
    assert not any(is_open(raw, peer=peer) for peer in (CLIENT.identity, OUTSIDE))


@pytest.mark.parametrize(
    "rule",
    [
        {"toFQDNs": [{"matchPattern": "*"}]},
        {"toServices": [{"k8sService": {"serviceName": "client"}}]},
        {"toPorts": [{"ports": [port("80")], "rules": {"dns": [{"matchPattern": "*"}]}}]},
        {"toPorts": [{"ports": [port("http")]}]},
        {
            "toPorts": [
                {
                    "ports": [port("80")],
                    "listener": {"name": "l", "envoyConfig": {"name": "e"}},
                }
            ]
        },
    ],
)
def test_egress_rule_that_is_not_supported_allows_nothing(rule: Json) -> None:
    raw = cnp(egress(rule))
    assert errors(raw)
    assert not any(is_open(raw, way=OUT, peer=peer) for peer in (CLIENT.identity, OUTSIDE))


def test_other_rules_of_a_policy_with_an_unsupported_one_hold() -> None:
    raw = cnp(ingress({"fromCIDR": ["0.0.0.0/0"]}, {"fromEndpoints": [app("client")]}))
    assert is_open(raw)
    assert not is_open(raw, peer=OUTSIDE)


@pytest.mark.parametrize(
    ("deny", "denied", "still_open"),
    [
        ({"fromCIDR": ["192.0.2.0/24"]}, {OUTSIDE}, {CLIENT.identity}),
        ({"fromNodes": [{}]}, {OUTSIDE, CLIENT.identity}, set()),
        ({"fromEntities": ["unmanaged"]}, {OUTSIDE, CLIENT.identity}, set()),
        (
            {"fromEndpoints": [{"matchLabels": {"pod-template-hash": "1"}}]},
            {OUTSIDE, CLIENT.identity},
            set(),
        ),
        (
            {
                "fromEndpoints": [app("client")],
                "toPorts": [{"ports": [port("1000", endPort=2000)]}],
            },
            {CLIENT.identity},
            {OUTSIDE, OTHER.identity},
        ),
    ],
)
def test_deny_rule_that_is_not_supported_denies_all_that_it_may_mean(
    deny: Json, denied: set[int], still_open: set[int]
) -> None:
    raw = cnp({"endpointSelector": app("server"), "ingressDeny": [deny]}, name="deny")
    assert errors(raw)
    assert not any(is_open(ALLOW_ALL, raw, peer=peer) for peer in denied)
    assert all(is_open(ALLOW_ALL, raw, peer=peer) for peer in still_open)


def test_subject_by_a_label_of_single_pods_closes_what_it_may_select() -> None:
    selector = {"matchLabels": {"app": "server", "statefulset.kubernetes.io/pod-name": "s-0"}}
    raw = cnp({"endpointSelector": selector, "ingress": [{"fromEntities": ["all"]}]})
    assert errors(raw)
    assert not is_open(raw)


def test_invalid_policy_that_was_not_decoded_from_text_is_closed_too() -> None:
    spec = PolicyRule(
        endpoint_selector=LabelSelector(match_labels={"app": "server"}),
        ingress=(IngressRule(from_entities=("all", "galaxy")),),
    )
    meta = ObjectMeta(name="p", namespace="shop")
    parsed = parse(CiliumNetworkPolicy(metadata=meta, spec=spec))
    policy = WORLD.policy_of(SERVER, [parsed])
    assert judge.l4(policy, IN, CLIENT.identity, 80, TCP)[0] is Verdict.DENY
    assert judge.l4(policy, OUT, CLIENT.identity, 80, TCP)[0] is Verdict.ALLOW


def test_object_that_is_no_policy_at_all_is_survived() -> None:
    meta = ObjectMeta(name="p", namespace="shop")
    raws: tuple[Json, ...] = ({}, {"spec": 7, "specs": {"a": 1}}, {"specs": [None, 7, []]})
    for raw in raws:
        broken = Broken(of_kind="CiliumNetworkPolicy", metadata=meta, raw=raw, problems=())
        assert parse(broken).rules == ()


def test_condition_tells_valid_invalid_and_not_supported() -> None:
    def condition(raw: Json) -> tuple[bool | None, str, str]:
        meta = ObjectMeta(name="p", namespace="shop", generation=3)
        broken = Broken(of_kind="CiliumNetworkPolicy", metadata=meta, raw=raw, problems=())
        good = CiliumNetworkPolicy(metadata=meta)
        parsed = read(raw)
        is_error = any("unknown field" in str(one) for one in parsed.problems)
        (one,) = conditions(broken if is_error else good, parsed.problems)
        assert (one.type, one.observed_generation) == ("Valid", 3)
        return one.status, one.reason, one.message

    assert condition(cnp(ingress({}))) == (True, "Accepted", "")
    assert condition(cnp(ingress({"toPorts": []})))[:2] == (True, "Accepted")
    assert condition(cnp(ingress({"fromCIDR": ["10.0.0.0/8"]})))[:2] == (False, "NotSupported")
    status, reason, message = condition(cnp(ingress({"rules": {}})))
    assert (status, reason) == (False, "Invalid")
    assert "spec.ingress[0].rules" in message


def test_what_is_closed_is_said() -> None:
    said = read(cnp(ingress({"bogus": 1}))).problems
    assert any(
        one.severity is Severity.WARNING and "ingress of what it selects is closed" in one.message
        for one in said
    )
