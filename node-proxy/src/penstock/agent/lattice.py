"""The verdict on one connection, as the kernel's programs give it: a pure copy of their rules.

Source: the lookup order in bpf/include/penstock/abi.h and `Verdict` in node.proto: all entries
that match (peer or any, port or any, protocol or any) are combined, DENY beats PROXY beats ALLOW,
no entry is the direction's default, and an identity without a Policy is closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from penstock.ir.policy import ANY_PORT, ANY_PROTOCOL, Direction, Reserved, Verdict

ANY = int(Reserved.ANY)
RESTRICTIVE = {Verdict.ALLOW: 0, Verdict.PROXY: 1, Verdict.DENY: 2}
"""Rank of a verdict where several hold: the highest wins."""


class Match(msgspec.Struct, frozen=True, order=True):
    """What an entry is about; zeros are wildcards."""

    direction: Direction
    peer: int
    port: int
    protocol: int


class IdentityPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Verdicts for all workloads of one identity."""

    default_ingress: Verdict = Verdict.DENY
    default_egress: Verdict = Verdict.DENY
    entries: Mapping[Match, Verdict] = MappingProxyType({})

    def default(self, direction: Direction) -> Verdict:
        """Return the verdict where no entry matches."""
        return self.default_ingress if direction is Direction.INGRESS else self.default_egress

    def verdict(self, match: Match) -> Verdict:
        """Return the verdict on a connection, the identity's side being `match.direction`.

        Zeros ask about all connections at once: only entries that cover all of them count.
        """
        found = [
            verdict
            for peer in {match.peer, ANY}
            for port, protocol in {
                (match.port, match.protocol), (ANY_PORT, match.protocol), (ANY_PORT, ANY_PROTOCOL)
            }
            if (verdict := self.entries.get(Match(match.direction, peer, port, protocol)))
        ]  # fmt: skip
        return strictest(found) if found else self.default(match.direction)


CLOSED = IdentityPolicy()
"""What holds for an identity whose Policy is not known."""


def strictest(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict that wins."""
    return max(verdicts, key=RESTRICTIVE.__getitem__)


def meet(one: IdentityPolicy, two: IdentityPolicy) -> IdentityPolicy:
    """Return a policy that allows nothing that either of them does not allow.

    It stands between two policies while the identities of addresses change: whatever an address
    is known as in that moment, nothing passes that neither the old nor the new state lets pass.
    """
    ingress = strictest((one.default_ingress, two.default_ingress))
    egress = strictest((one.default_egress, two.default_egress))
    entries = {
        match: strictest((one.verdict(match), two.verdict(match)))
        for match in {**one.entries, **two.entries}
    }
    return IdentityPolicy(default_ingress=ingress, default_egress=egress, entries=entries)


def judge(policy: IdentityPolicy, match: Match) -> Verdict:
    """Return the verdict as the kernel gives it: the node itself may always reach its pods."""
    if match.direction is Direction.INGRESS and match.peer == Reserved.HOST:
        return Verdict.ALLOW
    return policy.verdict(match)
