"""Policies against a brute-force oracle, and laws for all of them.

Source: reliability B-1 (nothing half understood opens) and B-2 (order, monotonicity).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.ir.policy import TCP, UDP, Direction, EndpointPolicy, Verdict
from penstock.policy import judge
from penstock.policy.judge import HttpRequest
from penstock.policy.resolve import endpoint_policy
from penstock.policy.rules import ParsedPolicy
from support.policies import Json, Pod, errors, read
from support.policy_oracle import Call, Peer, connection_allowed, request_allowed
from support.policy_strategies import CALLS, PODS, REQUESTS, SMALL_WORLD, policies, policy_sets

Allowed = frozenset[tuple[int, Call]]
Path = tuple[str | int, ...]

NUMBERS = {"TCP": TCP, "UDP": UDP}
LOUD = "NOTHING IN IT IS ENFORCED"
EXAMPLES = settings(max_examples=120, deadline=None)

WIDENING = frozenset(
    {
        *("ingress", "egress", "ingressDeny", "egressDeny", "enableDefaultDeny"),
        *("endpointSelector", "matchLabels", "matchExpressions", "app"),
        *("io.kubernetes.pod.namespace", "fromEndpoints", "toEndpoints"),
        *("fromEntities", "toEntities", "toPorts", "protocol", "rules", "http"),
        *("path", "method", "host", "headers", "headerMatches"),
    }
)
"""Fields whose absence means more than their presence, by the language itself."""


def resolve(parsed: list[ParsedPolicy], pod: Pod) -> EndpointPolicy:
    return SMALL_WORLD.policy_of(pod, parsed)


def calls() -> Iterator[Call]:
    for call in CALLS:
        yield call
        if call.protocol == "TCP":
            for request in REQUESTS:
                yield call._replace(**request)


ALL_CALLS = tuple(calls())


def ask(policy: EndpointPolicy, call: Call) -> bool:
    """Ask the model: can the connection be made, or the request on it?"""
    way = Direction.EGRESS if call.egress else Direction.INGRESS
    if call.path is None:
        verdict, _ = judge.l4(policy, way, call.peer.identity, call.port, NUMBERS[call.protocol])
        return verdict is not Verdict.DENY
    return judge.http(policy, way, call.peer.identity, call.port, as_request(call))[0]


def as_request(call: Call) -> HttpRequest:
    headers = {} if call.token is None else {"x-token": call.token}
    return HttpRequest(path=call.path or "", method=call.method, headers=headers)


def allowed(raws: list[Json]) -> Allowed:
    parsed = [read(raw) for raw in raws]
    found: set[tuple[int, Call]] = set()
    for pod in PODS:
        policy = resolve(parsed, pod)
        found |= {(pod.identity, _Key(*call)) for call in ALL_CALLS if ask(policy, call)}
    return frozenset(found)


class _Key(Call):
    """A call that can be put into a set: labels of the peer follow from its identity."""

    def __hash__(self) -> int:
        return hash((self.egress, self.peer.identity, self[2:]))


@EXAMPLES
@given(policy_sets())
def test_model_agrees_with_brute_force(raws: list[Json]) -> None:
    parsed = [read(raw) for raw in raws]
    assert not [one for raw in raws for one in errors(raw)]
    for pod in PODS:
        subject = Peer(pod.identity, pod.namespace, dict(pod.labels))
        policy = resolve(parsed, pod)
        for call in ALL_CALLS:
            expected = (connection_allowed if call.path is None else request_allowed)(
                raws, subject, call
            )
            assert ask(policy, call) is expected, (subject, call)


@EXAMPLES
@given(policy_sets(min_size=1))
def test_rules_of_a_port_alone_judge_as_kernel_and_rules_do(raws: list[Json]) -> None:
    parsed = [read(raw) for raw in raws]
    for pod in PODS:
        policy = resolve(parsed, pod)
        for call in ALL_CALLS:
            if call.path is None or (not call.egress and call.peer.identity == 1):
                continue
            way = Direction.EGRESS if call.egress else Direction.INGRESS
            rules = judge.http_port(policy, way, call.port)
            assert judge.by_rules(rules, call.peer.identity, as_request(call))[0] is ask(
                policy, call
            )


@EXAMPLES
@given(policy_sets(min_size=2), st.randoms(use_true_random=False))
def test_order_does_not_matter(raws: list[Json], random: Any) -> None:
    rules = [rule for raw in raws for rule in read(raw).rules]
    shuffled = list(rules)
    random.shuffle(shuffled)
    for pod in PODS:
        one = resolve([ParsedPolicy(rules=tuple(rules), problems=())], pod)
        other = resolve([ParsedPolicy(rules=tuple(shuffled), problems=())], pod)
        assert one == other


@EXAMPLES
@given(policy_sets(max_size=2), policies(name="extra"))
def test_adding_allow_rules_never_denies_and_deny_rules_never_allow(
    raws: list[Json], extra: Json
) -> None:
    before = [rule for raw in raws for rule in read(raw).rules]
    added = read(extra).rules
    for pod in PODS:
        mine = [rule for rule in before if rule.subject.matches(pod.identity_labels)]
        more = [rule for rule in added if rule.subject.matches(pod.identity_labels)]
        base = _policy(mine)
        enforced = {rule.direction for rule in mine if rule.default_deny}
        allows = [rule for rule in more if not rule.deny and rule.direction in enforced]
        denies = [rule for rule in more if rule.deny]
        with_allow, with_deny = _policy([*mine, *allows]), _policy([*mine, *denies])
        for call in ALL_CALLS:
            if ask(base, call):
                assert ask(with_allow, call)
            else:
                assert not ask(with_deny, call)


def _policy(rules: list[Any]) -> EndpointPolicy:
    return endpoint_policy(rules, SMALL_WORLD.identities_of)


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of everything below *value*."""
    pairs: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for step, one in pairs:
        yield (*path, step)
        yield from places(one, (*path, step))


