"""Random routes, most of which lead to something."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from penstock.core.decode import decode
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.grpc_resources import GRPCRoute
from penstock.gatewayapi.stream_resources import TCPRoute, TLSRoute, UDPRoute
from support import objects
from support.populated_backends import APPS, NAMESPACES, OUTSIDE, PICKED, apps, sessions

STREAM_LISTENERS: dict[str, dict[str, Any]] = {
    "passed": {
        "protocol": "TLS",
        "port": 443,
        "hostname": "*.passed.test",
        "tls": {"mode": "Passthrough"},
    },
    "ended": {
        "protocol": "TLS",
        "port": 443,
        "hostname": "ended.test",
        "tls": {"certificateRefs": [{"name": "s0"}]},
    },
    "tcp": {"protocol": "TCP", "port": 5000},
    "udp": {"protocol": "UDP", "port": 5000},
    "web-too": {"protocol": "UDP", "port": 443},
}
"""Listeners of the one Gateway, by name, that take no requests."""


copies = st.lists(st.sampled_from((*APPS, "missing")), max_size=2)
"""Where copies of requests go."""


rewritten = st.sampled_from(["", "", "/y"])
"""What the first backend of a route sees instead of its path; "" is the path itself."""


backends = st.lists(
    st.tuples(st.sampled_from((*APPS, "missing", OUTSIDE, PICKED, PICKED)), st.integers(0, 3)),
    min_size=1,
    max_size=3,
)


retries = st.sampled_from([None, None, {"attempts": 2, "codes": [500]}])


def mesh_routes(number: int) -> st.SearchStrategy[Object | Broken]:
    """Return routes on Services, of producers and of consumers."""
    return _http_routes(f"m{number}", _on_services, namespace=st.sampled_from(NAMESPACES))


def gateway_routes(number: int) -> st.SearchStrategy[Object | Broken]:
    """Return routes at the one Gateway."""
    return _http_routes(f"g{number}", st.just({"name": "gw"}), hostnames=_hosts)


_on_services = apps.map(lambda app: objects.on_service(app, "shop"))


_hosts = st.lists(st.sampled_from(["a.test", "b.test", "*.test"]), unique=True, max_size=2)


def _http_routes(
    name: str, parents: st.SearchStrategy[dict[str, Any]], **more: st.SearchStrategy[Any]
) -> st.SearchStrategy[Object | Broken]:
    return st.builds(
        objects.http_route,
        st.just(name),
        parent=parents,
        backends=backends,
        path=st.sampled_from(["/", "/x"]),
        session=sessions,
        copies=copies,
        rewritten=rewritten,
        retry=retries,
        **more,
    )


def grpc_routes(number: int) -> st.SearchStrategy[Object | Broken]:
    """Return GRPCRoutes at the one Gateway or on a Service, where HTTPRoutes may be, too."""
    parents = st.one_of(st.just({"name": "gw"}), _on_services)
    services = st.sampled_from(["a.A", "a.B", None])
    return st.builds(_grpc_route, st.just(f"c{number}"), parents, _hosts, services, backends)


def _grpc_route(
    name: str,
    parent: dict[str, Any],
    hosts: list[str],
    service: str | None,
    to: list[tuple[str, int]],
) -> Object | Broken:
    rule: dict[str, Any] = {"backendRefs": [objects.backend_ref(app, weight) for app, weight in to]}
    if service is not None:
        rule["matches"] = [{"method": {"service": service}}]
    return decode(
        GRPCRoute,
        {
            "apiVersion": GRPCRoute.api_versions[0],
            "kind": GRPCRoute.kind,
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"parentRefs": [parent], "hostnames": hosts, "rules": [rule]},
        },
    )


def stream_routes(number: int) -> st.SearchStrategy[Object | Broken]:
    """Return routes for TLS, connections and datagrams; some are misplaced."""
    names = st.sampled_from(["a.test", "*.test", "ended.test", "x.passed.test"])
    return st.builds(
        _stream_route,
        st.sampled_from([TLSRoute, TCPRoute, UDPRoute]),
        st.just(f"s{number}"),
        parent=st.one_of(
            st.sampled_from([None, *STREAM_LISTENERS, "http", "none"]).map(_at_listener),
            _on_services,
        ),
        namespace=st.sampled_from((*NAMESPACES[:1] * 3, *NAMESPACES)),
        hosts=st.lists(names, unique=True, min_size=1, max_size=2),
        to=backends,
        since=st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", None]),
    )


def _at_listener(name: str | None) -> dict[str, Any]:
    section = {} if name is None else {"sectionName": name}
    return {"name": "gw", "namespace": "shop", **section}


def _stream_route(
    kind: type[TLSRoute | TCPRoute | UDPRoute],
    name: str,
    *,
    parent: dict[str, Any],
    namespace: str,
    hosts: list[str],
    to: list[tuple[str, int]],
    since: str | None,
) -> Object | Broken:
    refs = [objects.backend_ref(app, weight) | {"namespace": "shop"} for app, weight in to]
    spec: dict[str, Any] = {"parentRefs": [parent], "rules": [{"backendRefs": refs}]}
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    return decode(
        kind,
        {
            "apiVersion": kind.api_versions[0],
            "kind": kind.kind,
            "metadata": metadata | ({} if since is None else {"creationTimestamp": since}),
            "spec": spec | ({"hostnames": hosts} if kind is TLSRoute else {}),
        },
    )
