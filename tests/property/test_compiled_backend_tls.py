"""Edits of what TLS towards endpoints is made of: incremental equals from scratch."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Settings
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from penstock.xds.snapshot import Snapshot
from support import objects
from support.pki import Issued, issue, tls_secret_raw

Thing = Object | Broken

API = "gateway.networking.k8s.io/v1"
CHAIN, OTHER = issue("client"), issue("other")
TRUSTING = Settings(system_authorities=issue("system").pem.encode())
CONFIG_MAP = {"group": "", "kind": "ConfigMap", "name": "ca"}
BUNDLE = {"group": "certificates.k8s.io", "kind": "ClusterTrustBundle", "name": "ca"}
TRUST: tuple[dict[str, Any], ...] = (
    {"caCertificateRefs": [CONFIG_MAP]},
    {"caCertificateRefs": [BUNDLE]},
    {"caCertificateRefs": [BUNDLE, CONFIG_MAP]},
    {"wellKnownCACertificates": "System"},
    {"wellKnownCACertificates": "acme.io/none"},
    {},
)
SHOWN: tuple[dict[str, Any] | None, ...] = (
    None,
    {"name": "client"},
    {"name": "client", "namespace": "certs"},
    {"name": "client", "kind": "Other"},
)


def _made(kind: str, name: str, namespace: str, **more: Any) -> Thing:
    meta = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return objects.made({"apiVersion": API, "kind": kind, "metadata": meta, **more})


def _policy(name: str, service: str, trust: dict[str, Any]) -> Thing:
    target = {"group": "", "kind": "Service", "name": service}
    validation = {"hostname": "in.test", **trust}
    spec = {"targetRefs": [target], "validation": validation}
    return _made("BackendTLSPolicy", name, "shop", spec=spec)


def _gateway(name: str, shown: dict[str, Any] | None) -> Thing:
    spec: dict[str, Any] = {
        "gatewayClassName": "penstock",
        "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}],
    }
    if shown is not None:
        spec["tls"] = {"backend": {"clientCertificateRef": shown}}
    return _made("Gateway", name, "shop", spec=spec)


def _bundle(pem: str) -> Thing:
    version = {"apiVersion": "certificates.k8s.io/v1", "spec": {"trustBundle": pem}}
    return _made("ClusterTrustBundle", "ca", "", **version)


def _config_map(pem: str) -> Thing:
    return _made("ConfigMap", "ca", "shop", apiVersion="v1", data={"ca.crt": pem})


def _secret(namespace: str, chain: Issued) -> Thing:
    return objects.made(tls_secret_raw("client", namespace, [chain]))


GRANT = _made(
    "ReferenceGrant",
    "certs",
    "certs",
    spec={
        "from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "shop"}],
        "to": [{"group": "", "kind": "Secret"}],
    },
)
FIXED: tuple[Thing, ...] = (
    objects.gateway_class(),
    *(objects.service(one, f"10.96.0.{i}") for i, one in enumerate("ab", 1)),
    *(objects.endpoint_slice(one, [f"10.244.0.{i}"]) for i, one in enumerate("ab", 1)),
    *(
        objects.http_route(f"r-{one}", parent={"name": one}, backends=[("a", 1), ("b", 1)])
        for one in ("front", "back")
    ),
)
pems = st.sampled_from([CHAIN.pem, OTHER.pem, "nothing"])
things: st.SearchStrategy[Thing] = st.one_of(
    st.builds(_policy, st.sampled_from("pq"), st.sampled_from("ab"), st.sampled_from(TRUST)),
    st.builds(_gateway, st.sampled_from(["front", "back"]), st.sampled_from(SHOWN)),
    st.builds(_bundle, pems),
    st.builds(_config_map, pems),
    st.just(GRANT),
    st.builds(
        _secret,
        st.sampled_from(["shop", "certs"]),
        st.sampled_from([CHAIN, OTHER]),
    ),
)
edits = st.lists(st.tuples(things, st.booleans()), max_size=16)


@given(edits)
@settings(max_examples=80, deadline=None)
def test_a_followed_snapshot_is_what_a_new_compiler_makes(
    changes: list[tuple[Thing, bool]],
) -> None:
    compiler = Compiler(TRUSTING)
    present: dict[ObjectRef, Thing] = {one.ref: one for one in FIXED}
    compiler.apply(objects.added(present.values()))
    snapshot = Snapshot(compiler.resources("n1"))
    for thing, stays in changes:
        if not stays and thing.ref not in present:
            continue
        kind = EventType.MODIFIED if thing.ref in present else EventType.ADDED
        if stays:
            present[thing.ref] = thing
        else:
            kind, thing = EventType.DELETED, present.pop(thing.ref)  # noqa: PLW2901  # what was there
        for change in compiler.apply([Event(kind, thing)]):
            assert snapshot.apply(change.delta) == change.delta  # nothing is told that is not so
        assert compiler.failures == {}
    fresh = Compiler(TRUSTING)
    fresh.apply(objects.added(present.values()))
    wanted = {one.key: one.framed for one in fresh.resources("n1")}
    assert {one.key: one.framed for one in snapshot} == wanted
