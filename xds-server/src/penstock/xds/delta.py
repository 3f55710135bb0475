"""One client's delta xDS stream as a state machine without IO and without a clock.

Theory of operation. Events come in: a request of the client (`on_request`), a change of the
snapshot (`on_change`), the passing of time (`on_time`, due at `next_time`). They only mark names as
to be looked at again. When the client can be written to, `responses` looks at the marked names and
says what to send. So a client that is slow to read costs no memory beyond one mark for a name, and
when it reads again it gets the latest version and none between.

What goes when:

* One response of a type is under way at a time. Scopes and route configurations, which Envoy
  refuses by the response, go one to a response and up to WINDOW at a time instead. Only the
  first scopes go all together: with the answer to them Envoy opens its listeners, and what it has
  no scope for then is answered 404.
* Types go in the order of `types.SENDING_ORDER`. A resource also waits until the client accepted
  the current version of each resource that it `needs`; of a cluster, also of its endpoints. It
  does not wait for what the client refused, never asked for, or what does not exist; nor longer
  than `patience`, because Envoy answers no cluster update while one new cluster cannot warm.
* After a cluster that the client had in another version, its endpoints are sent again, even if
  they did not change: Envoy warms the new cluster with the next answer only, and stalls without.
  The same goes for a cluster whose endpoints have a name of their own, which it may share with
  others: Envoy does not ask again for what it asks for already. (Only to a client that asks for
  endpoints by name, as Envoy does.)
* With its last listener Envoy forgets the scopes, and does not ask again when it gets another one:
  a listener that knows no scope answers 404 to everything. So to a client that has no listener of a
  pod, which surely reads them, all scopes are sent again after each new listener, together.
* Removals go in responses of their own, in the order of `types.REMOVAL_ORDER`: a type waits until
  those before it have nothing left to remove, and a resource stays for as long as the client has,
  or may have, something that needs it.
* In place of a Secret something else may go (`penstock.xds.withdrawals`).
* A client that comes back says what it has (initial_resource_versions). It is sent the difference.

When the client refuses a response (NACK), it keeps what it had. If the response held one resource,
that version is quarantined: not sent again until it changes. If it held several, Envoy took some,
none or all others, and does not say which; so each is sent again alone, and those that are refused
again are the culprits. All others go on meanwhile.

Clusters have a trap of their own. Envoy may keep a refused new cluster as one that warms for ever;
then it answers no cluster response any more, and takes the same cluster, sent again, without a
word. So the new clusters of a refused or unanswered response are removed; then those that are not
known to be bad are sent again, each after the answer to the last.

Source: xDS REST and gRPC protocol, incremental xDS; behaviour of Envoy 1.40 as tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain

import msgspec

from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.xds import framing, types
from penstock.xds.checkpoint import MANY
from penstock.xds.client import Client, endpoints_named
from penstock.xds.resource import Resource, ResourceName
from penstock.xds.snapshot import Delta, Snapshot
from penstock.xds.subscription import Sent, Subscription
from penstock.xds.verdict import Accepted, Cleared, Rejection, Verdict
from penstock.xds.withdrawals import StandIn, Withdrawals

WINDOW = 64
"""Responses of one resource that may be under way at a time, for one type."""
PATIENCE = 10.0
"""Seconds; below the 15 s after which Envoy starts listeners without their routes."""
WHOLE_PATIENCE = 3
"""So many times as long a client waits for the word that it has everything, while that changes."""
BATCH_BYTES = 1 << 18
"""A response is closed once it holds that much: some 1,000 clusters, 0.5 s of Envoy's time."""
_WILDCARD = "*"


class Response(msgspec.Struct, frozen=True):
    """A response to send."""

    type_url: str
    nonce: str
    payload: bytes
    """A serialised DeltaDiscoveryResponse."""


