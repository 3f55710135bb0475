"""The kind ListenerSet: listeners that somebody else than its owner gives to a Gateway.

Source: Gateway API v1.7 CRD, experimental channel; GEP-1713.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from typing_extensions import override

from penstock.core.objects import ApiStruct, Object
from penstock.gatewayapi.fields import (
    GATEWAY_GROUP,
    Group,
    Kind,
    Namespace,
    ObjectName,
    at_most,
    unique,
)
from penstock.gatewayapi.resources import MAX_LISTENERS, Gateway, Listener
from penstock.meta.names import NamespacedName
from penstock.meta.problems import Problem


class ParentGatewayReference(ApiStruct, frozen=True, kw_only=True):
    """The Gateway that gets the listeners."""

    group: Group = GATEWAY_GROUP
    kind: Kind = "Gateway"
    name: ObjectName
    namespace: Namespace | None = None


class ListenerSetSpec(ApiStruct, frozen=True, kw_only=True):
    """What is added to which Gateway."""

    parent_ref: ParentGatewayReference
    listeners: tuple[Listener, ...]

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        yield from at_most("listeners", self.listeners, MAX_LISTENERS)
        if not self.listeners:
            yield Problem("listeners", "must have at least one element")
        yield from unique("listeners", (listener.name for listener in self.listeners), "name")


class ListenerSet(Object, frozen=True, kw_only=True):
    """Listeners for a Gateway."""

    api_versions: ClassVar[tuple[str, ...]] = (f"{GATEWAY_GROUP}/v1",)
    kind: ClassVar[str] = "ListenerSet"

    spec: ListenerSetSpec

    @property
    def gateway(self) -> NamespacedName | None:
        """Return the name of the Gateway; None if the parent is of another kind."""
        parent = self.spec.parent_ref
        if (parent.group, parent.kind) != (GATEWAY_GROUP, Gateway.kind):
            return None
        return NamespacedName(parent.namespace or self.metadata.namespace, parent.name)


ListenerHolder = Gateway | ListenerSet
"""What has listeners."""
