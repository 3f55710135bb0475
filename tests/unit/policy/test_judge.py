"""What policies mean: spec A.8, A.9, B, and the HTTP vectors of section M."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.ir.policy import OPEN, SCTP, TCP, UDP, Direction, EndpointPolicy, Verdict
from penstock.policy import judge
from penstock.policy.judge import HttpRequest
from support.policies import (
    CLIENT,
    FOREIGN,
    HOST,
    INGRESS,
    OTHER,
    OUTSIDE,
    Json,
    app,
    cnp,
    egress,
    http_item,
    http_port,
    ingress,
    port,
    server_policy,
)

IN, OUT = Direction.INGRESS, Direction.EGRESS
ALLOW, DENY, PROXY = Verdict.ALLOW, Verdict.DENY, Verdict.PROXY
EVERYBODY = (CLIENT.identity, OTHER.identity, FOREIGN.identity, OUTSIDE, INGRESS)


def verdict(
    policy: EndpointPolicy, peer: int, number: int = 80, protocol: int = TCP, way: Direction = IN
) -> Verdict:
    return judge.l4(policy, way, peer, number, protocol)[0]


def open_to(policy: EndpointPolicy, number: int = 80, way: Direction = IN) -> set[int]:
    return {peer for peer in EVERYBODY if verdict(policy, peer, number, way=way) is not DENY}


def passes(policy: EndpointPolicy, peer: int = CLIENT.identity, **request: Any) -> bool:
    return judge.http(policy, IN, peer, 80, HttpRequest(**request))[0]


def from_client(*items: Json) -> Json:
    return {"fromEndpoints": [app("client")], "toPorts": list(items)}


def test_no_policy_is_open() -> None:
    assert server_policy() == OPEN
    assert open_to(server_policy(cnp(ingress({}, of="client")))) == set(EVERYBODY)


@pytest.mark.parametrize(
    ("spec", "closed_in", "closed_out"),
    [
        (ingress({}), True, False),
        (egress({}), False, True),
        ({"endpointSelector": {}, "ingressDeny": [{"fromEntities": ["none"]}]}, True, False),
        ({"endpointSelector": {}, "egressDeny": [{"toEntities": ["none"]}]}, False, True),
        (ingress({}, enableDefaultDeny={"ingress": False}), False, False),
        (ingress({}, enableDefaultDeny={"egress": True}), True, True),
        (ingress({}, enableDefaultDeny={"egress": False}), True, False),
        (ingress({}, egress=[]), True, False),
        (ingress({"fromEndpoints": []}), True, False),
        (ingress({"toPorts": [{}]}), True, False),
        (ingress({"fromEntities": ["none"]}), True, False),
    ],
)
def test_default_deny(spec: Json, *, closed_in: bool, closed_out: bool) -> None:
    policy = server_policy(cnp(spec))
    assert open_to(policy) == (set() if closed_in else set(EVERYBODY))
    assert open_to(policy, way=OUT) == (set() if closed_out else set(EVERYBODY))


def test_enforcement_names_the_policy() -> None:
    policy = server_policy(cnp(ingress({})), cnp(specs=[ingress({})], name="q"))
    assert list(map(str, policy.ingress_enforced_by)) == [
        "CiliumNetworkPolicy shop/p spec",
        "CiliumNetworkPolicy shop/q specs[0]",
    ]
    assert judge.l4(policy, IN, OUTSIDE, 80, TCP) == (DENY, policy.ingress_enforced_by)


def test_one_policy_with_default_deny_is_enough() -> None:
    lax = cnp(ingress({"fromEntities": ["world"]}, enableDefaultDeny={"ingress": False}))
    strict = cnp(ingress(from_client({"ports": [port("80")]})), name="q")
    assert open_to(server_policy(lax)) == set(EVERYBODY)
    assert open_to(server_policy(lax, strict)) == {CLIENT.identity, OUTSIDE}


@pytest.mark.parametrize(
    ("rule", "peers"),
    [
        ({"fromEndpoints": [{}]}, {CLIENT.identity, OTHER.identity}),
        ({"fromEndpoints": [app("client"), app("other")]}, {CLIENT.identity, OTHER.identity}),
        ({"fromEndpoints": []}, set()),
        ({"fromEndpoints": [], "toPorts": [{"ports": [port("80")]}]}, set()),
        ({"fromEntities": []}, set()),
        ({"fromCIDR": [], "toPorts": [{"ports": [port("80")]}]}, set()),
        ({"toPorts": [{"ports": [port("80")]}]}, set(EVERYBODY)),
        ({"toPorts": []}, set()),
        ({"fromEntities": ["all"]}, set(EVERYBODY)),
        ({"fromEntities": ["world"]}, {OUTSIDE}),
        ({"fromEntities": ["ingress"]}, {INGRESS}),
        (
            {"fromEntities": ["cluster"]},
            {CLIENT.identity, OTHER.identity, FOREIGN.identity, INGRESS},
        ),
        (
            {"fromEntities": ["cluster-mesh"]},
            {CLIENT.identity, OTHER.identity, FOREIGN.identity, INGRESS},
        ),
        ({"fromEntities": ["none", "world"]}, {OUTSIDE}),
        ({"fromEndpoints": [{"matchLabels": {"reserved:ingress": ""}}]}, {INGRESS}),
        (
            {"fromEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "bank"}}]},
            {FOREIGN.identity},
        ),
    ],
)
def test_peers_of_a_rule(rule: Json, peers: set[int]) -> None:
    assert open_to(server_policy(cnp(ingress(rule)))) == peers


def test_peers_of_egress() -> None:
    policy = server_policy(cnp(egress({"toEndpoints": [app("client")]}, {"toEntities": ["host"]})))
    assert open_to(policy, way=OUT) == {CLIENT.identity}
    assert verdict(policy, HOST, way=OUT) is ALLOW
    assert open_to(policy) == set(EVERYBODY)


@pytest.mark.parametrize(
    ("ports", "allowed"),
    [
        ([port("80")], {(80, TCP)}),
        ([port("80", "UDP")], {(80, UDP)}),
        ([port("80", "ANY")], {(80, TCP), (80, UDP), (80, SCTP)}),
        ([{"port": "80"}], {(80, TCP), (80, UDP), (80, SCTP)}),
        ([port("0")], {(80, TCP), (81, TCP), (82, TCP)}),
        ([port("80", endPort=81)], {(80, TCP), (81, TCP)}),
        ([port("80", endPort=70)], {(80, TCP)}),
        ([port("WEB", endPort=99)], {(82, TCP)}),
        ([port("nowhere")], set()),
        ([port("80"), port("82", "UDP")], {(80, TCP), (82, UDP)}),
    ],
)
def test_ports_of_a_rule(ports: list[Json], allowed: set[tuple[int, int]]) -> None:
    policy = server_policy(cnp(ingress({"toPorts": [{"ports": ports}]})), web=82)
    every = [(number, protocol) for number in (80, 81, 82) for protocol in (TCP, UDP, SCTP)]
    assert {at for at in every if verdict(policy, CLIENT.identity, *at) is ALLOW} == allowed


def test_rule_without_ports_covers_every_protocol() -> None:
    policy = server_policy(cnp(ingress({"fromEndpoints": [app("client")]})))
    assert verdict(policy, CLIENT.identity, 0, 1) is ALLOW
    assert verdict(policy, OTHER.identity, 0, 1) is DENY


@pytest.mark.parametrize(
    "deny",
    [
        {"fromEndpoints": [app("client")]},
        {"fromEndpoints": [app("client")], "toPorts": [{"ports": [port("80")]}]},
        {"toPorts": [{"ports": [port("0", "ANY")]}]},
        {"fromEntities": ["all"]},
        {"fromEntities": ["cluster"]},
        {},
        {"toPorts": [{}]},
    ],
)
@pytest.mark.parametrize(
    "allow",
    [
        from_client({"ports": [port("80")]}),
        from_client(http_item("80", {})),
        {"fromEntities": ["all"]},
        {"toPorts": [{"ports": [port("80")]}]},
    ],
)
def test_deny_beats_allow_whatever_is_more_specific(deny: Json, allow: Json) -> None:
    raw = cnp({"endpointSelector": app("server"), "ingress": [allow], "ingressDeny": [deny]})
    policy = server_policy(raw)
    assert verdict(policy, CLIENT.identity) is DENY
    assert not passes(policy)
    assert not judge.by_rules(judge.http_port(policy, IN, 80), CLIENT.identity, HttpRequest())[0]


def test_deny_names_its_rule() -> None:
    raw = cnp(ingress({"fromEntities": ["all"]}, ingressDeny=[{"fromEndpoints": [app("client")]}]))
    found = judge.l4(server_policy(raw), IN, CLIENT.identity, 80, TCP)
    assert [str(origin) for origin in found[1]] == [
        "CiliumNetworkPolicy shop/p spec.ingressDeny[0]"
    ]


def test_deny_without_default_deny_leaves_the_rest_open() -> None:
    raw = cnp(
        {
            "endpointSelector": app("server"),
            "ingressDeny": [{"fromEndpoints": [app("client")]}],
            "enableDefaultDeny": {"ingress": False},
        }
    )
    assert open_to(server_policy(raw)) == set(EVERYBODY) - {CLIENT.identity}


def test_node_reaches_its_pods_whatever_the_policy() -> None:
    raw = cnp(ingress(http_port("80", {"path": "/a"}), ingressDeny=[{"fromEntities": ["host"]}]))
    policy = server_policy(raw)
    assert verdict(policy, HOST) is ALLOW
    assert passes(policy, HOST, path="/b")
    assert verdict(policy, HOST, way=OUT) is ALLOW


@pytest.mark.parametrize(
    ("rule", "request_", "expected"),
    [
        ({"method": "GET", "path": "/public"}, {"path": "/public"}, True),
        ({"method": "GET", "path": "/public"}, {"path": "/public?x=1"}, False),
        ({"method": "GET", "path": "/public"}, {"path": "/public/x"}, False),
        ({"method": "GET", "path": "/public"}, {"path": "/public", "method": "POST"}, False),
        ({"method": "GET", "path": "/public"}, {"path": "/public", "method": "get"}, False),
        ({"method": "GET", "path": "/public.*"}, {"path": "/publicity"}, True),
        ({"method": "GET", "path": "/public$"}, {"path": "/public"}, True),
        ({"method": "GET", "path": "/public$"}, {"path": "/public/"}, False),
        ({"path": "^/public$"}, {"path": "/public"}, True),
        ({"path": "/a|/b"}, {"path": "/b"}, True),
        ({"path": "/a|/b"}, {"path": "/bc"}, False),
        ({"path": "/.*"}, {"path": "/a\nb"}, False),
        ({"method": "GET|HEAD"}, {"method": "HEAD"}, True),
        ({"headers": ["X-Token: 42"]}, {"headers": {"x-token": "42"}}, True),
        ({"headers": ["X-Token 42"]}, {"headers": {"x-token": "42"}}, True),
        ({"headers": ["X-Token: 42"]}, {"headers": {"x-token": "43"}}, False),
        ({"headers": ["X-Token: 42"]}, {"headers": {"x-token": "42,42"}}, False),
        ({"headers": ["X-Token: 42"]}, {}, False),
        ({"headers": ["X-Token"]}, {"headers": {"x-token": ""}}, True),
        ({"headers": ["X-Token"]}, {}, False),
        ({"headers": ["X-Token:42"]}, {"headers": {"x-token": "42"}}, False),
        ({"headers": ["A", "B: 1"]}, {"headers": {"a": "x", "b": "1"}}, True),
        ({"headers": ["A", "B: 1"]}, {"headers": {"a": "x"}}, False),
        ({"headerMatches": [{"name": "X-T", "value": "1"}]}, {"headers": {"x-t": "1"}}, True),
        ({"headerMatches": [{"name": "X-T", "value": "1"}]}, {"headers": {"x-t": "2"}}, False),
        ({"headerMatches": [{"name": "X-T"}]}, {"headers": {"x-t": "2"}}, True),
        ({"headerMatches": [{"name": "X-T"}]}, {}, False),
        ({"host": r"api\.foo\.com"}, {"host": "api.foo.com"}, True),
        ({"host": r"api\.foo\.com"}, {"host": "api.foo.com:8080"}, False),
        ({"host": r"api\.foo\.com"}, {"host": "API.foo.com"}, False),
        ({}, {"method": "DELETE", "path": "/x"}, True),
        ({"method": "POST", "path": "/pkg.S/M"}, {"method": "POST", "path": "/pkg.S/M"}, True),
        ({"method": "POST", "path": "/pkg.S/M"}, {"method": "POST", "path": "/pkg.S/N"}, False),
    ],
)
def test_requests(rule: Json, request_: Json, *, expected: bool) -> None:
    policy = server_policy(cnp(ingress(http_port("80", rule))))
    assert verdict(policy, CLIENT.identity) is PROXY
    assert passes(policy, **request_) is expected


def test_rules_are_a_union() -> None:
    rules = ({"path": "/a"}, {"path": "/b", "method": "POST"})
    for raw in (
        [cnp(ingress(http_port("80", *rules)))],
        [cnp(ingress(*(http_port("80", rule) for rule in rules)))],
        [cnp(ingress(http_port("80", rule)), name=f"p{at}") for at, rule in enumerate(rules)],
    ):
        policy = server_policy(*raw)
        assert passes(policy, path="/a")
        assert passes(policy, path="/b", method="POST")
        assert not passes(policy, path="/b")


def test_same_peer_with_a_rule_without_http_may_do_anything() -> None:
    raw = cnp(
        ingress(from_client(http_item("80", {"path": "/a"})), from_client({"ports": [port("80")]}))
    )
    policy = server_policy(raw)
    assert verdict(policy, CLIENT.identity) is PROXY  # still seen, as Cilium does
    assert passes(policy, path="/b", method="DELETE")


def test_peer_with_http_rules_is_limited_and_the_other_is_not() -> None:
    raw = cnp(
        ingress(
            from_client(http_item("80", {"path": "/a"})),
            {"fromEndpoints": [app("other")], "toPorts": [{"ports": [port("80")]}]},
        )
    )
    policy = server_policy(raw)
    assert verdict(policy, CLIENT.identity) is PROXY
    assert verdict(policy, OTHER.identity) is ALLOW
    assert not passes(policy, CLIENT.identity, path="/b")
    assert passes(policy, OTHER.identity, path="/b")
    assert not passes(policy, FOREIGN.identity, path="/a")


def test_rule_without_ports_counts_on_ports_with_http() -> None:
    raw = cnp(ingress({"fromEndpoints": [app("other")]}, http_port("80", {"path": "/a"})))
    policy = server_policy(raw)
    assert passes(policy, OTHER.identity, path="/b")
    assert not passes(policy, CLIENT.identity, path="/b")
    assert passes(policy, CLIENT.identity, path="/a")


def test_wildcard_of_one_peer_does_not_leak_to_others() -> None:
    raw = cnp(
        ingress(
            from_client(http_item("80", {})),
            {"fromEndpoints": [app("other")], "toPorts": [http_item("80", {"path": "/a"})]},
        )
    )
    policy = server_policy(raw)
    assert passes(policy, CLIENT.identity, path="/b")
    assert not passes(policy, OTHER.identity, path="/b")


def test_http_without_default_deny_is_looked_at_and_never_refused() -> None:
    raw = cnp(ingress(http_port("80", {"path": "/a"}), enableDefaultDeny={"ingress": False}))
    policy = server_policy(raw)
    assert verdict(policy, CLIENT.identity) is PROXY
    assert passes(policy, path="/b")
    rules = judge.http_port(policy, IN, 80)
    assert all(judge.by_rules(rules, peer, HttpRequest(path="/b"))[0] for peer in EVERYBODY)


def test_http_without_default_deny_stays_open_beside_a_strict_policy() -> None:
    lax = cnp(
        ingress(from_client(http_item("80", {"path": "/a"})), enableDefaultDeny={"ingress": False})
    )
    strict = cnp(ingress(http_port("80", {"path": "/c"})), name="q")
    policy = server_policy(lax, strict)
    assert passes(policy, CLIENT.identity, path="/b")
    assert not passes(policy, OTHER.identity, path="/b")


def test_http_on_named_port_and_range() -> None:
    item = {"ports": [port("web"), port("90", endPort=91)], "rules": {"http": [{"path": "/a"}]}}
    policy = server_policy(cnp(ingress({"toPorts": [item]})), web=82)
    assert [one.port for one in policy.http] == [82, 90, 91]


def test_empty_http_is_an_allow_without_http() -> None:
    empty: tuple[Json, ...] = ({}, {"http": []})
    for rules in empty:
        item = {"ports": [port("80")], "rules": rules}
        policy = server_policy(cnp(ingress({"toPorts": [item]})))
        assert verdict(policy, CLIENT.identity) is ALLOW


def test_decision_on_a_request_names_the_rule() -> None:
    policy = server_policy(cnp(ingress(http_port("80", {"path": "/a"}, {"path": "/b"}))))
    place = "CiliumNetworkPolicy shop/p spec.ingress[0].toPorts[0]"
    allowed = judge.http(policy, IN, CLIENT.identity, 80, HttpRequest(path="/b"))
    refused = judge.http(policy, IN, CLIENT.identity, 80, HttpRequest(path="/c"))
    assert (allowed[0], list(map(str, allowed[1]))) == (True, [f"{place}.rules.http[1]"])
    assert (refused[0], list(map(str, refused[1]))) == (False, [place])


def test_egress_http_is_judged_like_ingress() -> None:
    rule = {"toEndpoints": [app("client")], "toPorts": [http_item("80", {"path": "/a"})]}
    policy = server_policy(cnp(egress(rule)))
    assert judge.http(policy, OUT, CLIENT.identity, 80, HttpRequest(path="/a"))[0]
    assert not judge.http(policy, OUT, CLIENT.identity, 80, HttpRequest(path="/b"))[0]
    assert verdict(policy, OTHER.identity, way=OUT) is DENY


def test_port_without_http_rules_has_a_judgement_of_requests_too() -> None:
    raw = cnp(ingress({"fromEntities": ["all"]}, ingressDeny=[{"fromEndpoints": [app("client")]}]))
    rules = judge.http_port(server_policy(raw), IN, 80)
    assert not judge.by_rules(rules, CLIENT.identity, HttpRequest())[0]
    assert judge.by_rules(rules, OTHER.identity, HttpRequest())[0]
    assert [one.peers for one in rules.allows if one.origin.path == "spec.ingress[0]"] == [None]
    assert judge.by_rules(judge.http_port(OPEN, IN, 80), OUTSIDE, HttpRequest())[0]
    closed = server_policy(cnp(ingress({})))
    assert not judge.by_rules(judge.http_port(closed, IN, 80), OUTSIDE, HttpRequest())[0]


def test_rule_for_several_identities_is_one_judgement_on_ports_without_http() -> None:
    rules = judge.http_port(server_policy(cnp(ingress({"fromEndpoints": [{}]}))), IN, 80)
    (one,) = (allow for allow in rules.allows if allow.origin.path == "spec.ingress[0]")
    assert one.peers is not None
    assert one.peers >= {CLIENT.identity, OTHER.identity}


@pytest.mark.parametrize("way", ["ingressDeny", "ingress"])
def test_reserved_labels_in_a_selector_mean_reserved_identities(way: str) -> None:
    rule = {"fromEndpoints": [{"matchLabels": {"reserved:world": ""}}]}
    spec = {"endpointSelector": {}, "enableDefaultDeny": {"ingress": way == "ingress"}, way: [rule]}
    found = open_to(server_policy(cnp(spec)))
    assert (OUTSIDE in found) is (way == "ingress")
    assert len(found) == (1 if way == "ingress" else len(EVERYBODY) - 1)
