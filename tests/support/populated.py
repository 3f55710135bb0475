"""Random clusters in which most references lead somewhere, so that all kinds of resources occur."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from penstock.core.decode import decode
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.grpc_resources import GRPCRoute
from penstock.gatewayapi.stream_resources import TCPRoute, TLSRoute, UDPRoute
from support import objects
from support.pki import Issued, issue, tls_secret_raw

Things = list[Object | Broken]

APPS = ("front", "orders-v1", "orders-v2", "intruder")
NODES = ("n1", "n2")
NAMESPACES = ("shop", "other")
NUMBERS = (1, 2, 3, 4, 5, 6)

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
apps = st.sampled_from(APPS)


def _pod_ip(number: int) -> str:
    return f"10.244.0.{number}"


def pods(number: int) -> st.SearchStrategy[Object | Broken]:
    """Return pods with this number, which is part of name and address."""
    return st.builds(
        objects.pod,
        st.just(f"p{number}"),
        st.just(_pod_ip(number)),
        st.fixed_dictionaries({"app": apps}),
        namespace=st.sampled_from((*NAMESPACES[:1] * 3, *NAMESPACES)),
        node=st.sampled_from(NODES),
        ready=st.sampled_from([True, True, False]),
    )


def services(app: str) -> st.SearchStrategy[Object | Broken]:
    """Return the Service of an application, always with the same address."""
    protocols = st.sampled_from(["", "", "kubernetes.io/h2c"])
    address = f"10.96.0.{APPS.index(app) + 1}"
    return st.builds(
        objects.service,
        st.just(app),
        st.just(address),
        app_protocol=protocols,
        udp=st.booleans(),
    )


def slices(app: str) -> st.SearchStrategy[Object | Broken]:
    """Return the endpoints of an application, some of which may be no pods."""
    ips = st.sets(st.sampled_from((*NUMBERS, 99)), max_size=4)
    found = ips.map(lambda numbers: [_pod_ip(number) for number in sorted(numbers)])
    return st.builds(objects.endpoint_slice, st.just(app), found, udp=st.just(True))


copies = st.lists(st.sampled_from((*APPS, "missing")), max_size=2)
"""Where copies of requests go."""
rewritten = st.sampled_from(["", "", "/y"])
"""What the first backend of a route sees instead of its path; "" is the path itself."""
OUTSIDE, PICKED = "outside", "picked"
"""Names of the two XBackends; as backends of a route they are that, no Services."""
backends = st.lists(
    st.tuples(st.sampled_from((*APPS, "missing", OUTSIDE, PICKED, PICKED)), st.integers(0, 3)),
    min_size=1,
    max_size=3,
)


sessions = st.sampled_from(
    [None, None, {"cookie": {"name": "s"}}, {"type": "Header", "header": {"name": "x-s"}}]
)
retries = st.sampled_from([None, None, {"attempts": 2, "codes": [500]}])
PROTOCOLS = ("HTTP", "H2C", "TCP", None, None)


def outsides() -> st.SearchStrategy[Object | Broken]:
    """Return the one XBackend with a hostname, some of which are not served or not understood."""
    hostnames = st.sampled_from(["a.test", "10.0.0.1"])
    return st.builds(
        _xbackend,
        st.just(OUTSIDE),
        hostnames,
        st.one_of(plain, met_by_tls),
        namespace=st.sampled_from(NAMESPACES),
    )


def picked() -> st.SearchStrategy[Object | Broken]:
    """Return the one XBackend that selects pods, some of which are not served."""
    labels = apps.map(lambda app: {"app": app})
    return st.builds(
        _xbackend,
        st.just(PICKED),
        labels,
        st.one_of(plain, met_by_tls),
        session=sessions,
        namespace=st.sampled_from((*NAMESPACES, *NAMESPACES[:1] * 2)),
    )


def _over_tls(protocol: str | None, secret: str | None) -> dict[str, Any]:
    mode = "ServerOnly" if secret is None else "ClientAndServer"
    validation = {"hostname": "a.test", "caCertificateRefs": [AUTHORITY]}
    shown = {} if secret is None else {"clientCertificateRef": {"name": secret}}
    return {"protocol": protocol, "tls": {"mode": mode, "validation": validation, **shown}}


AUTHORITY = {"group": "", "kind": "ConfigMap", "name": "ca"}
plain = st.fixed_dictionaries({"protocol": st.sampled_from(PROTOCOLS)})
met_by_tls = st.builds(
    _over_tls,
    st.sampled_from(("HTTP2", "TCP", None)),
    st.sampled_from((None, "s0", "s1")),
)
"""Members of an XBackend's spec."""


