"""Statuses of policies and XBackends: an entry for each Gateway or Service that they are about.

One that cannot be read is Invalid wherever it is meant to be, as far as that can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from penstock.compiler.backend_tls import gateways_to_broken, policy_state
from penstock.compiler.backend_traffic import traffic_state
from penstock.compiler.broken import invalid
from penstock.compiler.database import Database
from penstock.compiler.external import SentFrom, external_state
from penstock.compiler.gateway_classes import tells_parents
from penstock.compiler.telemetry import is_of_others, telemetry_state
from penstock.compiler.written import entries, gateway_ref
from penstock.core.kinds import Service
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.backend_tls_policy import BackendTLSPolicy
from penstock.gatewayapi.backend_traffic_policy import XBackendTrafficPolicy
from penstock.gatewayapi.external_backend_kind import XBackend
from penstock.gatewayapi.telemetry_policy import XTelemetryPolicy
from penstock.incremental.query import query
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName, ObjectRef

Entry = tuple[dict[str, Any], tuple[Condition, ...]]
"""A reference to what a policy is about, and what it comes to there."""
POLICIES = frozenset({BackendTLSPolicy.kind, XBackendTrafficPolicy.kind, XTelemetryPolicy.kind})
OF_BACKENDS = POLICIES | {XBackend.kind}


def status_of_backend(db: Database, thing: Object | Broken) -> dict[str, Any] | None:
    """Return the status of a policy or an XBackend; None if it concerns nothing of ours."""
    if thing.ref.kind == XBackend.kind:
        return _external(db, thing)
    if isinstance(thing, Broken):
        said = (invalid(thing, "Accepted"),)
        return _ancestors((about, said) for about in broken_at.once(db, thing.ref))
    return _ancestors(policy_basis.once(db, thing.ref))


@query
def external_basis(db: Database, name: NamespacedName) -> tuple[SentFrom | None, bool]:
    """Return what the status of an XBackend is made of, and whether in the words of v1.6."""
    return external_state(db, name), tells_parents(db, None)


@query
def policy_basis(db: Database, ref: ObjectRef) -> tuple[Entry, ...]:
    """Return what the status of a policy is made of; of a broken one only whom it is about."""
    if db.broken_policies.get(ref) is not None:
        return tuple((about, ()) for about in broken_at(db, ref))
    if ref.kind == XTelemetryPolicy.kind:
        return telemetry_state(db, ref.key) or ()
    if ref.kind == XBackendTrafficPolicy.kind:
        return tuple((about, (one,)) for about, one in traffic_state(db, ref.key) or ())
    conditions, gateways = policy_state(db, ref.key) or ((), ())
    return tuple((gateway_ref(one), conditions) for one in gateways)


@query
def broken_at(db: Database, ref: ObjectRef) -> tuple[dict[str, Any], ...]:
    """Return whom a policy of which no more can be read is about."""
    if ref.kind == BackendTLSPolicy.kind:
        return tuple(map(gateway_ref, gateways_to_broken(db, ref.key)))
    return tuple(_targets_of_broken(db, ref))


def _targets_of_broken(db: Database, ref: ObjectRef) -> Iterator[dict[str, Any]]:
    for target in db.broken_policies.get(ref) or ():
        key = NamespacedName(ref.namespace, target.name)
        if ref.kind != XTelemetryPolicy.kind or not is_of_others(db, target, key):
            yield {
                "group": target.group,
                "kind": target.kind,
                "namespace": key.namespace,
                "name": key.name,
            }


def _ancestors(found: Iterable[Entry]) -> dict[str, Any] | None:
    ancestors = entries("ancestorRef", found)
    return {"ancestors": ancestors} if ancestors else None


def _external(db: Database, thing: Object | Broken) -> dict[str, Any] | None:
    found, older = external_basis.once(db, thing.key)
    if found is None or not found.senders:
        return None
    name, ref = ("parents", "parentRef") if older else ("ancestors", "ancestorRef")
    said = (
        (
            _service_ref(one.key) if one.kind == Service.kind else gateway_ref(one.key),
            found.conditions[one.kind],
        )
        for one in found.senders
    )
    return {name: entries(ref, said)}


def _service_ref(name: NamespacedName) -> dict[str, Any]:
    return {"group": "", "kind": Service.kind, "namespace": name.namespace, "name": name.name}
