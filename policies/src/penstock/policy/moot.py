"""HTTP rules that have no effect, because the same peers may send anything anyway.

Source: spec A.9, merging: one L7 and one without gives all of L7.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from penstock.meta.problems import Problem, Severity
from penstock.policy.rules import Rule


def moot(rules: Sequence[Rule]) -> Iterator[Problem]:
    """Yield a warning for each rule with `rules.http` that another rule makes pointless.

    Peers are compared as they are written: a warning is right, its absence proves nothing.
    """
    plain = [rule for rule in rules if rule.http is None and not rule.deny]
    for rule in rules:
        if rule.http is None or rule.peers == ():
            continue
        wider = next((other for other in plain if _covers(other, rule)), None)
        if wider is not None:
            yield Problem(
                rule.origin.at("rules.http").path,
                f"has no effect: {wider.origin.path} allows the same peers every request",
                "remove the wider rule or give it other peers or ports",
                Severity.WARNING,
            )


def _covers(plain: Rule, http: Rule) -> bool:
    if (plain.subject, plain.direction) != (http.subject, http.direction):
        return False
    if plain.peers is not None:
        if http.peers is None or not set(http.peers) <= set(plain.peers):
            return False
        if not plain.peers:
            return False
    return plain.ports is None or any(
        (port.number, port.protocol, port.name) == (at.number, at.protocol, at.name)
        or (port.number == 0 and not port.name and port.protocol == at.protocol)
        for port in plain.ports
        for at in http.ports or ()
    )
