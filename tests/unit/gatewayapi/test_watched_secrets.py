"""Which Secrets a controller reads at all because of XBackends."""

from __future__ import annotations

from penstock.core.objects import Broken, Object
from penstock.gatewayapi.watched_secrets import watched_config_maps, watched_secrets
from penstock.meta.names import NamespacedName
from support import objects


def _xbackend(namespace: str | None = None, kind: str = "Secret") -> Object | Broken:
    certificate = {"name": "client", "kind": kind}
    if namespace is not None:
        certificate["namespace"] = namespace
    refs = [{"group": "", "kind": "ConfigMap", "name": "ca"}]
    tls = {
        "mode": "ClientAndServer",
        "clientCertificateRef": certificate,
        "validation": {"hostname": "a.test", "caCertificateRefs": refs},
    }
    return objects.xbackend("web", {"app": "web"}, tls=tls)


def _grant(kind: str) -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "ReferenceGrant",
            "metadata": {"name": "g", "namespace": "vault"},
            "spec": {
                "from": [{"group": objects.X_GROUP, "kind": kind, "namespace": "shop"}],
                "to": [{"group": "", "kind": "Secret"}],
            },
        }
    )


def test_the_certificate_and_the_authorities_of_an_xbackend_are_read() -> None:
    assert watched_secrets([_xbackend()]) == {NamespacedName("shop", "client")}
    assert watched_config_maps([_xbackend()]) == {NamespacedName("shop", "ca")}


def test_a_certificate_of_another_namespace_is_read_only_with_a_grant_for_xbackends() -> None:
    theirs = _xbackend("vault")
    assert watched_secrets([theirs]) == frozenset()
    assert watched_secrets([theirs, _grant("Gateway")]) == frozenset()
    assert watched_secrets([theirs, _grant("XBackend")]) == {NamespacedName("vault", "client")}


def test_what_is_no_secret_is_not_read() -> None:
    assert watched_secrets([_xbackend(kind="ConfigMap")]) == frozenset()
