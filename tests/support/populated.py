"""Random clusters in which most references lead somewhere, so that all kinds of resources occur."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from penstock.core.objects import Broken, Object
from support import objects
from support.pki import Issued, tls_secret_raw
from support.populated_backends import (
    APPS,
    CERTIFICATES,
    NAMESPACES,
    NUMBERS,
    apps,
    authorities,
    outsides,
    picked,
    pods,
    services,
    slices,
)
from support.populated_policies import (
    policies,
    telemetry_policies,
    tls_policies,
    traffic_policies,
)
from support.populated_routes import (
    STREAM_LISTENERS,
    gateway_routes,
    grpc_routes,
    mesh_routes,
    stream_routes,
)

Things = list[Object | Broken]


ANYWHERE, INSIDE = {"routability": ""}, {"routability": "Cluster"}
POOL = "198.51.100.0/28"
TWO = [{"value": "198.51.100.1"}, {"value": "198.51.100.2"}]
"""Addresses of the pool that different nodes of two answer for."""
SERVER_NAMES = ("a.test", "b.test", "*.test", "*.a.test", None)


_secure = st.lists(
    st.tuples(
        st.sampled_from(SERVER_NAMES), st.sampled_from(NAMESPACES), st.sampled_from(("s0", "s1"))
    ),
    unique_by=lambda one: one[0],
    max_size=4,
)


def gateways() -> st.SearchStrategy[Object | Broken]:
    """Return the one Gateway: one or two listeners of HTTP, some of HTTPS, TLS, TCP and UDP.

    Some of those of HTTP and HTTPS ask about requests before their routes are chosen.
    """
    hosts = st.sampled_from([None, "a.test", "*.test"])
    streams = st.lists(st.sampled_from(sorted(STREAM_LISTENERS)), unique=True, max_size=3)
    addresses = st.sampled_from([[], [], [ANYWHERE], TWO, [INSIDE, ANYWHERE], [INSIDE]])
    return st.builds(_gateway, hosts, _secure, streams, _asking, addresses)


_asking = st.dictionaries(
    st.sampled_from(["http", "own", "s0"]),
    st.lists(
        st.tuples(st.sampled_from((*APPS, "missing", "")), st.sampled_from(NAMESPACES)),
        max_size=2,
    ),
    max_size=2,
)
"""Listener → whom its filters ask, in which namespace; "" is a filter that is not served."""


def _filters(asked: list[tuple[str, str]]) -> dict[str, Any]:
    return {"requests": [_asks(*one) for one in asked]}


def _asks(app: str, namespace: str) -> dict[str, Any]:
    if not app:
        ref = {"group": "x.test", "kind": "X", "name": "x"}
        return {"type": "ExtensionRef", "extensionRef": ref}
    to = {"name": app, "namespace": namespace, "port": 80}
    asked = {"protocol": "GRPC", "grpc": {}, "backendRef": to}
    return {"type": "ExternalAuth", "externalAuth": asked}


def _gateway(
    host: str | None,
    secure: list[tuple[str | None, str, str]],
    streams: list[str],
    asking: dict[str, list[tuple[str, str]]],
    addresses: list[dict[str, str]],
) -> Object | Broken:
    listeners: list[dict[str, Any]] = [{"name": "http", "protocol": "HTTP", "port": 80}]
    listeners += ({"name": name, **STREAM_LISTENERS[name]} for name in streams)
    if host is not None:
        listeners.append({"name": "own", "protocol": "HTTP", "port": 80, "hostname": host})
    for index, (server_name, namespace, secret) in enumerate(secure):
        tls = {"certificateRefs": [{"name": secret, "namespace": namespace}]}
        named = {} if server_name is None else {"hostname": server_name}
        base = {"name": f"s{index}", "protocol": "HTTPS", "port": 443, "tls": tls}
        listeners.append(base | named)
    for one in listeners:
        if one["name"] in asking:
            one["filters"] = _filters(asking[one["name"]])
    return objects.gateway("gw", listeners, addresses=addresses)


def secrets(place: tuple[str, int]) -> st.SearchStrategy[Object | Broken]:
    """Return Secrets of a namespace with a number, some of which cannot be used."""
    namespace, number = place

    def secret(one: Issued, key: str) -> Object | Broken:
        return objects.made(tls_secret_raw(f"s{number}", namespace, [one], key))

    keys = [CERTIFICATES[0].key_pem, CERTIFICATES[1].key_pem, "none"]
    return st.builds(secret, st.sampled_from(CERTIFICATES), st.sampled_from(keys))


secret_places = st.tuples(st.sampled_from(NAMESPACES), st.integers(0, 1))


def grants() -> st.SearchStrategy[Object | Broken]:
    """Return the one ReferenceGrant, which may be for something else."""
    return st.builds(
        _grant, st.sampled_from(("Gateway", "HTTPRoute")), st.sampled_from((None, "s0"))
    )


def _grant(kind: str, name: str | None) -> Object | Broken:
    source = {"group": "gateway.networking.k8s.io", "kind": kind, "namespace": "shop"}
    target = {"group": "", "kind": "Secret"} | ({} if name is None else {"name": name})
    return objects.gateway_api(
        "ReferenceGrant", "grant", {"from": [source], "to": [target]}, "other"
    )


def classes() -> st.SearchStrategy[Object | Broken]:
    """Return the GatewayClass, mostly ours."""
    controllers = st.sampled_from([objects.CONTROLLER] * 4 + ["x.test/other"])
    return st.builds(objects.gateway_class, controller=controllers)


@st.composite
def clusters(draw: st.DrawFn) -> Things:
    """Return all objects of one cluster, each name once."""
    some = st.integers(0, 3)
    strategies = [
        classes(),
        gateways(),
        outsides(),
        picked(),
        authorities(),
        *map(secrets, draw(st.lists(secret_places, unique=True, max_size=4))),
        *([grants()] if draw(st.booleans()) else []),
        *map(services, APPS),
        *map(slices, APPS),
        *map(pods, NUMBERS),
        *(mesh_routes(number) for number in range(draw(some))),
        *(gateway_routes(number) for number in range(draw(some))),
        *(grpc_routes(number) for number in range(draw(some))),
        *(stream_routes(number) for number in range(draw(some))),
        *(policies(number) for number in range(draw(st.integers(1, 4)))),
        *(traffic_policies(number) for number in range(draw(st.integers(0, 2)))),
        *(tls_policies(number) for number in range(draw(st.integers(0, 2)))),
        *(telemetry_policies(number) for number in range(draw(st.integers(0, 2)))),
    ]
    return [draw(one) for one in strategies]


def one_object() -> st.SearchStrategy[Object | Broken]:
    """Return an object that may replace one of a cluster, or be new to it."""
    few = st.integers(0, 3)
    return st.one_of(
        classes(), gateways(), secret_places.flatmap(secrets), grants(),
        apps.flatmap(services), apps.flatmap(slices),
        st.sampled_from(NUMBERS).flatmap(pods), few.flatmap(mesh_routes),
        few.flatmap(gateway_routes), few.flatmap(grpc_routes), few.flatmap(policies),
        few.flatmap(stream_routes),
        few.flatmap(traffic_policies), outsides(), picked(), authorities(),
        few.flatmap(telemetry_policies), few.flatmap(tls_policies),
    )  # fmt: skip
