"""What is wrong with an Ingress by itself: annotations that are not served, paths, certificates."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.core import jsonpath
from penstock.ingress import passthrough
from penstock.ingress.annotations import options
from penstock.ingress.derive import needs_two_ports
from penstock.ingress.resources import Ingress
from penstock.ingress.rules import path_fault, rewrite_fault
from penstock.meta.problems import Problem, Severity

_ANSWERS_500 = "the path answers 500; the other paths are served"


def problems(ingress: Ingress) -> Iterator[Problem]:
    """Yield what is wrong with an Ingress of ours."""
    asked = options(ingress)
    yield from asked.problems
    if asked.exposing.host_port and needs_two_ports(ingress, asked):
        text = "TLS and plain requests do not share a port here"
        hint = "it is without effect: the ports are 80 and 443; a Gateway can have any two"
        path = jsonpath.member("metadata.annotations", asked.exposing.host_port_by)
        yield Problem(path, text, hint, Severity.WARNING)
    if asked.passthrough:
        yield from passthrough.problems(ingress)
        return
    for index, rule in enumerate(ingress.spec.rules):
        for number, one in enumerate(rule.http.paths if rule.http is not None else ()):
            place = f"spec.rules[{index}].http.paths[{number}].path"
            fault = path_fault(asked, one)
            if fault:
                yield Problem(place, fault, _ANSWERS_500)
            elif text := rewrite_fault(asked, one):
                hint = "write the path as /shop(/|$)(.*) and the target as /$2; it answers 500"
                yield Problem(place, f"rewrite-target {text}", hint)
    for index, tls in enumerate(ingress.spec.tls):
        if not tls.secret_name:
            text = "there is no certificate of ours for these hosts"
            yield Problem(f"spec.tls[{index}]", text, "name a Secret", Severity.WARNING)
