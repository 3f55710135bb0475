"""Queries about XBackends: what each comes to, and the pods that it selects."""

from __future__ import annotations

from penstock.compiler.database import Database, ReadyPod
from penstock.compiler.usable_secrets import certificate_sources
from penstock.core.pods import Pod
from penstock.gatewayapi.external_backends import Sources, Understood, understood
from penstock.gatewayapi.faults import Fault
from penstock.incremental.query import query
from penstock.ir.backend_tls import BackendTls
from penstock.ir.external import Place, Selected
from penstock.meta.names import NamespacedName


def set_ready(db: Database, name: NamespacedName, pod: Pod | None) -> None:
    """Take over whether, and where, a pod may be sent to; None if it is gone.

    A pod that ends is left out as soon as that is known, as EndpointSlices do it.
    """
    unheard = pod is not None and pod.is_unheard_of
    ready = pod is not None and (pod.ready or unheard)
    if pod is None or not ready or not pod.addresses or pod.metadata.deletion_timestamp:
        db.ready_pods.remove(name)
    else:
        made = ReadyPod(addresses=pod.addresses, labels=pod.metadata.labels, unheard=unheard)
        db.ready_pods.set(name, made)


@query
def xbackend(db: Database, name: NamespacedName) -> Understood | None:
    """Return what an XBackend comes to; None if there is none."""
    backend = db.externals.get(name)
    if backend is None:
        return None
    sources = Sources(trust=db.trust_sources, certificates=certificate_sources(db))
    return understood(backend, sources)


@query
def external_place(db: Database, name: NamespacedName) -> Place | Fault | None:
    """Return where an XBackend leads, or why nowhere; None if there is none."""
    found = xbackend(db, name)
    return None if found is None else found.place


@query
def selected_pods(db: Database, name: NamespacedName) -> dict[str, NamespacedName]:
    """Return address → pod for the ready pods that an XBackend selects.

    If there is none, for those whose nodes nobody hears of.
    """
    place = external_place(db, name)
    if not isinstance(place, Selected) or not place.labels:
        return {}
    having = [
        frozenset(db.ready_pods.bucket("label", (place.namespace, *one))) for one in place.labels
    ]
    ready: dict[str, NamespacedName] = {}
    unheard: dict[str, NamespacedName] = {}
    for key in sorted(having[0].intersection(*having[1:])):
        pod = db.ready_pods.get(key)
        if pod is not None:
            (unheard if pod.unheard else ready).update(dict.fromkeys(pod.addresses, key))
    return ready or unheard


@query
def selects_nothing(db: Database, name: NamespacedName) -> bool:
    """Tell whether an XBackend selects pods, and none is ready."""
    return isinstance(external_place(db, name), Selected) and not selected_pods(db, name)


def selected_port(db: Database, name: NamespacedName) -> int:
    """Return the port on which the pods of an XBackend are asked; 0 if it leads nowhere."""
    place = external_place(db, name)
    return place.port if isinstance(place, Selected) else 0


def selected_tls(db: Database, name: NamespacedName) -> BackendTls | None:
    """Return how the pods of an XBackend are met; None is without TLS."""
    place = external_place(db, name)
    return place.tls if isinstance(place, Selected) else None
