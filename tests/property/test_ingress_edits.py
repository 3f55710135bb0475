"""Whatever the order of changes, Ingresses come to the same as if all had been there at once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.compile import Compiler
from penstock.compiler.problems import problems_of
from penstock.compiler.settings import Settings
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from support.ingress_objects import NGINX, backend, ingress, ingress_class, path, rule
from support.objects import endpoint_slice, made, node, service
from support.pki import issue, tls_secret_raw
from support.pool_cluster import AT_NODES

_TLS = [{"hosts": ["a.test"], "secretName": "cert"}]
_CANARY = {NGINX + "canary": "true", NGINX + "canary-weight": "30"}
_DEDICATED = {"ingress.cilium.io/loadbalancer-mode": "dedicated"}
_HOST_PORT = _DEDICATED | {"ingress.cilium.io/host-listener-port": "9090"}
_SECURE = {
    NGINX + "backend-protocol": "HTTPS",
    NGINX + "proxy-ssl-secret": "shop/cert",
}
_CERTIFICATE = issue("a.test")
_PASSED = {"ingress.cilium.io/tls-passthrough": "true"}
_GUARDED = {
    NGINX + "auth-url": "http://one.shop.svc/check",
    NGINX + "whitelist-source-range": "10.0.0.0/8",
    NGINX + "proxy-body-size": "8m",
    NGINX + "limit-rps": "8",
}
VERSIONS: list[Object | Broken] = [
    ingress_class(),
    ingress_class(default=True),
    ingress_class(controller="example.com/other"),
    service("one", "10.96.1.1"),
    service("one", "10.96.1.1", port=81),
    endpoint_slice("one", ["10.244.0.1"]),
    ingress("a", rule("a.test", path()), tls=_TLS),
    ingress("a", rule("a.test", path("/", to=backend("one", "http"))), annotations=_DEDICATED),
    ingress("a", rule("a.test", path()), annotations=_HOST_PORT),
    ingress("b", rule("a.test", path()), annotations=_HOST_PORT, tls=_TLS),
    ingress("a", rule("*.a.test", path("/", to=backend("two"))), ingressClassName="other"),
    ingress("a", rule("a.test", path()), annotations={NGINX + "affinity": "cookie"}),
    ingress("a", rule("a.test", path()), annotations=_GUARDED),
    ingress("a", rule("a.test", path()), annotations=_PASSED),
    ingress("b", rule("a.test", path("/", to=backend("two"))), annotations=_PASSED),
    ingress("a", rule("a.test", path()), annotations=_SECURE),
    ingress("b", rule("b.test", path()), annotations=_SECURE),
    ingress("c", defaultBackend=backend(), annotations={NGINX + "backend-protocol": "GRPC"}),
    node("n1", "172.31.0.11"),
    made(tls_secret_raw("cert", "shop", [_CERTIFICATE])),
    made(tls_secret_raw("cert", "shop", [_CERTIFICATE]) | {"stringData": {"ca.crt": "nonsense"}}),
    ingress("b", rule("a.test", path("/", to=backend("two"))), annotations=_CANARY),
    ingress("b", rule("a.test", path("/x", "Exact")), annotations=_GUARDED),
    ingress("b", rule("a.test", path("/x", "Exact")), ingressClassName=None),
    ingress("c", defaultBackend=backend(), namespace="other", tls=[{"secretName": "cert"}]),
]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([Settings(), AT_NODES]),
    st.lists(st.tuples(st.sampled_from(VERSIONS), st.booleans(), st.booleans()), max_size=14),
)
def test_the_order_of_changes_does_not_matter(
    configured: Settings, edits: list[tuple[Object | Broken, bool, bool]]
) -> None:
    compiler, there = Compiler(configured), dict[ObjectRef, Object | Broken]()
    batch: list[Event] = []
    for thing, gone, last in edits:
        if gone and thing.ref in there:
            batch.append(Event(EventType.DELETED, there.pop(thing.ref)))
        elif not gone:
            kind = EventType.MODIFIED if thing.ref in there else EventType.ADDED
            there[thing.ref] = thing
            batch.append(Event(kind, thing))
        if last:
            compiler.apply(batch)
            batch = []
    compiler.apply(batch)
    fresh = Compiler(configured)
    fresh.apply([Event(EventType.ADDED, one) for one in there.values()])
    assert compiler.failures == fresh.failures == {}
    assert compiler.resources("n1") == fresh.resources("n1")
    for one in there.values():
        assert status_of(compiler.db, one, lambda _: None) == status_of(
            fresh.db, one, lambda _: None
        )
        assert problems_of(compiler.db, one) == problems_of(fresh.db, one)
