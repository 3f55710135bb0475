"""How annotations have endpoints met."""

from __future__ import annotations

import pytest

from penstock.ingress.annotations import Options, options
from penstock.ingress.resources import Ingress
from penstock.ingress.watched_secrets import watched_secrets
from penstock.ir.upstream import Upstream, UpstreamTls
from penstock.meta.names import NamespacedName
from penstock.meta.problems import Severity
from support.ingress_objects import NGINX, backend, ingress, ingress_class

SECRET = NamespacedName("shop", "ca")


def made(**given: str) -> Ingress:
    annotations = {NGINX + name.replace("_", "-"): value for name, value in given.items()}
    found = ingress("web", annotations=annotations, defaultBackend=backend())
    assert isinstance(found, Ingress)
    return found


def asked(**given: str) -> Options:
    return options(made(**given))


@pytest.mark.parametrize(
    ("protocol", "upstream"),
    [
        ("HTTP", None),
        ("grpc", Upstream(http2=True)),
        ("HTTPS", Upstream(tls=UpstreamTls())),
        ("GRPCS", Upstream(http2=True, tls=UpstreamTls())),
    ],
)
def test_a_protocol_is_http2_and_tls_or_not(protocol: str, upstream: Upstream | None) -> None:
    found = asked(backend_protocol=protocol)
    assert found.upstream == upstream
    assert not found.closed


def test_that_nobody_looks_at_certificates_is_a_warning() -> None:
    (told,) = asked(backend_protocol="HTTPS").problems
    assert told.severity is Severity.WARNING
    assert "whoever answers is believed" in told.message
    given = {"proxy_ssl_verify": "on", "proxy_ssl_secret": "shop/ca"}
    assert asked(backend_protocol="HTTPS", **given).problems == ()


def test_tls_is_as_the_annotations_say() -> None:
    given = {"proxy_ssl_secret": "shop/ca", "proxy_ssl_name": "A.test"}
    found = asked(
        backend_protocol="HTTPS", proxy_ssl_verify="on", proxy_ssl_server_name="on", **given
    )
    tls = UpstreamTls(verified=True, name="a.test", tells_name=True, secret=SECRET)
    assert found.upstream == Upstream(tls=tls)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"backend_protocol": "FCGI"}, "FCGI is not spoken"),
        ({"proxy_ssl_verify": "on"}, "nobody to believe"),
        ({"proxy_ssl_verify": "maybe"}, "neither on nor off"),
        ({"proxy_ssl_secret": "other/ca"}, "is not the name of a Secret here"),
        ({"proxy_ssl_secret": "ca"}, "write shop/<name>"),
        ({"proxy_ssl_name": "a b"}, "is not a hostname"),
    ],
)
def test_what_cannot_be_kept_closes(given: dict[str, str], why: str) -> None:
    assert why in asked(**({"backend_protocol": "HTTPS"} | given)).closed


def test_the_secret_is_read_while_tls_is_spoken() -> None:
    class_ = ingress_class()
    given = {"proxy_ssl_secret": "shop/ca"}
    assert watched_secrets([class_, made(backend_protocol="HTTPS", **given)]) == {SECRET}
    assert watched_secrets([class_, made(**given)]) == frozenset()
