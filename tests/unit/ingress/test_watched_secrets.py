"""Which Secrets are read because of Ingresses."""

from __future__ import annotations

from penstock.ingress.watched_secrets import watched_secrets
from penstock.meta.names import NamespacedName
from support.ingress_objects import ingress, ingress_class

TLS = [{"hosts": ["a.test"], "secretName": "cert"}, {"hosts": ["b.test"]}]
CERT = NamespacedName("shop", "cert")


def test_secrets_of_ingresses_of_ours_are_read_and_no_others() -> None:
    ours, foreign = ingress("a", tls=TLS), ingress("b", tls=TLS, ingressClassName="other")
    assert watched_secrets([ingress_class(), ours]) == {CERT}
    assert watched_secrets([ingress_class(), foreign]) == frozenset()
    assert watched_secrets([ours]) == frozenset()
    assert watched_secrets([ingress_class(controller="example.com/x"), ours]) == frozenset()


def test_without_a_class_the_default_class_decides() -> None:
    unnamed = ingress("a", tls=TLS, ingressClassName=None)
    assert watched_secrets([ingress_class(), unnamed]) == frozenset()
    assert watched_secrets([ingress_class(default=True), unnamed]) == {CERT}
