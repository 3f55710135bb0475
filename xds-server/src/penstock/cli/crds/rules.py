"""Rules in CEL of CustomResourceDefinitions (x-kubernetes-validations).

Source: Kubernetes, "Validation rules". The expressions are compiled by the C++ runtime of CEL; what
Kubernetes adds to it and rules of Gateway API use is added here. A rule that does not compile is
told, never passed over.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from cel_expr_python import cel  # type: ignore[import-untyped]
from cel_expr_python.ext import ext_strings  # type: ignore[import-untyped]

from penstock.cli.crds.schema import Schema, member_schema
from penstock.core import jsonpath
from penstock.meta.problems import Problem, Severity

_BEFORE = "oldSelf"
_DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_SUBDOMAIN = rf"{_DNS_LABEL}(\.{_DNS_LABEL})*"
_FORMATS = {
    "dns1123Label": re.compile(rf"(?=.{{1,63}}\Z){_DNS_LABEL}\Z"),
    "dns1123Subdomain": re.compile(rf"(?=.{{1,253}}\Z){_DNS_SUBDOMAIN}\Z"),
    "qualifiedName": re.compile(
        rf"((?=[^/]{{1,253}}/){_DNS_SUBDOMAIN}/)?"
        r"(?=[^/]{1,63}\Z)([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z"
    ),
}


class Broken(msgspec.Struct, frozen=True):
    """A rule that cannot be compiled."""

    reason: str


def rule_problems(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    """Yield the rules that *value*, which is at *path* and has its defaults, does not keep."""
    for rule in schema.get("x-kubernetes-validations") or ():
        yield from _judged(value, rule, path)
    if isinstance(value, dict):
        for name, one in value.items():
            yield from rule_problems(one, member_schema(schema, name), jsonpath.member(path, name))
    elif isinstance(value, list):
        items = schema.get("items") or {}
        for index, one in enumerate(value):
            yield from rule_problems(one, items, jsonpath.item(path, index))


def _judged(value: Any, rule: dict[str, Any], path: str) -> Iterator[Problem]:
    text = str(rule.get("rule", ""))
    if re.search(rf"\b{_BEFORE}\b", text):
        return  # a rule for changes, and nothing has changed
    compiled = _compiled(text)
    if isinstance(compiled, Broken):
        yield Problem(path, f"not checked: rule {text!r}: {compiled.reason}", "", Severity.WARNING)
        return
    found = compiled.eval(data={"self": value})
    if found.type() == cel.Type.BOOL and found.plain_value() is True:
        return
    place = jsonpath.join(path, str(rule.get("fieldPath", "")).removeprefix("."))
    if found.type() == cel.Type.BOOL:
        yield Problem(place, str(rule.get("message") or f"rule not kept: {text}").strip())
    else:
        yield Problem(place, f"rule {text!r} cannot be evaluated: {found.value()}")


@functools.cache
def _compiled(text: str) -> cel.Expression | Broken:
    try:
        return _environment().compile(text)
    except (RuntimeError, ValueError) as error:
        return Broken(str(error).splitlines()[0])


@functools.cache
def _environment() -> cel.Env:
    return cel.NewEnv(
        variables={"self": cel.Type.DYN},
        extensions=[ext_strings.ExtStrings()],
        functions=[*map(_format, _FORMATS), _VALIDATE, _HAS_VALUE, _IS_IP],
    )


def _format(name: str) -> cel.FunctionDecl:
    overload = cel.Overload(
        f"format_{name}",
        return_type=cel.Type.STRING,
        parameters=[],
        is_member=False,
        impl=lambda: name,
    )
    return cel.FunctionDecl(f"format.{name}", [overload])


def _faults(name: str, text: str) -> list[str]:
    return [] if _FORMATS[name].match(text) else [f"{text!r} is no {name}"]


_FAULTS = cel.Type.List(cel.Type.STRING)
_VALIDATE = cel.FunctionDecl(
    "validate",
    [
        cel.Overload(
            "format_validate",
            return_type=_FAULTS,
            parameters=[cel.Type.STRING, cel.Type.STRING],
            is_member=True,
            impl=_faults,
        )
    ],
)
_HAS_VALUE = cel.FunctionDecl(
    "hasValue",
    [
        cel.Overload(
            "faults_has_value",
            return_type=cel.Type.BOOL,
            parameters=[_FAULTS],
            is_member=True,
            impl=bool,
        )
    ],
)


def _is_ip(text: str) -> bool:
    """Tell whether *text* is an address: with a zone, or mapped into IPv6, it is none there."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text and getattr(found, "ipv4_mapped", None) is None


_IS_IP = cel.FunctionDecl(
    "isIP",
    [
        cel.Overload(
            "is_ip_string",
            return_type=cel.Type.BOOL,
            parameters=[cel.Type.STRING],
            is_member=False,
            impl=_is_ip,
        )
    ],
)
