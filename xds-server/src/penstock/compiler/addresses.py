"""Queries about who has an address.

An address stands for one Service or one pod. Where two claim it, which a source should not let
happen, the first by name or uid has it and the other is without: one answer on every replica.
"""

from __future__ import annotations

from penstock.compiler.claims import assigned, is_balanced
from penstock.compiler.database import Database, Workload
from penstock.incremental.query import query
from penstock.ir.policy import Reserved
from penstock.meta.names import NamespacedName


@query
def frontends(db: Database, name: NamespacedName) -> tuple[str, ...]:
    """Return all addresses by which pods reach a Service.

    Those are the virtual ones that it has to itself, and a LoadBalancer's.
    """
    service = db.services.get(name)
    if service is None:
        return ()
    own = (one for one in service.addresses if db.services.bucket("address", one)[0] == name)
    balanced = assigned(db, service.ref).addresses if is_balanced(service) else ()
    return (*own, *balanced)


@query
def workload_addresses(db: Database, uid: str) -> tuple[str, ...]:
    """Return the addresses that a pod has to itself."""
    workload = db.workloads.get(uid)
    return tuple(
        address
        for address in (workload.addresses if workload is not None else ())
        if db.workloads.bucket("address", address)[0] == uid
    )


@query
def workload_at(db: Database, address: str) -> Workload | None:
    """Return the workload that has *address*."""
    uids = db.workloads.bucket("address", address)
    return db.workloads.get(uids[0]) if uids else None


def identity_at(db: Database, address: str) -> int:
    """Return the identity behind *address*; WORLD if it is nobody's of ours.

    A node is REMOTE_NODE here, although at home it is HOST: what is computed is for all nodes.
    """
    return _identity_at(db, address) if anybody_has_address(db) else int(Reserved.WORLD)


def anybody_has_address(db: Database) -> bool:
    """Tell whether any workload or peer has ever had an address."""
    return db.workloads.ever("address") or db.peers.ever("address")


@query
def _identity_at(db: Database, address: str) -> int:
    uids = db.workloads.bucket("address", address)
    workload = db.workloads.get(uids[0]) if uids else None
    if workload is not None:
        return workload.identity
    names = db.peers.bucket("address", address)
    peer = db.peers.get(names[0]) if names else None
    return int(Reserved.WORLD) if peer is None else peer.identity


@query
def peer_addresses(db: Database, name: str) -> tuple[str, ...]:
    """Return the addresses that a peer has to itself; a workload comes first."""
    peer = db.peers.get(name)
    return tuple(
        address
        for address in (peer.addresses if peer is not None else ())
        if workload_at(db, address) is None and db.peers.bucket("address", address)[0] == name
    )
