"""Whatever happens in whatever order, a client ends with the snapshot, by safe steps only."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.xds import types
from penstock.xds.delta import DeltaStream, Response
from penstock.xds.resource import Resource, ResourceName, make_resource, read_resource
from penstock.xds.snapshot import Snapshot
from support.fake_envoy import FakeEnvoy, converge

NAMES = ("a", "b", "c", "d")


def refuse_bad(resource: Resource) -> str | None:
    return f"{resource.name} is bad" if resource.body.startswith(b"bad") else None


@st.composite
def targets(draw: st.DrawFn) -> list[Resource]:
    """A whole snapshot without dangling needs, some of it poisoned."""
    body = st.sampled_from([b"1", b"2", b"3", b"bad1", b"bad2"])
    good = st.sampled_from([b"1", b"2", b"3"])
    clusters = sorted(draw(st.sets(st.sampled_from(NAMES))))
    out = [make_resource(types.CLUSTER, name, draw(body)) for name in clusters]
    out += [make_resource(types.ENDPOINTS, name, draw(good)) for name in clusters]
    scopes = sorted(draw(st.sets(st.sampled_from(NAMES))))
    for name in scopes:
        some = draw(st.sets(st.sampled_from(clusters))) if clusters else set[str]()
        needs = [ResourceName(types.CLUSTER, cluster) for cluster in some]
        out.append(make_resource(types.SCOPE, name, draw(body), needs=needs))
    for name in sorted(draw(st.sets(st.sampled_from(NAMES[:2])))):
        some = draw(st.sets(st.sampled_from(scopes))) if scopes else set[str]()
        needs = [ResourceName(types.SCOPE, scope) for scope in some]
        out.append(make_resource(types.LISTENER, name, draw(body), needs=needs))
    return out


class World:
    """One server side, one client, and what is under way between them."""

    def __init__(self, *, eds: bool, many: int) -> None:
        wildcards: tuple[str, ...] = (types.CLUSTER, types.SCOPE, types.LISTENER)
        if not eds:
            wildcards = (types.CLUSTER, types.ENDPOINTS, types.SCOPE, types.LISTENER)
        self.base, self.many = Snapshot(), many
        self.snapshot = Snapshot(over=self.base)
        self.envoy = FakeEnvoy(refuse_bad, wildcards, eds=eds)
        self.had: set[tuple[ResourceName, ResourceName]] = set()
        self.reconnect()

    def reconnect(self) -> None:
        self.stream = DeltaStream(self.snapshot, many=self.many)
        self.wire: deque[Response] = deque()
        self.envoy.zombies.clear()  # one that nobody wants any more could not be found
        self.envoy.connect()

    def change(self, target: Iterable[Resource]) -> None:
        """Let the base have what has a name of the first half, the node the rest."""
        every = list(target)
        shared = [one for one in every if one.name in NAMES[:2]]
        below = self.base.apply(self.base.difference(shared))
        self.stream.on_change(self.snapshot.seen(below))
        own = [one for one in every if one.name not in NAMES[:2]]
        self.stream.on_change(self.snapshot.apply(self.snapshot.difference(own)))

    def server_reads(self) -> None:
        if self.envoy.requests:
            self.stream.on_request(self.envoy.requests.popleft(), 0.0)

    def server_writes(self) -> None:
        for response in self.stream.responses(0.0, limit=2):
            self.check_needs(response)
            self.wire.append(response)

    def client_reads(self) -> None:
        if self.wire:
            self.envoy.receive(self.wire.popleft())
            self.check_nothing_needed_is_missing()

    def converge(self) -> None:
        while self.wire:
            self.client_reads()
        converge(self.envoy, self.stream)

    def check_needs(self, response: Response) -> None:
        """A resource goes out when all it needs is accepted, refused or does not exist."""
        if response.type_url not in {types.SCOPE, types.LISTENER}:
            return
        message = discovery_pb2.DeltaDiscoveryResponse.FromString(response.payload)
        for resource in map(read_resource, message.resources):
            for need in resource.needs:
                current = self.snapshot.get(need.type_url, need.name)
                acked = self.stream.acked[need.type_url].get(need.name)
                refused = current is not None and refuse_bad(current) is not None
                assert current is None or refused or acked == current.version

    def check_nothing_needed_is_missing(self) -> None:
        """What a client has never loses a cluster that it was given with."""
        pairs = {(r.key, need) for r in self.envoy.has.values() for need in r.needs}
        lost = {(owner, need) for owner, need in pairs & self.had if need not in self.envoy.has}
        assert not lost
        self.had = {(owner, need) for owner, need in pairs if need in self.envoy.has}


OPS = st.sampled_from(["read", "write", "client", "reconnect"])
STEPS = st.lists(st.one_of(OPS, OPS, OPS, targets()), max_size=60)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, last=targets(), eds=st.booleans(), many=st.sampled_from([0, 3, 1000]))
def test_any_order_of_events_ends_in_the_snapshot(
    steps: list[str | list[Resource]], last: list[Resource], *, eds: bool, many: int
) -> None:
    world = World(eds=eds, many=many)
    moves = {
        "read": world.server_reads,
        "write": world.server_writes,
        "client": world.client_reads,
        "reconnect": world.reconnect,
    }
    for step in steps:
        if isinstance(step, str):
            moves[step]()
        else:
            world.change(step)
    world.change(last)
    world.converge()
    for resource in world.snapshot:
        if refuse_bad(resource) is None and (
            resource.type_url != types.ENDPOINTS or resource.name in world.envoy.endpoint_names
        ):
            assert world.envoy.has[resource.key].version == resource.version
    bad = {r.key for r in world.snapshot if refuse_bad(r) is not None}
    assert world.stream.rejected.keys() == bad
    assert world.stream.pending == {}
    healed = [
        make_resource(r.type_url, r.name, b"healed", needs=r.needs) if r.key in bad else r
        for r in last
    ]
    world.change(healed)
    world.converge()
    assert world.stream.rejected == {}
    assert {k: r.version for k, r in world.envoy.has.items()} == {
        r.key: r.version for r in world.snapshot
    }
