"""Closing what a policy selects that is not understood.

Its subjects are put in default deny in the directions that it mentions, in both if that cannot be
read. Where it mentions a deny rule, the direction is denied altogether: other policies' allows
must not let pass what this one meant to deny. Source: spec A.1, L.1; reliability B-1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from penstock.core import jsonpath
from penstock.core.plan import plan_of
from penstock.ir.policy import Direction
from penstock.meta.names import ObjectRef, Origin
from penstock.meta.problems import Problem, Severity
from penstock.policy.resources import LabelExpression, LabelSelector, PolicyRule
from penstock.policy.rules import Rule
from penstock.policy.selector import Selector, check_expression, check_labels, subject_selector
from penstock.policy.support import is_known_label

_NAMES = {Direction.INGRESS: "ingress", Direction.EGRESS: "egress"}
_CLOSE = 0.8
_UNENFORCED = "NOTHING IN IT IS ENFORCED: whom it selects cannot be read"


def closed(raw: Mapping[str, Any], ref: ObjectRef) -> tuple[tuple[Rule, ...], tuple[Problem, ...]]:
    """Return rules that close what a policy selects, from its JSON values."""
    rules: list[Rule] = []
    problems: list[Problem] = []
    specs = list(_specs(raw))
    if not specs:
        problems.append(_unenforced("", "write endpointSelector and rules below spec"))
    for path, spec in specs:
        more, said = closed_rules(spec, path, ref)
        rules += more
        problems += said
    return tuple(rules), tuple(problems)


def closed_rules(spec: Any, path: str, ref: ObjectRef) -> tuple[list[Rule], list[Problem]]:
    """Return rules that close what `spec` or one of `specs` selects."""
    subject = _subject(spec, ref.namespace)
    if subject is None:
        return [], [_unenforced(path, "mend endpointSelector first")]
    origin = Origin(ref, path)
    rules = [
        Rule(
            subject=subject,
            direction=direction,
            deny=deny,
            peers=None if deny else (),
            origin=origin,
            default_deny=True,
            enforced_by=origin,
        )
        for direction, deny in _directions(spec)
    ]
    closing = " and ".join(_NAMES[rule.direction] for rule in rules)
    said = f"not enforced as written: {closing} of what it selects is closed"
    return rules, [Problem(path, said, "mend the errors", Severity.WARNING)]


def _unenforced(path: str, hint: str) -> Problem:
    return Problem(path, _UNENFORCED, hint)


def _specs(raw: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if raw.get("spec") is not None:
        yield "spec", raw["spec"]
    specs = raw.get("specs")
    if isinstance(specs, list | tuple):
        for index, spec in enumerate(specs):
            yield jsonpath.item("specs", index), spec
    elif specs is not None:
        yield "specs", specs


def _directions(spec: Mapping[str, Any]) -> Iterator[tuple[Direction, bool]]:
    """Yield the directions to close, each with whether deny rules are lost there.

    A member that is not known may be either direction, misspelt, and so may be what
    enableDefaultDeny holds.
    """
    unknown = [str(name) for name in spec if name not in plan_of(PolicyRule).allowed]
    lost_deny = any(_resembles_deny(name) for name in unknown)
    mentioned = [direction for direction, name in _NAMES.items() if _mentions(spec, name)]
    both = bool(unknown) or not mentioned or _unclear(spec.get("enableDefaultDeny", {}))
    for direction, name in _NAMES.items():
        if both or direction in mentioned:
            yield direction, lost_deny or f"{name}Deny" in spec or _requires(spec.get(name))


def _resembles_deny(name: str) -> bool:
    close = difflib.get_close_matches(name, ("ingressDeny", "egressDeny"), 1, _CLOSE)
    return "deny" in name.lower() or bool(close)


def _unclear(default: Any) -> bool:
    """Return whether it cannot be told which directions `enableDefaultDeny` is about."""
    return not isinstance(default, Mapping) or bool(default.keys() - set(_NAMES.values()))


def _mentions(spec: Mapping[str, Any], name: str) -> bool:
    default = spec.get("enableDefaultDeny")
    explicit = isinstance(default, Mapping) and default.get(name, False) is not False
    return name in spec or f"{name}Deny" in spec or explicit


def _requires(rules: Any) -> bool:
    """Return whether a constraint on other policies' rules is lost (fromRequires, toRequires)."""
    return isinstance(rules, list | tuple) and any(
        isinstance(rule, Mapping) and (rule.get("fromRequires") or rule.get("toRequires"))
        for rule in rules
    )


def _subject(spec: Any, namespace: str) -> Selector | None:
    """Return whom *spec* selects, or more; None if nothing about it can be read.

    Requirements all hold together, so leaving out one that cannot be read selects more.
    """
    raw = spec.get("endpointSelector") if isinstance(spec, Mapping) else None
    if not isinstance(raw, Mapping):
        return None
    labels, unread = _labels(raw.get("matchLabels"))
    expressions, more_unread = _expressions(raw.get("matchExpressions"))
    known = {"matchLabels", "matchExpressions"}
    if not (labels or expressions) and (unread or more_unread or raw.keys() - known):
        return None
    given = LabelSelector(match_labels=labels, match_expressions=tuple(expressions))
    return subject_selector(given, namespace)


def _labels(raw: Any) -> tuple[dict[str, str], bool]:
    """Return the readable matchLabels and whether some could not be read."""
    if raw is None:
        return {}, False
    if not isinstance(raw, Mapping):
        return {}, True
    good = {
        key: value
        for key, value in raw.items()
        if isinstance(key, str) and isinstance(value, str) and _is_readable(key, value)
    }
    return good, len(good) < len(raw)


def _expressions(raw: Any) -> tuple[list[LabelExpression], bool]:
    """Return the readable matchExpressions and whether some could not be read."""
    if raw is None:
        return [], False
    if not isinstance(raw, list | tuple):
        return [], True
    good = [one for one in map(_expression, raw) if one is not None]
    return good, len(good) < len(raw)


def _expression(raw: Any) -> LabelExpression | None:
    try:
        expression = msgspec.convert(raw, LabelExpression, strict=True)
    except msgspec.ValidationError:
        return None
    usable = is_known_label(expression.key) and not any(check_expression(expression))
    return expression if usable else None


def _is_readable(key: str, value: str) -> bool:
    return is_known_label(key) and not any(check_labels({key: value}))
