"""Ingresses: put among Gateways and routes as what they mean, and what they came to.

What an Ingress means depends on its class, on canaries beside it, and on Services whose ports it
names. It is looked at again when one of them changes, once for each batch of events, and only what
came out different is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from penstock.compiler.database import Database
from penstock.compiler.gateway_addresses import is_ip, reached_at
from penstock.compiler.settings import Addressing
from penstock.core.events import Event, EventType
from penstock.core.kinds import Service
from penstock.core.objects import ObjectMeta
from penstock.core.ranges import AddressRanges
from penstock.gatewayapi.resources import CONTROLLER_NAME, GatewayClass, GatewayClassSpec
from penstock.incremental.query import query
from penstock.ingress.derive import (
    ENTRY_CLASS,
    Derived,
    gateway,
)
from penstock.ingress.derived import Read, canaries_of, read
from penstock.ingress.resources import Ingress, IngressClass
from penstock.ingress.rules import Canaries
from penstock.meta.names import NamespacedName


class IngressTable:
    """All Ingresses and their classes; what they mean goes into the collections of a database."""

    def __init__(self, db: Database) -> None:
        """Start without any."""
        self._db = db
        self._classes: dict[str, IngressClass] = {}
        self._ingresses: dict[NamespacedName, Ingress] = {}
        self._read: dict[str, dict[NamespacedName, Read]] = {}
        """Those of ours, by namespace."""
        self._canaries: dict[str, Canaries] = {}
        self._naming: dict[NamespacedName, dict[NamespacedName, None]] = {}
        """Service → Ingresses that name its ports."""
        self._known: dict[NamespacedName, Derived] = {}
        self._reached: dict[NamespacedName, dict[NamespacedName, Derived]] = {}
        """By entry."""
        self._touched: dict[str, dict[NamespacedName, None]] = {}
        """Ingresses to look at again, by namespace."""

    def take(self, event: Event) -> None:
        """Note a change of an Ingress, of a class, or of a Service whose ports have names."""
        thing, gone = event.object, event.type is EventType.DELETED
        kind = thing.kind
        if kind == IngressClass.kind:
            self._classes.pop(thing.metadata.name, None)
            if isinstance(thing, IngressClass) and not gone:
                self._classes[thing.metadata.name] = thing
                self._db.ingress_classes.set(thing.key, thing)
            else:
                self._db.ingress_classes.remove(thing.key)
            for key in self._ingresses:
                self._touch(key)
        elif kind == Ingress.kind:
            self._take(thing.key, thing if isinstance(thing, Ingress) and not gone else None)
        elif kind == Service.kind and self._naming:
            for key in self._naming.get(thing.key, ()):
                self._touch(key)

    def _take(self, key: NamespacedName, ingress: Ingress | None) -> None:
        old = self._ingresses.pop(key, None)
        for name in old.named_ports if old is not None else ():
            self._naming[name].pop(key)
            if not self._naming[name]:
                del self._naming[name]
        if ingress is not None:
            self._ingresses[key] = ingress
            for name in ingress.named_ports:
                self._naming.setdefault(name, {})[key] = None
        self._touch(key)

    def _touch(self, key: NamespacedName) -> None:
        self._touched.setdefault(key.namespace, {})[key] = None

    def settle(self) -> None:
        """Bring the collections up to date."""
        entries: dict[NamespacedName, None] = {}
        for namespace, touched in self._touched.items():
            for key in self._concerned(namespace, touched):
                one = self._read[namespace].get(key)
                canaries = self._canaries[namespace]
                new = None if one is None else one.derived(canaries, self._db.services.get)
                entries.update(dict.fromkeys(self._replace(key, new)))
            if not self._read[namespace]:
                del self._read[namespace], self._canaries[namespace]
        self._touched.clear()
        for name in entries:
            self._entry(name)

    def _concerned(
        self, namespace: str, touched: Collection[NamespacedName]
    ) -> Collection[NamespacedName]:
        """Read those that were *touched*; return whose meaning may have changed because of them."""
        here = self._read.setdefault(namespace, {})
        for key in touched:
            ingress = self._ingresses.get(key)
            found = None if ingress is None else read(ingress, self._classes)
            if found is None:
                here.pop(key, None)
            else:
                here[key] = found
        canaries = canaries_of(here.values())
        if canaries == self._canaries.setdefault(namespace, {}):
            return touched
        self._canaries[namespace] = canaries
        return dict.fromkeys([*touched, *here])

    def _replace(self, key: NamespacedName, new: Derived | None) -> Iterator[NamespacedName]:
        """Store what an Ingress means now; yield the entries that may be different."""
        old = self._known.pop(key, None)
        if new is not None:
            self._known[key] = new
        if old == new:
            return
        db = self._db
        before = {} if old is None else {one.ref: one for one in old.every_route}
        after = {} if new is None else {one.ref: one for one in new.every_route}
        for ref in before.keys() - after.keys():
            db.routes.remove(ref)
        for ref, route in after.items():
            if before.get(ref) != route:
                db.routes.set(ref, route)
        self._grant(old, new)
        for one in (old, new):
            if one is not None:
                self._reached.setdefault(one.entry, {}).pop(key, None)
                yield one.entry
        if new is None:
            db.ingresses.remove(key)
        else:
            self._reached[new.entry][key] = new
            db.ingresses.set(key, new)

    def _grant(self, old: Derived | None, new: Derived | None) -> None:
        before = old.grant if old is not None else None
        after = new.grant if new is not None else None
        if after is not None:
            self._db.grants.set(after.key, after)
        elif before is not None:
            self._db.grants.remove(before.key)

    def _entry(self, name: NamespacedName) -> None:
        class_key = NamespacedName("", ENTRY_CLASS)
        reached = self._reached.get(name)
        if reached:
            spec = GatewayClassSpec(controller_name=CONTROLLER_NAME)
            class_ = GatewayClass(metadata=ObjectMeta(name=ENTRY_CLASS), spec=spec)
            self._db.gateway_classes.set(class_key, class_)
            at_nodes = self._db.settings.addressing is Addressing.NODES
            made = gateway(name, tuple(reached.values()), at_nodes=at_nodes)
            self._db.put_gateway(name, made)
            return
        self._reached.pop(name, None)
        self._db.put_gateway(name, None)
        if not self._reached:
            self._db.gateway_classes.remove(class_key)


@query
def ingress_status(db: Database, name: NamespacedName) -> dict[str, Any] | None:
    """Return the status of an Ingress of ours; None of others."""
    found = db.ingresses.get(name)
    if found is None:
        return None
    addresses = reached_at(db, found.entry).addresses
    entries = [{"ip" if is_ip(one) else "hostname": one} for one in addresses]
    return {"loadBalancer": {"ingress": entries} if entries else {}}


def status_of_ingress(db: Database, ingress: Ingress) -> dict[str, Any] | None:
    """Return what is ours of the status of an Ingress; None if others write it.

    Of one that is not ours any more, addresses of our pool are taken away.
    """
    found = ingress_status.once(db, ingress.key)
    settings = db.settings
    if found is None and ingress.assigned and settings.addressing is Addressing.POOL:
        pool = AddressRanges(settings.gateway_pool)
        return {"loadBalancer": {}} if all(one in pool for one in ingress.assigned) else None
    return found
