"""L3/L4 policy in the kernel: the smallest change, in an order that never opens in between.

A program reads up to six entries and a default, one after the other, while they are being
changed. Two things keep a connection from getting through that neither the old nor the new policy
allows:

1. Changes go in phases: DENY comes, then PROXY, then ALLOW and the defaults; then the old ALLOW
   goes, the old PROXY, and the old DENY last. After each phase every connection has its old or its
   new verdict, or a stricter one.
2. Between two phases the revision in the defaults changes, and a reader that finds another
   revision at its end than at its beginning reads again (`policy_judge` in `progs/policy.h`). So
   nobody combines entries of before and after.

A test runs readers through every interleaving of a change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from penstock.bpf.abi import Index, PolicyDefault, PolicyKey, PolicyVerdict
from penstock.bpf.errors import DatapathError
from penstock.bpf.maps import BpfMap
from penstock.bpf.model import PolicyEntries, PolicyEntry
from penstock.ir.policy import ANY_PORT, ANY_PROTOCOL, SCTP, TCP, UDP, Direction, Verdict


class EntryKey(NamedTuple):
    """An entry of one identity without its verdict."""

    direction: Direction
    peer: int
    port: int
    protocol: int


class Defaults(NamedTuple):
    """Verdicts where no entry matches."""

    ingress: Verdict
    egress: Verdict


class Change(NamedTuple):
    """One write; a verdict of None removes the entry."""

    key: EntryKey
    verdict: Verdict | None


class Phase(NamedTuple):
    """Writes that may be seen in any order; `defaults` are written after them if not None."""

    changes: tuple[Change, ...]
    defaults: Defaults | None = None


Entries = Mapping[EntryKey, Verdict]

_STRICTEST_FIRST = (Verdict.DENY, Verdict.PROXY, Verdict.ALLOW)


def flatten(entries: Iterable[PolicyEntry]) -> dict[EntryKey, Verdict]:
    """Return one verdict for each key; of several the strictest holds."""
    verdicts: dict[EntryKey, Verdict] = {}
    for entry in entries:
        every = entry.port != ANY_PORT and entry.protocol == ANY_PROTOCOL
        for protocol in (TCP, UDP, SCTP) if every else (entry.protocol,):
            key = EntryKey(entry.direction, entry.peer, entry.port, protocol)
            known = verdicts.get(key, Verdict.ALLOW)
            verdicts[key] = min(known, entry.verdict, key=_STRICTEST_FIRST.index)
    return verdicts


def plan(old: Entries, new: Entries, defaults: Defaults | None) -> tuple[Phase, ...]:
    """Return the phases that lead from *old* to *new*, without empty ones.

    Args:
        old: what the kernel holds.
        new: what it shall hold.
        defaults: the new ones, None if they do not change.
    """
    phases: list[Phase] = []
    for verdict in _STRICTEST_FIRST:
        coming = tuple(
            Change(key, verdict)
            for key, wanted in sorted(new.items())
            if wanted is verdict and old.get(key) is not verdict
        )
        phases.append(Phase(coming, defaults if verdict is Verdict.ALLOW else None))
    for verdict in reversed(_STRICTEST_FIRST):
        going = (key for key, had in sorted(old.items()) if had is verdict and key not in new)
        phases.append(Phase(tuple(Change(key, None) for key in going)))
    return tuple(phase for phase in phases if phase.changes or phase.defaults)


class KernelPolicy(Protocol):
    """Where one identity's policy is written; the kernel, or a test's record of the writes."""

    def write(self, change: Change) -> None:
        """Apply one change."""
        ...

    def revise(self, defaults: Defaults | None) -> None:
        """Start a new revision, with other defaults unless None."""
        ...


def apply_phases(phases: tuple[Phase, ...], kernel: KernelPolicy) -> None:
    """Write *phases*, with a new revision between each and the next."""
    for number, phase in enumerate(phases, 1):
        for change in phase.changes:
            kernel.write(change)
        if phase.defaults is not None or number < len(phases):
            kernel.revise(phase.defaults)


class _Identity:
    """The policy of one identity, in the maps and remembered here."""

    def __init__(self, table: PolicyTable, number: int) -> None:
        self._table, self._number = table, number

    def write(self, change: Change) -> None:
        direction, peer, port, protocol = change.key
        key = PolicyKey(
            identity=self._number, peer=peer, port=port, protocol=protocol, direction=direction
        )
        known = self._table.entries[self._number]
        if change.verdict is None:
            self._table.entry_map.delete(key)
            known.pop(change.key, None)
        else:
            self._table.entry_map.put(key, PolicyVerdict(verdict=change.verdict))
            known[change.key] = change.verdict

    def revise(self, defaults: Defaults | None) -> None:
        known = self._table.defaults.get(self._number)
        wanted = defaults or known
        if wanted is None:
            return  # no defaults yet: the identity is closed, whatever its entries are
        self._table.revision = (self._table.revision + 1) & 0xFFFFFFFF
        value = PolicyDefault(
            revision=self._table.revision, ingress=wanted.ingress, egress=wanted.egress
        )
        self._table.default_map.put(Index(value=self._number), value)
        self._table.defaults[self._number] = wanted


class PolicyTable:
    """All policies of a node; the only writer of the two maps."""

    def __init__(
        self,
        default_map: BpfMap[Index, PolicyDefault],
        entry_map: BpfMap[PolicyKey, PolicyVerdict],
    ) -> None:
        """Read what the maps hold, perhaps left by a predecessor."""
        self.default_map, self.entry_map = default_map, entry_map
        self.defaults: dict[int, Defaults] = {}
        self.entries: defaultdict[int, dict[EntryKey, Verdict]] = defaultdict(dict)
        self.revision = 0
        for number, value in default_map.items():
            self.defaults[number.value] = Defaults(Verdict(value.ingress), Verdict(value.egress))
            self.revision = max(self.revision, value.revision)
        for key, entry in entry_map.items():
            direction = Direction(key.direction)
            flow = EntryKey(direction, key.peer, key.port, key.protocol)
            self.entries[key.identity][flow] = Verdict(entry.verdict)

    def identities(self) -> Iterator[int]:
        """Yield the identities that have a policy."""
        yield from tuple(self.defaults)

    def set(self, identity: int, policy: PolicyEntries) -> bool:
        """Make *policy* hold for *identity*; return whether anything had to change.

        Raises:
            DatapathError: a default is PROXY, or a map is full; what was written stays strict.
        """
        wanted = Defaults(policy.default_ingress, policy.default_egress)
        if Verdict.PROXY in wanted:
            raise DatapathError(f"policy of identity {identity}: a default is ALLOW or DENY")
        changed = None if self.defaults.get(identity) == wanted else wanted
        phases = plan(self.entries[identity], flatten(policy.entries), changed)
        apply_phases(phases, _Identity(self, identity))
        return bool(phases)

    def remove(self, identity: int) -> None:
        """Close *identity* and forget its entries."""
        self.default_map.delete(Index(value=identity))
        self.defaults.pop(identity, None)
        writer = _Identity(self, identity)
        for key in tuple(self.entries[identity]):
            writer.write(Change(key, None))
        del self.entries[identity]
