"""Which Secrets are read because of Ingresses: those that Ingresses of ours name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from penstock.core.objects import Broken, Object
from penstock.ingress.annotations import options
from penstock.ingress.derive import certificates
from penstock.ingress.reader import PREFIXES
from penstock.ingress.resources import Ingress, IngressClass, class_of
from penstock.meta.names import NamespacedName


def watched_secrets(objects: Iterable[Object | Broken]) -> frozenset[NamespacedName]:
    """Return the Secrets to read, given all objects of the kinds `HOLDERS`."""
    every = tuple(objects)
    classes = {one.metadata.name: one for one in every if isinstance(one, IngressClass)}
    return frozenset(
        NamespacedName(one.metadata.namespace, secret)
        for one in every
        if isinstance(one, Ingress) and class_of(one, classes) is not None
        for secret in _named(one)
    )


def _named(ingress: Ingress) -> Iterator[str]:
    if not any(name.startswith(PREFIXES) for name in ingress.metadata.annotations):
        yield from (secret for _, secret in certificates(ingress))
        return
    asked = options(ingress)
    if asked.passthrough:
        return
    yield from (secret for _, secret in certificates(ingress))
    tls = None if asked.upstream is None else asked.upstream.tls
    if tls is not None and tls.secret is not None:
        yield tls.secret.name
