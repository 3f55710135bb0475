"""Random Gateways with ListenerSets, and routes at both: most come into each other's way."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from penstock.core.objects import Broken, Object
from support import objects, populated, populated_backends
from support.populated import Things

Json = dict[str, Any]
GROUP = "gateway.networking.k8s.io"
OLDER, YOUNGER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
_PLACES: tuple[tuple[str, int, str | None], ...] = (
    ("HTTP", 80, None), ("HTTP", 80, "a.test"), ("HTTP", 81, "*.test"), ("HTTPS", 443, None),
    ("HTTPS", 443, "a.test"), ("HTTPS", 443, "*.test"), ("TLS", 443, "x.passed.test"),
    ("TCP", 5000, None), ("UDP", 5000, None), ("TCP", 80, None), ("STRANGE", 1, None),
)  # fmt: skip
"""Protocol, port and hostname of a listener."""
_LETTING: tuple[Json, ...] = (
    {"from": "All"},
    {"from": "Same"},
    {"from": "None"},
    {"from": "Selector", "selector": {"matchLabels": {"team": "x"}}},
)
namespaces = st.sampled_from(populated_backends.NAMESPACES)


def _listener(name: str, place: tuple[str, int, str | None], *, asks: bool) -> Json:
    protocol, port, hostname = place
    everybody = {"namespaces": {"from": "All"}}
    made: Json = {"name": name, "protocol": protocol, "port": port, "allowedRoutes": everybody}
    if hostname is not None:
        made["hostname"] = hostname
    if protocol == "HTTPS":
        made["tls"] = {"certificateRefs": [{"name": "s0"}]}
    if protocol == "TLS":
        made["tls"] = {"mode": "Passthrough"}
    if asks:  # of connections it cannot be read
        ref = {"name": "front", "namespace": "shop", "port": 80}
        asked = {"protocol": "GRPC", "grpc": {}, "backendRef": ref}
        made["filters"] = {"requests": [{"type": "ExternalAuth", "externalAuth": asked}]}
    return made


_asking = st.sampled_from((False, False, False, False, True))
_listeners = st.lists(
    st.tuples(st.sampled_from(_PLACES), _asking), min_size=1, max_size=4
).map(
    lambda found: [
        _listener(f"l{index}", place, asks=asks) for index, (place, asks) in enumerate(found)
    ]
)  # fmt: skip


def _made(kind: str, name: str, namespace: str, spec: Json, since: str) -> Object | Broken:
    meta = {"name": name, "namespace": namespace, "creationTimestamp": since}
    version = "v1alpha2" if kind in ("TLSRoute", "TCPRoute", "UDPRoute") else "v1"
    return objects.made(
        {"apiVersion": f"{GROUP}/{version}", "kind": kind, "metadata": meta, "spec": spec}
    )


@st.composite
def gateways(draw: st.DrawFn) -> Object | Broken:
    """Return the one Gateway, which may let ListenerSets in."""
    spec = {
        "gatewayClassName": draw(st.sampled_from(("penstock", "penstock", "penstock", "foreign"))),
        "listeners": draw(_listeners),
        "allowedListeners": {"namespaces": draw(st.sampled_from(_LETTING))},
    }
    return _made("Gateway", "gw", "shop", spec, OLDER)


@st.composite
def listener_sets(draw: st.DrawFn) -> Object | Broken:
    """Return ListenerSets, most of them of the one Gateway."""
    parent = {"name": draw(st.sampled_from(("gw", "gw", "none"))), "namespace": "shop"}
    spec = {"parentRef": parent, "listeners": draw(_listeners)}
    name, since = draw(st.sampled_from("ab")), draw(st.sampled_from((OLDER, YOUNGER)))
    return _made("ListenerSet", name, draw(namespaces), spec, since)


@st.composite
def routes(draw: st.DrawFn) -> Object | Broken:
    """Return routes of all kinds at the Gateway, at ListenerSets, or at both."""
    kind = draw(st.sampled_from(("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute")))
    parents = draw(st.lists(_parents(), min_size=1, max_size=2, unique_by=str))
    refs = [{"name": "front", "namespace": "shop", "port": 80}]
    spec: Json = {"parentRefs": parents, "rules": [{"backendRefs": refs}]}
    if kind not in ("TCPRoute", "UDPRoute"):
        names = st.sampled_from(("a.test", "*.test", "x.passed.test"))
        spec["hostnames"] = draw(st.lists(names, min_size=1, max_size=2, unique=True))
    return _made(kind, draw(st.sampled_from("rs")), draw(namespaces), spec, OLDER)


@st.composite
def _parents(draw: st.DrawFn) -> Json:
    if draw(st.booleans()):
        return {"name": "gw", "namespace": "shop"}
    part: Json = draw(st.sampled_from(({}, {"sectionName": "l0"}, {"port": 80})))
    name, namespace = draw(st.sampled_from("ab")), draw(namespaces)
    return {"kind": "ListenerSet", "name": name, "namespace": namespace, **part}


@st.composite
def namespace_objects(draw: st.DrawFn) -> Object | Broken:
    """Return namespaces, with labels by which they are let in or not."""
    labels = draw(st.sampled_from(({}, {"team": "x"})))
    meta = {"name": draw(namespaces), "labels": labels}
    return objects.made({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})


def clusters() -> st.SearchStrategy[Things]:
    """Return a Gateway with what is at it, each name once."""
    every = st.tuples(
        populated.classes(), gateways(), listener_sets(), listener_sets(), routes(), routes(),
        populated_backends.services("front"), populated.secrets(("shop", 0)),
    )  # fmt: skip
    return every.map(lambda found: list({one.ref: one for one in found}.values()))


def one_object() -> st.SearchStrategy[Object | Broken]:
    """Return an object that may replace one of a cluster, or be new to it."""
    return st.one_of(
        populated.classes(), gateways(), listener_sets(), routes(), namespace_objects(),
        populated_backends.services("front"), populated.secrets(("shop", 0)), populated.grants(),
    )  # fmt: skip


@st.composite
def rivals(draw: st.DrawFn, *names: str) -> Object | Broken:
    """Return one of some Gateways that want the same ports."""
    ports = draw(st.lists(st.sampled_from((80, 80, 80, 81)), min_size=1, max_size=2))
    listeners = [_listener(f"l{at}", ("HTTP", port, None), asks=False)
                 for at, port in enumerate(ports)]  # fmt: skip
    spec = {"gatewayClassName": "penstock", "listeners": listeners,
            "allowedListeners": {"namespaces": {"from": "All"}}}  # fmt: skip
    name, since = draw(st.sampled_from(names)), draw(st.sampled_from((OLDER, YOUNGER)))
    return _made("Gateway", name, "shop", spec, since)


@st.composite
def routes_at_rivals(draw: st.DrawFn) -> Object | Broken:
    """Return routes at one or two places of those."""
    names, parts = st.sampled_from(("gw", "rival")), st.sampled_from(({}, {"port": 80}))
    at_gateway = st.tuples(names, parts).map(lambda one: {"name": one[0], **one[1]})
    at_set = st.just({"group": GROUP, "kind": "ListenerSet", "name": "a"})
    parents = st.lists(st.one_of(at_gateway, at_set), min_size=1, max_size=2, unique_by=str)
    refs = [{"name": "front", "port": 80}]
    spec: Json = {"parentRefs": draw(parents), "rules": [{"backendRefs": refs}]}
    return _made("HTTPRoute", draw(st.sampled_from("rs")), "shop", spec, OLDER)


def clusters_of_rivals() -> st.SearchStrategy[Things]:
    """Return two Gateways that are in each other's way if they share the ports of nodes."""
    every = st.tuples(
        st.just(objects.gateway_class()), rivals("gw"), rivals("rival"), listener_sets(),
        routes_at_rivals(), routes_at_rivals(), populated_backends.services("front"),
    )  # fmt: skip
    return every.map(lambda found: list({one.ref: one for one in found}.values()))


def one_of_rivals() -> st.SearchStrategy[Object | Broken]:
    """Return an object that may replace one of those."""
    return st.one_of(
        rivals("gw", "rival"), routes_at_rivals(), listener_sets(), populated.classes()
    )
