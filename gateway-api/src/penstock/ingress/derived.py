"""What the Ingresses of a namespace mean together: canaries belong to the Ingress beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from penstock.ingress.annotations import options
from penstock.ingress.derive import Derived, FindService, age, derive
from penstock.ingress.resources import Ingress, IngressClass, class_of
from penstock.ingress.rules import Canaries, CanaryAt, canary_key
from penstock.meta.names import NamespacedName


def derived(
    ingresses: Iterable[Ingress], classes: dict[str, IngressClass], service: FindService
) -> Mapping[NamespacedName, Derived]:
    """Return what the Ingresses of ours mean.

    Args:
        ingresses: all of one namespace, in any order.
        classes: all IngressClasses, by name.
        service: finds Services.
    """
    ours = {one.key: one for one in ingresses if class_of(one, classes) is not None}
    canaries = _canaries(ours.values())
    found: dict[NamespacedName, Derived] = {}
    for key, ingress in ours.items():
        class_ = class_of(ingress, classes)
        if class_ is not None:
            found[key] = derive(ingress, class_.metadata.name, canaries, service)
    return found


def _canaries(ingresses: Iterable[Ingress]) -> Canaries:
    found: dict[tuple[str, str, str], list[CanaryAt]] = {}
    for ingress in sorted(ingresses, key=age):
        asked = options(ingress)
        if asked.canary is None or asked.closed:
            continue
        for rule in ingress.spec.rules:
            for path in rule.http.paths if rule.http is not None else ():
                one = CanaryAt(asked=asked.canary, backend=path.backend, name=ingress.metadata.name)
                found.setdefault(canary_key(rule.host, path), []).append(one)
    return found
