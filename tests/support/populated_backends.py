"""Random pods, Services and XBackends, to which most references lead."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from penstock.core.objects import Broken, Object
from support import objects
from support.pki import issue

APPS = ("front", "orders-v1", "orders-v2", "intruder")


NODES = ("n1", "n2")


NAMESPACES = ("shop", "other")


NUMBERS = (1, 2, 3, 4, 5, 6)


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
        unheard=st.sampled_from([False, False, True]),
        gate=st.sampled_from([None, None, True, False]),
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
    return st.builds(
        objects.endpoint_slice,
        st.just(app),
        found,
        udp=st.just(True),
        ready=st.sampled_from([True, True, False]),
        pods=st.sampled_from([None, {_pod_ip(number): f"p{number}" for number in NUMBERS}]),
        managed_by=st.just("endpointslice-controller.k8s.io"),
    )


OUTSIDE, PICKED = "outside", "picked"
"""Names of the two XBackends; as backends of a route they are that, no Services."""


sessions = st.sampled_from(
    [None, None, {"cookie": {"name": "s"}}, {"type": "Header", "header": {"name": "x-s"}}]
)


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


CERTIFICATES = (issue("a.test"), issue("b.test"))
