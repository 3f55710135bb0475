"""Random policies, most of which are for something."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from penstock.core.objects import Broken, Object
from support import objects
from support.populated_backends import APPS, AUTHORITY, NAMESPACES, OUTSIDE, PICKED, apps, sessions


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


def tls_policies(number: int) -> st.SearchStrategy[Object | Broken]:
    """Return policies for TLS towards Services, some for what is not there; few cannot be read."""
    target = st.tuples(
        st.sampled_from((*APPS, "missing")), st.sampled_from([None, None, "http", "none"])
    )
    return st.builds(
        _tls_policy,
        st.just(f"s{number}"),
        st.lists(target, min_size=1, max_size=2),
        st.sampled_from([{}, {}, {}, {"noSuchField": 1}]),
    )


def _tls_policy(
    name: str, targets: list[tuple[str, str | None]], more: dict[str, Any]
) -> Object | Broken:
    refs = [
        {"group": "", "kind": "Service", "name": app}
        | ({} if port is None else {"sectionName": port})
        for app, port in targets
    ]
    validation = {"hostname": "a.test", "caCertificateRefs": [AUTHORITY]}
    spec = {"targetRefs": refs, "validation": validation, **more}
    return objects.gateway_api("BackendTLSPolicy", name, spec)


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
