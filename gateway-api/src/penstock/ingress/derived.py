"""What the Ingresses of a namespace mean together: canaries belong to the Ingress beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from penstock.ingress.annotations import Options, options
from penstock.ingress.derive import Derived, FindService, age, derive
from penstock.ingress.resources import Ingress, IngressClass, class_of
from penstock.ingress.rules import Canaries, CanaryAt, canary_key
from penstock.meta.names import NamespacedName


class Read(msgspec.Struct, frozen=True):
    """An Ingress of ours by itself."""

    ingress: Ingress
    class_name: str
    asked: Options
    """What its annotations come to."""

    def derived(self, canaries: Canaries, service: FindService) -> Derived:
        """Return what it means beside *canaries*; *service* finds Services."""
        return derive(self.ingress, self.class_name, self.asked, canaries, service)


def read(ingress: Ingress, classes: dict[str, IngressClass]) -> Read | None:
    """Return what *ingress* says if it is ours, given all IngressClasses by name."""
    class_ = class_of(ingress, classes)
    return None if class_ is None else Read(ingress, class_.metadata.name, options(ingress))


def canaries_of(every: Iterable[Read]) -> Canaries:
    """Return the canaries among the Ingresses of one namespace, which are in any order."""
    found: dict[tuple[str, str, str], list[CanaryAt]] = {}
    asking = (one for one in every if one.asked.canary is not None and not one.asked.closed)
    for one in sorted(asking, key=lambda each: age(each.ingress)):
        for rule in one.ingress.spec.rules:
            for path in rule.http.paths if rule.http is not None else ():
                if one.asked.canary is not None:
                    name = one.ingress.metadata.name
                    canary = CanaryAt(asked=one.asked.canary, backend=path.backend, name=name)
                    found.setdefault(canary_key(rule.host, path), []).append(canary)
    return found


def derived(
    ingresses: Iterable[Ingress], classes: dict[str, IngressClass], service: FindService
) -> Mapping[NamespacedName, Derived]:
    """Return what the Ingresses of ours mean.

    Args:
        ingresses: all of one namespace, in any order.
        classes: all IngressClasses, by name.
        service: finds Services.
    """
    ours = [found for one in ingresses if (found := read(one, classes)) is not None]
    canaries = canaries_of(ours)
    return {one.ingress.key: one.derived(canaries, service) for one in ours}
