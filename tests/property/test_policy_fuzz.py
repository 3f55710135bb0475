"""Reading policies never fails, whatever they hold."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.objects import Broken, ObjectMeta
from penstock.ir.regex import full_match, regex_fault
from penstock.policy.parse import parse
from support.policies import Json, read

WORDS = [
    *("spec", "specs", "endpointSelector", "matchLabels", "matchExpressions", "key", "operator"),
    *("values", "ingress", "egress", "ingressDeny", "egressDeny", "enableDefaultDeny", "ports"),
    *("fromEndpoints", "fromEntities", "fromRequires", "toPorts", "rules", "http", "path", "port"),
    *("toFQDNs", "matchName", "icmps", "fields", "type", "headers", "endPort", "protocol", "cidr"),
    *("fromCIDRSet", "except", "kafka", "dns", "serverNames", "listener", "authentication"),
]
TEXTS = st.sampled_from(
    [
        *("", "In", "Exists", "80", "0", "99999", "٣", "TCP", "GRE", "all", "10.0.0.0/8", "::/0"),
        *("a.b", "a" * 300, "aaaa..", "(", "\ud800", "X-T: 1", "X\r\n", "k8s:", "reserved:host"),
    ]
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-1, 70000), TEXTS)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(WORDS) | TEXTS, inner, max_size=4),
    ),
    max_leaves=25,
)
SPECS = st.dictionaries(st.sampled_from(WORDS), JSON, max_size=5)
META = ObjectMeta(name="p", namespace="shop")


@settings(max_examples=300, deadline=None)
@given(st.one_of(SPECS, JSON))
def test_any_json_is_read_as_a_policy(spec: Any) -> None:
    raw: Json = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": spec,
    }
    parsed = read(raw)
    assert hash(parsed) == hash(read(raw))
    assert parsed.rules or parsed.problems


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(WORDS), JSON, max_size=4))
def test_any_json_of_a_broken_policy_is_survived(raw: Json) -> None:
    broken = Broken(of_kind="CiliumNetworkPolicy", metadata=META, raw=raw, problems=())
    for rule in parse(broken).rules:
        assert rule.default_deny
        assert rule.deny or rule.peers == ()
        assert rule.subject.namespaces is not None
        assert rule.subject.namespaces <= {"shop"}


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_judged_as_a_pattern(pattern: str) -> None:
    reason = regex_fault(pattern)
    assert isinstance(full_match(pattern, "/a"), bool)
    if reason.startswith("is not a regular expression"):
        assert not full_match(pattern, "/a")
