"""TLS that an Ingress passes on as it is: one TLSRoute for each of its hosts.

Only the server name of the handshake is seen, so a host has one backend, that of the path "/". What
can be said about requests only is told to be without effect; what keeps clients out closes.

Source: `ingress.cilium.io/tls-passthrough`, ingress-nginx `ssl-passthrough`.
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.gatewayapi.fields import ParentReference, WeightedBackendReference
from penstock.gatewayapi.stream_resources import StreamRule, TLSRoute, TLSRouteSpec
from penstock.ingress.resources import HTTPIngressPath, Ingress, IngressRule
from penstock.ingress.rules import Place, backend_ref, metadata_of
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Problem, Severity


class IngressStream(TLSRoute, frozen=True, kw_only=True):
    """Where TLS for one host of an Ingress goes."""

    ingress: ObjectRef
    places: tuple[str, ...]
    """Of its only rule the path in the Ingress, as "spec.rules[0].http.paths[1]"."""


def streams(at: Place, port: int) -> Iterator[IngressStream]:
    """Yield the routes of an Ingress that passes TLS on; without a backend one refuses all."""
    for index, rule in enumerate(at.ingress.spec.rules):
        if not rule.host:
            continue
        place, path = _root(rule, index)
        served = path is not None and not at.asked.closed
        backends = (_backend(at, path),) if path is not None and served else ()
        yield IngressStream(
            metadata=metadata_of(at.ingress, str(index)),
            spec=TLSRouteSpec(
                parent_refs=(ParentReference(name="entry", port=port),),
                hostnames=(rule.host,),
                rules=(StreamRule(backend_refs=backends),),
            ),
            ingress=at.ingress.ref,
            places=(place,),
        )


def passed_hosts(ingress: Ingress) -> tuple[str, ...]:
    """Return the hosts of an Ingress that passes TLS on, each once."""
    return tuple(dict.fromkeys(rule.host for rule in ingress.spec.rules if rule.host))


def problems(ingress: Ingress) -> Iterator[Problem]:
    """Yield what of an Ingress has no effect because it passes TLS on."""
    if ingress.spec.default_backend is not None:
        yield _told("spec.defaultBackend", "TLS is passed on by its server name only")
    if ingress.spec.tls:
        yield _told("spec.tls", "TLS is passed on and not ended here")
    for index, rule in enumerate(ingress.spec.rules):
        if not rule.host:
            yield Problem(f"spec.rules[{index}].host", "TLS is passed on by host", "name the host")
            continue
        place, path = _root(rule, index)
        if path is None:
            text = "TLS is passed on to the backend of the path / only"
            yield Problem(place, text, "connections are refused; add the path /")
        for number, one in enumerate(rule.http.paths if rule.http is not None else ()):
            if one is not path and path is not None:
                other = f"spec.rules[{index}].http.paths[{number}]"
                yield _told(other, f"all of the host goes to the backend of {place}")


def _told(path: str, text: str) -> Problem:
    return Problem(path, text, "it is without effect", Severity.WARNING)


def _root(rule: IngressRule, index: int) -> tuple[str, HTTPIngressPath | None]:
    """Return where the path "/" of a rule is, and the path itself."""
    for number, one in enumerate(rule.http.paths if rule.http is not None else ()):
        if one.path in ("", "/"):
            return f"spec.rules[{index}].http.paths[{number}]", one
    return f"spec.rules[{index}]", None


def _backend(at: Place, path: HTTPIngressPath) -> WeightedBackendReference:
    found = backend_ref(at, path.backend)
    return WeightedBackendReference(
        group=found.group, kind=found.kind, name=found.name, port=found.port
    )
