"""Changes of a policy: what they write, and that no reader ever finds an opening."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.bpf.model import PolicyEntry
from penstock.bpf.policy_table import (
    Change,
    Defaults,
    EntryKey,
    apply_phases,
    flatten,
    plan,
)
from penstock.ir.policy import SCTP, TCP, UDP, Direction, Verdict

IN = Direction.INGRESS
ALLOW, DENY, PROXY = Verdict.ALLOW, Verdict.DENY, Verdict.PROXY
OPENNESS = (DENY, PROXY, ALLOW)

# The six keys that `policy_seen_for` reads for peer 7, port 80, TCP.
READ = tuple(
    EntryKey(IN, peer, port, protocol)
    for peer in (7, 0)
    for port, protocol in ((80, TCP), (0, TCP), (0, 0))
)

Entries = dict[EntryKey, Verdict]
State = tuple[Entries, Defaults, int]


class Recorder:
    """Keeps the kernel's state after every single write."""

    def __init__(self, entries: Entries, defaults: Defaults) -> None:
        self.states: list[State] = [(dict(entries), defaults, 0)]

    def write(self, change: Change) -> None:
        entries, defaults, revision = self.states[-1]
        entries = dict(entries)
        if change.verdict is None:
            del entries[change.key]
        else:
            entries[change.key] = change.verdict
        self.states.append((entries, defaults, revision))

    def revise(self, defaults: Defaults | None) -> None:
        entries, known, revision = self.states[-1]
        self.states.append((entries, defaults or known, revision + 1))


def conclude(seen: set[Verdict], fallback: Verdict) -> Verdict:
    """As `policy_conclude` in progs/policy.h."""
    return next((verdict for verdict in (DENY, PROXY, ALLOW) if verdict in seen), fallback)


def verdict(entries: Entries, defaults: Defaults) -> Verdict:
    return conclude({entries[key] for key in READ if key in entries}, defaults.ingress)


def changed(old: Entries, new: Entries, defaults: tuple[Defaults, Defaults]) -> list[State]:
    recorder = Recorder(old, defaults[0])
    wanted = defaults[1] if defaults[0] != defaults[1] else None
    apply_phases(plan(old, new, wanted), recorder)
    return recorder.states


entries_of = st.dictionaries(st.sampled_from(READ), st.sampled_from(OPENNESS))
defaults_of = st.sampled_from([Defaults(ALLOW, ALLOW), Defaults(DENY, DENY)])


@settings(max_examples=400, deadline=None)
@given(old=entries_of, new=entries_of, before=defaults_of, after=defaults_of, data=st.data())
def test_no_reader_finds_more_than_the_old_or_the_new_policy_allows(
    old: Entries, new: Entries, before: Defaults, after: Defaults, data: st.DataObject
) -> None:
    states = changed(old, new, (before, after))
    assert states[-1][:2] == (new, after)
    limit = max(verdict(old, before), verdict(new, after), key=OPENNESS.index)
    moments = st.lists(
        st.integers(0, len(states) - 1), min_size=len(READ) + 2, max_size=len(READ) + 2
    )
    times = sorted(data.draw(moments))
    first, last = states[times[0]], states[times[-1]]
    if first[2] != last[2]:
        return  # the reader sees another revision and reads again
    seen = {
        states[at][0][key]
        for at, key in zip(times[1:-1], READ, strict=True)
        if key in states[at][0]
    }
    found = conclude(seen, first[1].ingress)
    assert OPENNESS.index(found) <= OPENNESS.index(limit)


@given(old=entries_of, new=entries_of)
def test_change_writes_only_what_differs(old: Entries, new: Entries) -> None:
    written = [change for phase in plan(old, new, None) for change in phase.changes]
    assert len(written) == len({change.key for change in written})
    different = {key for key in {*old, *new} if old.get(key) != new.get(key)}
    assert {change.key for change in written} == different


def test_equal_policy_writes_nothing() -> None:
    entries = {READ[0]: ALLOW, READ[1]: DENY}
    assert plan(entries, dict(entries), None) == ()


def test_deny_comes_first_and_goes_last() -> None:
    old, new = {READ[0]: DENY, READ[1]: ALLOW, READ[2]: PROXY}, {READ[3]: DENY, READ[4]: ALLOW}
    order = [change for phase in plan(old, new, None) for change in phase.changes]
    assert order == [
        Change(READ[3], DENY),
        Change(READ[4], ALLOW),
        Change(READ[1], None),
        Change(READ[2], None),
        Change(READ[0], None),
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_strictest_of_two_verdicts_for_one_key_holds(order: int) -> None:
    entries = [PolicyEntry(IN, 7, 80, TCP, v) for v in (ALLOW, DENY, PROXY)][::order]
    assert flatten(entries) == {EntryKey(IN, 7, 80, TCP): DENY}


def test_port_of_any_protocol_becomes_one_entry_for_each() -> None:
    assert flatten([PolicyEntry(IN, 7, 80, 0, ALLOW), PolicyEntry(IN, 7, 80, TCP, DENY)]) == {
        EntryKey(IN, 7, 80, TCP): DENY,
        EntryKey(IN, 7, 80, UDP): ALLOW,
        EntryKey(IN, 7, 80, SCTP): ALLOW,
    }
    assert flatten([PolicyEntry(IN, 7, 0, 0, ALLOW)]) == {EntryKey(IN, 7, 0, 0): ALLOW}
