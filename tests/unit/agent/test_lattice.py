from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.agent.lattice import CLOSED, RESTRICTIVE, IdentityPolicy, Match, judge, meet
from penstock.ir.policy import Direction, Reserved, Verdict

IN, OUT = Direction.INGRESS, Direction.EGRESS
matches = st.builds(
    Match,
    st.sampled_from(Direction),
    st.sampled_from([0, 100, 200]),
    st.sampled_from([0, 80, 443]),
    st.sampled_from([0, 6, 17]),
)
defaults = st.sampled_from([Verdict.ALLOW, Verdict.DENY])
policies = st.builds(
    IdentityPolicy,
    default_ingress=defaults,
    default_egress=defaults,
    entries=st.dictionaries(matches, st.sampled_from(Verdict), max_size=6),
)
connections = st.builds(
    Match,
    st.sampled_from(Direction),
    st.sampled_from([100, 200, 300]),
    st.sampled_from([80, 443, 1]),
    st.sampled_from([6, 17]),
)


def ingress(**verdicts: Verdict) -> IdentityPolicy:
    return IdentityPolicy(
        entries={Match(IN, 100, int(port[1:]), 6): verdict for port, verdict in verdicts.items()}
    )


def test_an_identity_without_policy_is_closed() -> None:
    assert judge(CLOSED, Match(IN, 100, 80, 6)) is Verdict.DENY
    assert judge(CLOSED, Match(OUT, 100, 80, 6)) is Verdict.DENY


def test_deny_beats_proxy_beats_allow() -> None:
    policy = IdentityPolicy(
        entries={
            Match(IN, 100, 80, 6): Verdict.ALLOW,
            Match(IN, 0, 80, 6): Verdict.PROXY,
            Match(IN, 100, 0, 0): Verdict.DENY,
        }
    )
    assert judge(policy, Match(IN, 100, 80, 6)) is Verdict.DENY
    assert judge(policy, Match(IN, 200, 80, 6)) is Verdict.PROXY


def test_the_default_holds_where_no_entry_matches() -> None:
    assert judge(ingress(p80=Verdict.ALLOW), Match(IN, 100, 81, 6)) is Verdict.DENY
    assert judge(IdentityPolicy(default_egress=Verdict.ALLOW), Match(OUT, 1, 1, 6)) is Verdict.ALLOW


def test_the_node_always_reaches_its_pods_and_not_the_other_way_round() -> None:
    assert judge(CLOSED, Match(IN, int(Reserved.HOST), 80, 6)) is Verdict.ALLOW
    assert judge(CLOSED, Match(OUT, int(Reserved.HOST), 80, 6)) is Verdict.DENY


@given(policies, policies, connections)
def test_between_two_policies_nothing_passes_that_one_of_them_refuses(
    one: IdentityPolicy, two: IdentityPolicy, connection: Match
) -> None:
    both = max(RESTRICTIVE[one.verdict(connection)], RESTRICTIVE[two.verdict(connection)])
    assert RESTRICTIVE[meet(one, two).verdict(connection)] >= both


@given(policies, connections)
def test_between_equal_policies_nothing_changes(policy: IdentityPolicy, connection: Match) -> None:
    assert meet(policy, policy).verdict(connection) is policy.verdict(connection)