def authorities() -> st.SearchStrategy[Object | Broken]:
    """Return the one ConfigMap with an authority, which may be none."""
    return st.sampled_from([CERTIFICATES[0].pem, CERTIFICATES[1].pem, "none"]).map(_config_map)


def _config_map(pem: str) -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "ca", "namespace": "shop"},
            "data": {"ca.crt": pem},
        }
    )


def _xbackend(
    name: str,
    place: str | dict[str, str],
    more: dict[str, Any],
    session: dict[str, Any] | None = None,
    namespace: str = "shop",
) -> Object | Broken:
    given = {member: value for member, value in more.items() if value is not None}
    if session is not None:
        given["sessionPersistence"] = session
    return objects.xbackend(name, place, namespace, port=8080, **given)


def mesh_routes(number: int) -> st.SearchStrategy[Object | Broken]:
    """Return routes on Services, of producers and of consumers."""
    return st.builds(
        objects.http_route,
        st.just(f"m{number}"),
        parent=apps.map(lambda app: objects.on_service(app, "shop")),
        backends=backends,
        namespace=st.sampled_from(NAMESPACES),
        path=st.sampled_from(["/", "/x"]),
        session=sessions,
        copies=copies,
        rewritten=rewritten,
        retry=retries,
    )


def gateway_routes(number: int) -> st.SearchStrategy[Object | Broken]:
    """Return routes at the one Gateway."""
    hosts = st.lists(st.sampled_from(["a.test", "b.test", "*.test"]), unique=True, max_size=2)
    return st.builds(
        objects.http_route,
        st.just(f"g{number}"),
        parent=st.just({"name": "gw"}),
        backends=backends,
        hostnames=hosts,
        path=st.sampled_from(["/", "/x"]),
        session=sessions,
        copies=copies,
        rewritten=rewritten,
        retry=retries,
    )


def grpc_routes(number: int) -> st.SearchStrategy[Object | Broken]:
    """Return GRPCRoutes at the one Gateway or on a Service, where HTTPRoutes may be, too."""
    hosts = st.lists(st.sampled_from(["a.test", "b.test", "*.test"]), unique=True, max_size=2)
    parents = st.one_of(
        st.just({"name": "gw"}), apps.map(lambda app: objects.on_service(app, "shop"))
    )
    services = st.sampled_from(["a.A", "a.B", None])
    return st.builds(_grpc_route, st.just(f"c{number}"), parents, hosts, services, backends)


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
            apps.map(lambda app: objects.on_service(app, "shop")),
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


SERVER_NAMES = ("a.test", "b.test", "*.test", "*.a.test", None)
CERTIFICATES = (issue("a.test"), issue("b.test"))

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
    reaches = st.sampled_from([[], [], [], [""], ["Cluster", ""], ["Cluster"]])
    return st.builds(_gateway, hosts, _secure, streams, _asking, reaches)


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
    reaches: list[str],
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
    return objects.gateway("gw", listeners, addresses=[{"routability": reach} for reach in reaches])


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
    return objects.made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "ReferenceGrant",
            "metadata": {"name": "grant", "namespace": "other"},
            "spec": {"from": [source], "to": [target]},
        }
    )


