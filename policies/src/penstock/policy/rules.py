"""What a policy object says, one decision at a time; the input of `resolve`."""

from __future__ import annotations

import msgspec

from penstock.ir.policy import Direction, HttpRule, Reserved
from penstock.meta.names import Origin
from penstock.meta.problems import Problem
from penstock.policy.ports import PortMatch
from penstock.policy.selector import Selector

Peer = Selector | Reserved
"""Workloads by their labels, or one identity that is not computed."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One decision for the subjects of one policy; rules do not depend on their order."""

    subject: Selector
    direction: Direction
    deny: bool = False
    peers: tuple[Peer, ...] | None
    """None is anybody; empty is nobody, which leaves only `default_deny` to count."""
    ports: tuple[PortMatch, ...] | None = None
    """None is every port of every protocol, ICMP included."""
    http: tuple[HttpRule, ...] | None = None
    """Requests that are allowed, never empty; None is every request, and any protocol."""
    origin: Origin
    default_deny: bool
    """Whether what no rule allows is denied in this direction."""
    enforced_by: Origin
    """The policy, for `default_deny`."""


class ParsedPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one object and everything there is to say about it."""

    rules: tuple[Rule, ...]
    problems: tuple[Problem, ...]
    """Errors name what is not enforced as written; nothing is opened by it."""
