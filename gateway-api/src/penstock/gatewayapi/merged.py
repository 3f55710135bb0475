"""All listeners of a Gateway: its own, then those of the ListenerSets that it lets in.

Source: Gateway API v1.7, ListenerSetSpec.listeners: the Gateway comes first, then ListenerSets by
age, then by "namespace/name". Among a Gateway's own listeners that cannot be told apart there is no
winner; a ListenerSet's listener loses against all that come before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from penstock.gatewayapi.attach import NAMESPACE_NAME_LABEL, welcomes
from penstock.gatewayapi.client_certificates import NO_CHECKS, ClientCheck, ClientChecks
from penstock.gatewayapi.listener_set import ListenerHolder, ListenerSet
from penstock.gatewayapi.listener_tls import (
    ListenerCertificates,
    covered_by_certificates,
    is_https,
    overlaps,
)
from penstock.gatewayapi.listeners import (
    ALONE,
    CLASSES,
    HOSTNAME_CONFLICT,
    PROTOCOL_CONFLICT,
    TOO_MANY,
    UNSUPPORTED_FILTER,
    Reason,
    Tls,
    conflicts,
    listener_fault,
)
from penstock.gatewayapi.resources import Gateway, Listener, RouteNamespaces
from penstock.meta.limits import LISTENERS_OF_A_GATEWAY
from penstock.meta.names import NamespacedName, ObjectRef


class PlacedListener(msgspec.Struct, frozen=True, kw_only=True):
    """A listener and whose it is."""

    holder: ObjectRef
    """The Gateway or the ListenerSet."""
    own: Listener
    """As it is written."""
    place: str
    """Its name among all listeners of the Gateway, see `place_of`."""
    conflict: str | None = None
    """The reason, if it cannot be told from another one."""
    fault: Reason | None = None
    """Why it is not accepted, None if it is."""
    clients: ClientCheck | None = None
    """How its clients are checked."""

    @property
    def listener(self) -> Listener:
        """Return the listener under its name among all of them."""
        return msgspec.structs.replace(self.own, name=self.place)


def place_of(holder: ObjectRef, listener: str) -> str:
    """Return the name of a listener of *holder* that no other listener of its Gateway has."""
    return listener if holder.kind == Gateway.kind else f"{holder.key}/{listener}"


def lets_in(gateway: Gateway, added: ListenerSet, namespace_labels: Mapping[str, str]) -> bool:
    """Return whether *gateway* takes listeners of *added*.

    Args:
        gateway: the parent.
        added: the ListenerSet.
        namespace_labels: those of its namespace.
    """
    wanted = gateway.spec.allowed_listeners.namespaces
    rule = RouteNamespaces(from_=wanted.from_, selector=wanted.selector)
    namespace = added.metadata.namespace
    labels = {NAMESPACE_NAME_LABEL: namespace, **namespace_labels}
    return welcomes(rule, gateway.metadata.namespace, namespace, labels)


def merged(
    gateway: Gateway,
    added: Iterable[ListenerSet],
    checks: ClientChecks = NO_CHECKS,
    limit: int = LISTENERS_OF_A_GATEWAY,
) -> tuple[PlacedListener, ...]:
    """Return all listeners of *gateway*, with what keeps them from being served.

    Args:
        gateway: one of ours.
        added: the ListenerSets that it lets in, in any order.
        checks: how its clients are checked.
        limit: so many listeners are taken.
    """
    found = list(_own(gateway, checks))
    ports = _Ports(each.own for each in found if each.conflict is None)
    taken = len(found)
    for one in sorted(added, key=lambda each: (each.metadata.creation_timestamp, str(each.key))):
        for listener in one.spec.listeners:
            conflict = ports.clash(listener)
            placed = _placed(gateway, one, listener, conflict, checks.at(listener.port))
            if conflict is None and taken >= limit:
                text = f"the Gateway has {limit} listeners already, which is the most"
                placed = msgspec.structs.replace(placed, fault=Reason(TOO_MANY, text))
            elif conflict is None:
                ports.keep(listener)
                taken += 1
            found.append(placed)
    return tuple(found)


def tls_of(
    placed: Sequence[PlacedListener], certificates: Mapping[str, ListenerCertificates]
) -> dict[str, Tls]:
    """Return what is known of the TLS of each listener of a Gateway, by its place.

    Args:
        placed: all its listeners.
        certificates: what the certificateRefs of each came to, by its place.
    """
    here = [one.listener for one in placed if one.fault is None]
    overlapping, covered = overlaps(here), covered_by_certificates(here, certificates)
    return {
        one.place: Tls(
            certificates=certificates.get(one.place),
            overlapping=overlapping.get(one.place, ()),
            covered=covered.get(one.place, ()),
            clients=one.clients,
        )
        for one in placed
    }


def served(placed: Iterable[PlacedListener]) -> tuple[PlacedListener, ...]:
    """Return those of *placed* that get traffic at an accepted Gateway: the accepted ones.

    Those with filters that are not served are among them, so that what is theirs is answered with
    500 and is no wider listener's.
    """
    return tuple(
        one for one in placed if one.fault is None or one.fault.reason == UNSUPPORTED_FILTER
    )


def holders(gateway: NamespacedName, added: Iterable[ListenerSet]) -> tuple[ObjectRef, ...]:
    """Return the Gateway and the ListenerSets as objects."""
    own = ObjectRef(Gateway.kind, gateway.namespace, gateway.name)
    return (own, *(one.ref for one in added))


def _own(gateway: Gateway, checks: ClientChecks) -> Iterator[PlacedListener]:
    conflicting = conflicts(gateway.spec.listeners)
    for listener in gateway.spec.listeners:
        conflict, check = conflicting.get(listener.name), checks.at(listener.port)
        yield _placed(gateway, gateway, listener, conflict, check)


def _placed(
    gateway: Gateway,
    holder: ListenerHolder,
    listener: Listener,
    conflict: str | None,
    check: ClientCheck | None,
) -> PlacedListener:
    return PlacedListener(
        holder=holder.ref,
        own=listener,
        place=place_of(holder.ref, listener.name),
        conflict=conflict,
        fault=listener_fault(gateway.spec, listener, conflict, check),
        clients=check if is_https(listener) else None,
    )


class _Ports:
    """What the listeners of a Gateway use, so that a newcomer is compared with its port only."""

    def __init__(self, kept: Iterable[Listener]) -> None:
        """Begin with *kept*, which can be told apart."""
        self._used: dict[tuple[int, bool], dict[str, str]] = {}
        """(port, whether it is one of UDP) → hostname → protocol."""
        for one in kept:
            self.keep(one)

    def keep(self, listener: Listener) -> None:
        """Take *listener*, which `clash` found to be no conflict."""
        if listener.protocol in CLASSES:
            self._used.setdefault(_port(listener), {})[listener.hostname or ""] = listener.protocol

    def clash(self, listener: Listener) -> str | None:
        """Return the reason if *listener* cannot be told from one that was taken."""
        used = self._used.get(_port(listener))
        if not used or listener.protocol not in CLASSES:
            return None
        first = next(iter(used.values()))
        if CLASSES[first] != CLASSES[listener.protocol] or first in ALONE:
            return PROTOCOL_CONFLICT
        same = used.get(listener.hostname or "")
        if same is None:
            return None
        return HOSTNAME_CONFLICT if same == listener.protocol else PROTOCOL_CONFLICT


def _port(listener: Listener) -> tuple[int, bool]:
    return listener.port, listener.protocol == "UDP"