def classes() -> st.SearchStrategy[Object | Broken]:
    """Return the GatewayClass, mostly ours."""
    controllers = st.sampled_from([objects.CONTROLLER] * 4 + ["x.test/other"])
    return st.builds(objects.gateway_class, controller=controllers)


def traffic_policies(number: int) -> st.SearchStrategy[Object | Broken]:
    """Return policies for traffic to Services, several of which may be for one."""
    return st.builds(
        _traffic_policy,
        st.just(f"t{number}"),
        apps,
        st.sampled_from([{}, {"budget": {"percent": 5}}, {"budget": {"percent": 101}}, None]),
        sessions,
    )


def _traffic_policy(
    name: str, app: str, budget: dict[str, Any] | None, session: dict[str, Any] | None
) -> Object | Broken:
    spec: dict[str, Any] = {"targetRefs": [{"group": "", "kind": "Service", "name": app}]}
    if budget is not None:
        spec["retryConstraint"] = budget
    if session is not None:
        spec["sessionPersistence"] = session
    return objects.made(
        {
            "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
            "kind": "XBackendTrafficPolicy",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": spec,
        }
    )


def telemetry_policies(number: int) -> st.SearchStrategy[Object | Broken]:
    """Return policies for traces of the one Gateway; of several the first holds."""
    provider = st.builds(
        _provider, st.sampled_from((*APPS, "none", OUTSIDE, PICKED)), st.sampled_from(NAMESPACES)
    )
    tracing = st.fixed_dictionaries(
        {"mode": st.just("Enabled"), "provider": provider},
        optional={
            "samplingRate": st.sampled_from([{"numerator": 0}, {"numerator": 5}]),
            "parentBasedSampling": st.sampled_from(
                [{"mode": "Disabled"}, {"mode": "Enabled", "samplingRate": {"numerator": 7}}]
            ),
            "spanName": st.sampled_from(["a b", "a  b"]),
        },
    )
    off = st.just({"mode": "Disabled"})
    return st.builds(_telemetry_policy, st.just(f"t{number}"), st.one_of(tracing, off))


def _provider(name: str, namespace: str) -> dict[str, Any]:
    if name in (OUTSIDE, PICKED):
        group = "gateway.networking.x-k8s.io"
        return {"backendRef": {"group": group, "kind": "XBackend", "name": name}}
    return {"backendRef": {"name": name, "namespace": namespace, "port": 80}}


def _telemetry_policy(name: str, tracing: dict[str, Any]) -> Object | Broken:
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gw"}
    return objects.made(
        {
            "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
            "kind": "XTelemetryPolicy",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"targetRefs": [target], "tracing": tracing},
        }
    )


def policies(number: int) -> st.SearchStrategy[Object | Broken]:
    """Return policies of either direction, with and without HTTP; some cannot be read."""
    return st.builds(
        _policy,
        st.just(f"c{number}"),
        direction=st.sampled_from(["ingress", "egress"]),
        app=apps,
        peer=apps,
        path=st.sampled_from([None, "/a", "/b.*"]),
        how=st.sampled_from(["allow"] * 4 + ["deny", "broken"]),
    )


def _policy(
    name: str, *, direction: str, app: str, peer: str, path: str | None, how: str
) -> Object | Broken:
    item: dict[str, Any] = {"ports": [{"port": "8080", "protocol": "TCP"}]}
    if path is not None and how == "allow":
        item["rules"] = {"http": [{"method": "GET", "path": path}]}
    side = {"ingress": "fromEndpoints", "egress": "toEndpoints"}[direction]
    rule: dict[str, Any] = {side: [{"matchLabels": {"app": peer}}], "toPorts": [item]}
    if how == "broken":
        rule["rules"] = {"http": []}
    member = f"{direction}Deny" if how == "deny" else direction
    return objects.policy(name, {"endpointSelector": {"matchLabels": {"app": app}}, member: [rule]})


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
        few.flatmap(telemetry_policies),
    )  # fmt: skip
