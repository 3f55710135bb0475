"""Classes that files name and do not have: they are the cluster's, and mostly not in a repository.

Without them nothing of a Gateway or an Ingress would be judged. So they are taken for ours, and
that is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from penstock.core.decode import Decoded
from penstock.core.objects import Object, ObjectMeta
from penstock.gatewayapi.resources import CONTROLLER_NAME as GATEWAY_CONTROLLER
from penstock.gatewayapi.resources import Gateway, GatewayClass, GatewayClassSpec
from penstock.ingress.resources import CONTROLLER_NAME as INGRESS_CONTROLLER
from penstock.ingress.resources import (
    DEFAULT_ANNOTATION,
    Ingress,
    IngressClass,
    IngressClassSpec,
)
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Problem, Severity

OURS = "penstock"
"""The classes that the chart makes: nothing is said of them where they are named."""
_HINT = "as another controller's it would be passed over; name a class of Penstock's"


class Assumed(msgspec.Struct, frozen=True):
    """A class that is taken for ours."""

    made: Object
    users: tuple[tuple[ObjectRef, str], ...]
    """Of whom it is told, each with the path where."""

    @property
    def text(self) -> str:
        """Return what is to be said of it."""
        return f"{self.made.kind} {self.made.metadata.name} is not in these files: taken for ours"

    def told(self) -> Iterator[tuple[ObjectRef, Problem]]:
        """Yield the same at each object that names it."""
        for ref, path in self.users:
            yield ref, Problem(path, self.text, _HINT, Severity.WARNING)


def assumed_classes(objects: Sequence[Decoded]) -> list[Assumed]:
    """Return the classes that *objects* name, or are silent about, and that are not among them."""
    known = {one.ref for one in objects}
    return [
        one
        for one in (*_of_gateways(objects), *_of_ingresses(objects))
        if one.made.ref not in known
    ]


def _of_gateways(objects: Iterable[Decoded]) -> Iterator[Assumed]:
    users: dict[str, list[tuple[ObjectRef, str]]] = {}
    for one in objects:
        if isinstance(one, Gateway):
            path = "spec.gatewayClassName"
            users.setdefault(one.spec.gateway_class_name, []).append((one.ref, path))
    for name, refs in sorted(users.items()):
        made = GatewayClass(
            metadata=ObjectMeta(name=name),
            spec=GatewayClassSpec(controller_name=GATEWAY_CONTROLLER),
        )
        yield Assumed(made, tuple(sorted(refs)) if name != OURS else ())


def _of_ingresses(objects: Sequence[Decoded]) -> Iterator[Assumed]:
    users: dict[str | None, list[tuple[ObjectRef, str]]] = {}
    for one in objects:
        if isinstance(one, Ingress):
            users.setdefault(one.class_name, []).append((one.ref, "spec.ingressClassName"))
    silent = users.pop(None, [])
    if silent and not any(isinstance(one, IngressClass) and one.is_default for one in objects):
        users.pop(OURS, None)
        yield _ingress_class(OURS, silent, {DEFAULT_ANNOTATION: "true"})
    for name, refs in sorted((name, refs) for name, refs in users.items() if name is not None):
        yield _ingress_class(name, refs if name != OURS else (), {})


def _ingress_class(
    name: str, users: Iterable[tuple[ObjectRef, str]], annotations: dict[str, str]
) -> Assumed:
    made = IngressClass(
        metadata=ObjectMeta(name=name, annotations=annotations),
        spec=IngressClassSpec(controller=INGRESS_CONTROLLER),
    )
    return Assumed(made, tuple(sorted(users)))