def at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def below_spec(raw: Json) -> list[Path]:
    return [path for path in places(raw) if path[0] in ("spec", "specs") and len(path) > 1]


def assert_not_wider(before: list[Json], after: list[Json], changed: Json) -> None:
    grown = allowed(after) - allowed(before)
    if grown:
        assert any(LOUD in one for one in errors(changed)), sorted(map(str, grown))[:3]


@EXAMPLES
@given(policies(), policy_sets(max_size=1), st.data())
def test_deleting_a_field_never_opens(raw: Json, others: list[Json], data: st.DataObject) -> None:
    keys = [path for path in below_spec(raw) if isinstance(path[-1], str)]
    candidates = [
        path
        for path in keys
        if path[-1] not in WIDENING
        and not (path[-1] == "endPort" and any("Deny" in str(step) for step in path))
        and "enableDefaultDeny" not in path
    ]
    if not candidates:
        return
    path = data.draw(st.sampled_from(candidates))
    changed = copy.deepcopy(raw)
    del at(changed, path[:-1])[path[-1]]
    assert_not_wider([raw, *others], [changed, *others], changed)


@EXAMPLES
@given(policies(), policy_sets(max_size=1), st.data())
def test_corrupting_a_value_never_opens(raw: Json, others: list[Json], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(below_spec(raw)))
    junk: Any = data.draw(st.sampled_from([None, 1.5, {"bogus": {}}, [[]]]))
    changed = copy.deepcopy(raw)
    at(changed, path[:-1])[path[-1]] = junk
    assert errors(changed)
    assert_not_wider([raw, *others], [changed, *others], changed)


@EXAMPLES
@given(policies(), policy_sets(max_size=1), st.data())
def test_an_unknown_or_misspelt_field_never_opens(
    raw: Json, others: list[Json], data: st.DataObject
) -> None:
    mappings = [
        path
        for path in places(raw)
        if path[0] in ("spec", "specs")
        and isinstance(at(raw, path), dict)
        and path[-1] != "matchLabels"
    ]
    path = data.draw(st.sampled_from(mappings))
    changed = copy.deepcopy(raw)
    place = at(changed, path)
    if place and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(place)))
        place[name[:-1] + "X"] = place.pop(name)
    else:
        place["rulez"] = {"http": []}
    assert errors(changed)
    assert_not_wider([raw, *others], [changed, *others], changed)