class DeltaStream:
    """What one client gets, from its first request to the end of its stream."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        patience: float = PATIENCE,
        many: int = MANY,
        stand_in: StandIn | None = None,
    ) -> None:
        """Serve *snapshot*, whose later changes are told by `on_change`.

        A resource waits for another, and a type for an answer, *patience* seconds at most. Once the
        client has *many* resources of a type they are held together with those of others.
        """
        self._many = many
        self._client = Client(snapshot)
        self._patience = patience
        self._awaited_endpoints: set[str] = set()
        """Endpoints of clusters that were sent changed before the client asked for any at all."""
        self._took_back: dict[str, str] = {}
        """Clusters that were retracted, by version: once is enough for one that is slow to warm."""
        self._withdrawals = Withdrawals(self._client, stand_in)
        self._nonce = 0

    # What is known of the client

    @property
    def acked(self) -> dict[str, dict[str, str]]:
        """Return type → name → version of all that the client has."""
        return {url: dict(s.acked) for url, s in self._client.subscriptions.items()}

    @property
    def rejected(self) -> dict[ResourceName, Rejection]:
        """Return what is quarantined."""
        every = (s.rejected.values() for s in self._client.subscriptions.values())
        return {rejection.key: rejection for rejection in chain.from_iterable(every)}

    @property
    def pending(self) -> dict[str, frozenset[str]]:
        """Return type → names that are not as they should be, for types that have any.

        A name is not pending if the client has what it should or refused it.
        """
        unsettled = ((url, s.unsettled()) for url, s in self._client.subscriptions.items())
        return {url: names for url, names in unsettled if names}

    def settled(self, key: ResourceName) -> bool:
        """See Client."""
        return self._client.settled(key)

    def calm(self, type_url: str) -> bool:
        """Return whether the client asks for a type and has said its word on all of it."""
        subscription = self._client.subscriptions.get(type_url)
        return subscription is not None and not subscription.unsettled()

    def verdicts(self) -> list[Verdict]:
        """Return what the client has said since the last call."""
        verdicts, self._client.verdicts = self._client.verdicts, []
        return verdicts

    # Events

    def on_request(self, request: discovery_pb2.DeltaDiscoveryRequest, now: float) -> None:
        """Take one request: an answer to a response, a change of subscription, or both.

        All *now* are seconds of one clock that does not go back.
        """
        self.on_time(now)
        subscription = self._client.subscriptions.get(request.type_url)
        first = subscription is None
        if subscription is None:
            if request.type_url == types.WHOLE:
                self._client.whole_by = now + WHOLE_PATIENCE * self._patience
            subscription = Subscription(request.type_url, self._many)
            self._client.subscriptions[request.type_url] = subscription
        sent = subscription.landed(request.response_nonce) if request.response_nonce else None
        if sent is not None:
            if request.HasField("error_detail"):
                self._refused(subscription, sent, request.error_detail.message)
            else:
                self._accepted(subscription, sent)
        self._unsubscribe(subscription, request.resource_names_unsubscribe)
        names = list(request.resource_names_subscribe)
        if first and not names and request.type_url in types.LEGACY_WILDCARD:
            names = [_WILDCARD]
        brought = dict(request.initial_resource_versions)
        rest = self._brought(subscription, brought, everything=_WILDCARD in names)
        self._subscribe(subscription, names, brought, rest)

    def on_change(self, delta: Delta) -> None:
        """Take a change that the snapshot has already undergone."""
        for key in chain((r.key for r in delta.upserts), delta.removals):
            self._client.touch(key)
            self._client.release(key)
        self._withdrawals.taken(delta)

    def on_time(self, now: float) -> None:
        """Stop waiting for what is overdue."""
        for subscription, waited in self._client.deadlines.passed(now):
            if isinstance(waited, Sent):
                subscription.give_up(waited)
                self._retract(subscription, waited)
            else:
                subscription.impatient.add(waited)
                subscription.touch(waited)

    def next_time(self) -> float | None:
        """Return when `on_time` is due, or None."""
        return self._client.deadlines.next()

    def retry(self, key: ResourceName) -> None:
        """Send a quarantined version once more, because what made it fail may be gone."""
        subscription = self._client.subscriptions.get(key.type_url)
        if subscription is not None and subscription.rejected.pop(key.name, None) is not None:
            subscription.touch(key.name)
            self._client.verdicts.append(Cleared(key))

    def responses(self, now: float, limit: int = WINDOW) -> list[Response]:
        """Return what to send now, at most *limit* responses; call again after sending."""
        self.on_time(now)
        out: list[Response] = []
        for type_url in self._order(types.SENDING_ORDER):
            subscription = self._client.subscriptions[type_url]
            if subscription.quiet or (type_url == types.WHOLE and not self._client.is_whole(now)):
                continue
            while len(out) < limit and (response := self._next(subscription, now)) is not None:
                out.append(response)
            self._client.share(subscription)
        if not any(one.removals for one in self._client.subscriptions.values()):
            return out
        for type_url in self._order(types.REMOVAL_ORDER):
            if type_url in types.ENVOY_TYPES and self._client.awaits_verdicts():
                break
            subscription = self._client.subscriptions[type_url]
            gone = self._removable(subscription)
            if gone and len(out) < limit and subscription.room(alone=False, window=WINDOW):
                out.append(self._send(subscription, (), gone, now))
            if subscription.removing() or self._client.held.unknown_of(type_url):
                break
        return out

    # Requests

    def _subscribe(
        self,
        subscription: Subscription,
        names: Iterable[str],
        brought: Mapping[str, str],
        rest: Iterable[str] | None,
    ) -> None:
        """Take what the client asks for; of everything, *rest* may be otherwise than brought."""
        for name in names:
            if name == _WILDCARD:
                subscription.wildcard = subscription.answer_owed = True
                every = self._client.snapshot.of_type(subscription.type_url)
                for each in every if rest is None else rest:
                    subscription.touch(each)
            else:
                subscription.names.add(name)
                subscription.touch(name)
                if name not in brought:
                    subscription.forced.add(name)

    def _unsubscribe(self, subscription: Subscription, names: Iterable[str]) -> None:
        for name in names:
            if name == _WILDCARD:
                subscription.wildcard = False
                subscription.dirty.update(dict.fromkeys(subscription.acked))
            subscription.names.discard(name)
            subscription.forced.discard(name)
            subscription.touch(name)
            if subscription.wildcard and name != _WILDCARD:
                subscription.forced.add(name)  # the client forgot it, and wants it as one of all

    def _brought(
        self, subscription: Subscription, versions: dict[str, str], *, everything: bool
    ) -> AbstractSet[str] | None:
        """Take what the client has; return what else to look at, None for all there is."""
        if not versions:
            return None
        type_url = subscription.type_url
        self._client.verdicts.append(Accepted(type_url, versions, brought=True))
        if type_url == types.ENDPOINTS and (awaited := self._awaited_endpoints & versions.keys()):
            subscription.forced |= awaited
            subscription.dirty.update(dict.fromkeys(sorted(awaited)))
        shared = self._client.brought(subscription, versions) if everything else None
        for name, version in (versions if shared is None else shared[0]).items():
            resource = self._client.snapshot.get(type_url, name)
            if resource is not None and resource.version == version:
                # All streams share these words; those of the request are its own.
                key, needs = ResourceName(type_url, resource.name), resource.needs
                subscription.acked[resource.name] = resource.version
            else:
                key, needs = ResourceName(type_url, name), None
                subscription.acked[name] = version
            self._client.held.brought(key, needs)
            self._client.touch(key)
        return None if shared is None else shared[1]

    def _accepted(self, subscription: Subscription, sent: Sent) -> None:
        versions: dict[str, str] = {}
        removed: list[str] = []
        free: list[ResourceName] = []
        for resource in sent.upserts:
            versions[resource.name] = resource.version
            subscription.acked[resource.name] = resource.version
            subscription.rejected.pop(resource.name, None)
            subscription.suspects.pop(resource.name, None)
            free += self._client.held.accepted(resource.key, resource.needs)
            self._client.release(resource.key)
        for name in sent.removals:
            key = ResourceName(subscription.type_url, name)
            if subscription.acked.pop(name, None) is not None:
                removed.append(name)
            if name in subscription.suspects:
                subscription.suspects[name].clear()
            free += self._client.held.gone(key)
            self._client.release(key)
        if versions or removed:
            self._client.verdicts.append(Accepted(subscription.type_url, versions, tuple(removed)))
        self._client.touch_all(free)

    def _refused(self, subscription: Subscription, sent: Sent, detail: str) -> None:
        if not sent.upserts:  # nothing in it to refuse
            self._accepted(subscription, sent)
            return
        if not sent.overdue:
            self._retract(subscription, sent)
        if sent.alone:
            self._refused_one(subscription, sent.upserts[0], detail)
        else:
            for resource in sent.upserts:
                key, version = resource.key, resource.version
                subscription.suspects.setdefault(resource.name, set()).add(version)
                self._client.touch_all(self._client.held.doubtful(key, version, resource.needs))

    def _retract(self, subscription: Subscription, sent: Sent) -> None:
        """Take back what Envoy may half hold: new clusters, and first scopes, seemingly known."""
        if not self._client.is_envoy:
            return
        for resource in sent.upserts:
            again = sent.overdue and self._took_back.get(resource.name) == resource.version
            if subscription.type_url == types.SCOPE and not sent.alone:
                subscription.retracted[resource.name] = None
            elif subscription.type_url != types.CLUSTER or resource.name in subscription.acked:
                continue
            elif not again:
                self._took_back[resource.name] = resource.version
                subscription.retracted[resource.name] = None

    def _refused_one(self, subscription: Subscription, resource: Resource, detail: str) -> None:
        key, version = resource.key, resource.version
        rejection = Rejection(key, version, resource.origins, detail)
        subscription.rejected[resource.name] = rejection
        subscription.suspects.get(resource.name, set()).discard(version)
        self._client.verdicts.append(rejection)
        self._client.touch_all(self._client.held.refused(key, version, resource.needs))
        self._client.release(key)

    # Choice of what to send

    def _next(self, subscription: Subscription, now: float) -> Response | None:
        """Return one more response with resources, or with names that do not exist."""
        if subscription.retracted and subscription.room(alone=False, window=WINDOW):
            retracted = tuple(subscription.retracted)
            subscription.retracted.clear()
            return self._send(subscription, (), retracted, now)
        batch = self._batch(subscription, now)
        if batch:
            return self._send(subscription, batch, (), now)
        if not subscription.room(alone=False, window=WINDOW):
            return None
        if subscription.absent:
            absent = tuple(subscription.absent)
            subscription.absent.clear()
            return self._send(subscription, (), absent, now)
        if subscription.answer_owed and not subscription.waiting:
            return self._send(subscription, (), (), now)
        return None

    def _batch(self, subscription: Subscription, now: float) -> tuple[Resource, ...]:
        """Return the resources of one response: one that goes alone, or as many as fit."""
        together = subscription.room(alone=False, window=WINDOW)
        window = 1 if subscription.type_url == types.CLUSTER else WINDOW
        first = subscription.type_url == types.SCOPE and (subscription.untold or subscription.anew)
        apart = subscription.type_url in types.ALONE and self._client.is_envoy
        always_alone = apart and not first
        if not together and not (always_alone or subscription.suspects):
            return ()
        if not subscription.room(alone=True, window=window):
            return ()
        batch: list[Resource] = []
        later: list[str] = []
        size = 0
        while subscription.dirty and (first or size < BATCH_BYTES):
            name, _ = subscription.dirty.popitem(last=False)
            resource = self._ready(subscription, name, now)
            if resource is None:
                continue
            alone = always_alone or name in subscription.suspects
            if alone and not batch:
                batch.append(resource)
                break
            if alone or not together:
                later.append(name)
                continue
            batch.append(resource)
            size += len(resource.framed)
        subscription.dirty.update(dict.fromkeys(later))
        if not subscription.dirty:
            subscription.dirty.clear()  # gives back the room that the many of a first turn took
        return tuple(batch)

    def _ready(self, subscription: Subscription, name: str, now: float) -> Resource | None:
        """Return the resource if it is to be sent now; else note what it waits for, if anything."""
        until = subscription.waiting.pop(name, None)
        key = ResourceName(subscription.type_url, name)
        resource = self._client.snapshot.get(key.type_url, name)
        if name in subscription.flying or name in subscription.retracted:
            return None
        if not subscription.wants(name):
            self._client.forget(subscription, key)
            return None
        if resource is None:
            self._missing(subscription, name)
            return None
        if not self._due(subscription, resource):
            return None
        if name not in subscription.impatient:
            for need in resource.needs:
                if not self._client.settled(need):
                    self._client.wait(subscription, key, need, until or now + self._patience)
                    return None
        return resource

    def _due(self, subscription: Subscription, resource: Resource) -> bool:
        """Return whether the client should get this version, as far as the type is concerned."""
        name, version = resource.name, resource.version
        rejection = subscription.rejected.get(name)
        if rejection is not None and rejection.version == version:
            return False
        if name in subscription.forced:
            return True
        if subscription.acked.get(name) == version and not subscription.doubtful(name):
            self._client.clear(subscription, name)
            self._client.held.learned(resource.key, resource.needs)
            return False
        return subscription.unanswered.get(name) != version

    def _missing(self, subscription: Subscription, name: str) -> None:
        """Note that the client asks for, or has, what does not exist."""
        self._client.clear(subscription, name)
        self._client.mark_leaving(subscription, name)
        if name in subscription.forced and name not in subscription.removals:
            subscription.absent[name] = None
        subscription.forced.discard(name)

    def _removable(self, subscription: Subscription) -> tuple[str, ...]:
        """Return the names to remove now; one that is still needed comes back when it is free."""
        gone: list[str] = []
        for name in tuple(subscription.removals):
            key = ResourceName(subscription.type_url, name)
            if not self._client.should_leave(subscription, name) or key in self._client.held:
                del subscription.removals[name]
            elif name not in subscription.flying and not self._withdrawals.is_early(key):
                gone.append(name)
        return tuple(gone)

    # Notes

    def _send(
        self,
        subscription: Subscription,
        upserts: tuple[Resource, ...],
        removals: tuple[str, ...],
        now: float,
    ) -> Response:
        self._nonce += 1
        type_url, nonce = subscription.type_url, str(self._nonce)
        for resource in upserts:
            self._client.held.sent(resource.needs)
            if type_url == types.CLUSTER:
                self._resend_endpoints(subscription, resource)
            elif type_url == types.LISTENER and not subscription.may_have(resource.name):
                self._client.renew_scopes(subscription)
            elif type_url == types.ENDPOINTS:
                self._awaited_endpoints.discard(resource.name)
        for name in removals:
            subscription.removals.pop(name, None)
        sent = Sent(nonce, upserts, removals, alone=len(upserts) == 1)
        subscription.launched(sent)
        self._client.deadlines.add(now + self._patience / 2, subscription, sent)
        instead = self._withdrawals.instead_of(type_url, removals)
        frames = chain((resource.framed for resource in upserts), instead.values())
        gone = (name for name in removals if name not in instead)
        return Response(type_url, nonce, framing.delta_response(type_url, nonce, frames, gone))

    def _resend_endpoints(self, clusters: Subscription, cluster: Resource) -> None:
        """Let the endpoints follow without which Envoy would not warm a cluster."""
        names = endpoints_named(cluster)
        if not names and clusters.may_have(cluster.name):
            names = (cluster.name,)
        subscription = self._client.subscriptions.get(types.ENDPOINTS)
        for name in names:
            if subscription is None:
                self._awaited_endpoints.add(name)
            elif name in subscription.names:
                subscription.forced.add(name)
                subscription.touch(name)

    def _order(self, order: tuple[str, ...]) -> Iterator[str]:
        """Yield the types that the client asked for, in *order*, unknown ones last."""
        yield from (url for url in order if url in self._client.subscriptions)
        yield from [url for url in self._client.subscriptions if url not in order]
