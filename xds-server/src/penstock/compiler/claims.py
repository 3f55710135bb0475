"""Who gets which address of the pool: Gateways, and Services of type LoadBalancer.

The answer is the same on every replica and after every restart: it depends on the objects and on
nothing else. What an object's status says it has, it keeps, so that nobody's address moves because
somebody else came; then what objects ask for; then everybody else in the order of names, each at
the first free address of a sequence that is a hash of its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import fault_of, is_inside, ours
from penstock.compiler.indexes import ALL
from penstock.compiler.settings import Addressing, Reach
from penstock.core.kinds import Service
from penstock.core.ranges import AddressRanges
from penstock.gatewayapi.generated import is_generated
from penstock.gatewayapi.requested_addresses import requested, wanted
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName, ObjectRef

LOAD_BALANCER_CLASS = "penstock.dev/pool"
"""spec.loadBalancerClass of Services that are ours; those without a class are, too."""
_HASHED = 64
"""So many candidates are hashes; then every address of the pool follows in turn."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What one object asks for."""

    by: ObjectRef
    since: str
    """When it was made, as RFC 3339: the older one keeps an address that two have."""
    wanted: tuple[str, ...] = ()
    any_more: bool = True
    """Whether it takes one of our choice, besides those that it wants."""
    held: tuple[str, ...] = ()
    """What its status says it has."""

    @property
    def rank(self) -> tuple[str, str]:
        """Return its place among those that hold or want the same."""
        return self.since, self.seed

    @property
    def seed(self) -> str:
        """Return the name of which its addresses are a hash."""
        return str(self.by.key) if self.by.kind == "Gateway" else f"{self.by.kind}/{self.by.key}"


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What one object gets."""

    addresses: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    """(address, why) of those that it wants and does not get."""
    lacking: str = ""
    """Why it did not get one of our choice, "" if it did or does not need one."""


NOTHING = Assignment()


@query
def assigned(db: Database, ref: ObjectRef) -> Assignment:
    """Return what an object gets from the pool."""
    return assignments(db, None).get(ref, NOTHING)


@query
def assignments(db: Database, _: None) -> dict[ObjectRef, Assignment]:
    """Return what everybody gets from the pool."""
    settings = db.settings
    if settings.reach is Reach.CLUSTER and settings.addressing is not Addressing.POOL:
        return {}
    pool = AddressRanges(settings.gateway_pool)
    never = frozenset[int]() if settings.reach is Reach.CLUSTER else frozenset({0})
    return share_out(pool, _claims(db), never)


def _claims(db: Database) -> Iterator[Claim]:
    for name in db.gateways.bucket("all", ALL):
        claim = gateway_claim(db, name)
        if claim is not None:
            yield claim
    if db.settings.reach is Reach.CLUSTER:
        for name in db.services.bucket("balanced", ALL):
            claim = service_claim(db, name)
            if claim is not None:
                yield claim


@query
def gateway_claim(db: Database, name: NamespacedName) -> Claim | None:
    """Return what a Gateway asks for; None if it is none of ours, not accepted, or for inside."""
    gateway = ours(db, name)
    if gateway is None or fault_of(db, name) is not None or is_inside(db, name):
        return None
    asked = wanted(gateway.spec)
    return Claim(
        by=gateway.ref,
        since=gateway.metadata.creation_timestamp,
        wanted=asked,
        any_more=len(asked) < max(1, len(requested(gateway.spec))),
        held=db.held.get(name) or (),
    )


@query
def service_claim(db: Database, name: NamespacedName) -> Claim | None:
    """Return what a Service asks for; None if it is no LoadBalancer of ours."""
    service = db.services.get(name)
    if service is None or not is_balanced(service):
        return None
    wanted = (service.spec.load_balancer_ip,) if service.spec.load_balancer_ip else ()
    return Claim(
        by=service.ref,
        since=service.metadata.creation_timestamp,
        wanted=wanted,
        any_more=not wanted,
        held=tuple(one.ip for one in service.status.load_balancer.ingress if one.ip),
    )


def is_balanced(service: Service) -> bool:
    """Return whether a Service is a LoadBalancer that we are asked to be."""
    spec = service.spec
    ours_ = spec.load_balancer_class in ("", LOAD_BALANCER_CLASS)
    users = not is_generated(service.metadata.labels)
    return spec.type == "LoadBalancer" and ours_ and users and bool(service.addresses)


def share_out(
    pool: AddressRanges, claims: Iterable[Claim], never: frozenset[int] = frozenset()
) -> dict[ObjectRef, Assignment]:
    """Return what everybody gets.

    Args:
        pool: all addresses.
        claims: in any order.
        never: numbers of addresses in the pool that nobody gets.
    """
    everybody = sorted(claims, key=lambda one: one.rank)
    taken: dict[int, ObjectRef] = dict.fromkeys(never, ObjectRef("", "", ""))
    got: dict[ObjectRef, list[str]] = {one.by: [] for one in everybody}

    def take(claim: Claim, index: int | None) -> bool:
        if index is None or index in taken:
            return False
        taken[index] = claim.by
        got[claim.by].append(pool[index])
        return True

    for claim in everybody:
        for address in _kept(pool, claim):
            take(claim, pool.index(address))
    for claim in everybody:
        for address in claim.wanted:
            take(claim, pool.index(address))
    for claim in sorted(everybody, key=lambda one: one.seed):
        if claim.any_more and all(pool.index(a) in _indexes(pool, claim) for a in got[claim.by]):
            next((True for index in _candidates(pool, claim.seed) if take(claim, index)), False)
    return {one.by: _assignment(pool, one, got[one.by], taken) for one in everybody}


def _kept(pool: AddressRanges, claim: Claim) -> Iterator[str]:
    """Yield what a claim keeps of what it has: what it wants, and one of our choice."""
    wanted = _indexes(pool, claim)
    free = claim.any_more
    for address in claim.held:
        index = pool.index(address)
        if index is not None and (index in wanted or free):
            free = free and index in wanted
            yield address


def _indexes(pool: AddressRanges, claim: Claim) -> frozenset[int]:
    found = (pool.index(address) for address in claim.wanted)
    return frozenset(index for index in found if index is not None)


def _candidates(pool: AddressRanges, seed: str) -> Iterator[int]:
    """Yield numbers of addresses, the preferred one first, each of the pool at least once."""
    size = len(pool)
    for place in range(_HASHED):
        yield _hashed(seed, place) % size
    first = _hashed(seed, 0)
    for step in range(size):
        yield (first + step) % size


def _hashed(seed: str, place: int) -> int:
    digest = hashlib.sha256(f"{seed}\0{place}".encode()).digest()
    return int.from_bytes(digest[:16], "big")


def _assignment(
    pool: AddressRanges, claim: Claim, got: list[str], taken: Mapping[int, ObjectRef]
) -> Assignment:
    have = {pool.index(address) for address in got}
    wanted = _indexes(pool, claim)
    refused: list[tuple[str, str]] = []
    for address in claim.wanted:
        index = pool.index(address)
        if index is None:
            refused.append((address, f"is not in the pool {pool}"))
        elif index not in have:
            holder = taken[index]
            refused.append((address, f"is {holder}'s" if holder.kind else "is reserved"))
    chosen = any(pool.index(address) not in wanted for address in got)
    lacking = f"the pool {pool} is used up" if claim.any_more and not chosen else ""
    return Assignment(addresses=tuple(got), refused=tuple(refused), lacking=lacking)
