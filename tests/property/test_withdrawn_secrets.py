"""A worthless Secret never comes to what still shows the real one, whatever happens meanwhile."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.xds import framing, types
from penstock.xds.delta import DeltaStream, Response
from penstock.xds.resource import Resource, ResourceName, make_resource
from penstock.xds.snapshot import Snapshot
from support.fake_envoy import FakeEnvoy, converge

NAMES = ("a", "b")
WORTHLESS = b"worthless"


def refuse_bad(resource: Resource) -> str | None:
    return f"{resource.name} is bad" if resource.body.startswith(b"bad") else None


def stand_in(key: ResourceName) -> bytes:
    return make_resource(key.type_url, key.name, WORTHLESS).framed


class EnvoyWithSecrets(FakeEnvoy):
    """Asks for the Secrets that its listeners name, and forgets them when it has drained."""

    def __init__(self) -> None:
        super().__init__(refuse_bad, (types.LISTENER,))
        self.secrets: set[str] = set()

    @property
    def shown(self) -> set[str]:
        """Return the Secrets that new connections may meet."""
        listeners = [one for key, one in self.has.items() if key.type_url == types.LISTENER]
        return {name for name in NAMES for one in listeners if _names(one, name)}

    @property
    def worthless(self) -> set[str]:
        """Return the Secrets in whose place something else came."""
        secrets = {name: self.has.get(ResourceName(types.SECRET, name)) for name in NAMES}
        return {name for name, one in secrets.items() if one is not None and one.body == WORTHLESS}

    @override
    def connect(self) -> None:
        super().connect()
        if self.secrets:
            self._ask(types.SECRET, sorted(self.secrets))

    @override
    def receive(self, response: Response) -> None:
        shown, before = self.shown, self.worthless
        super().receive(response)
        assert not (self.worthless - before) & shown, "what is shown was replaced"
        fresh = sorted(self.shown - self.secrets)
        if fresh:
            self.secrets.update(fresh)
            self._ask(types.SECRET, fresh)

    def drain(self) -> None:
        """End the last connections on what listeners had."""
        gone = sorted(self.secrets - self.shown)
        self.secrets.difference_update(gone)
        for name in gone:
            self.has.pop(ResourceName(types.SECRET, name), None)
        if gone:
            self.requests.append(
                discovery_pb2.DeltaDiscoveryRequest(
                    type_url=types.SECRET, resource_names_unsubscribe=gone
                )
            )


def _names(listener: Resource, secret: str) -> bool:
    return framing.field(1, secret.encode()) in listener.body


@st.composite
def targets(draw: st.DrawFn) -> list[Resource]:
    """A whole snapshot: Secrets, and listeners that name some, there or not; some are refused."""
    bodies = st.sampled_from([b"1", b"2", b""])
    secrets = {name: draw(bodies) for name in NAMES}
    made = [make_resource(types.SECRET, name, body) for name, body in secrets.items() if body]
    for name in NAMES:
        head = draw(st.sampled_from([b"1", b"2", b"bad", b""]))
        shown = [one for one in NAMES if draw(st.booleans())]
        if head:
            body = head + b"".join(framing.field(1, one.encode()) for one in shown)
            made.append(make_resource(types.LISTENER, name, body))
    return made


class World:
    """One server side, one client, and what is under way between them."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.envoy = EnvoyWithSecrets()
        self.reconnect()

    def reconnect(self) -> None:
        self.stream = DeltaStream(self.snapshot, stand_in=stand_in)
        self.wire: deque[Response] = deque()
        self.envoy.connect()

    def change(self, target: list[Resource]) -> None:
        self.stream.on_change(self.snapshot.apply(self.snapshot.difference(target)))

    def server_reads(self) -> None:
        if self.envoy.requests:
            self.stream.on_request(self.envoy.requests.popleft(), 0.0)

    def server_writes(self) -> None:
        self.wire.extend(self.stream.responses(0.0, limit=2))

    def client_reads(self) -> None:
        if self.wire:
            self.envoy.receive(self.wire.popleft())

    def settle(self) -> None:
        while self.wire:
            self.client_reads()
        converge(self.envoy, self.stream)


CARRY = ("read", "write", "client")
MOVES = st.lists(st.sampled_from([*CARRY, *CARRY, *CARRY, "drain", "reconnect"]), max_size=12)
ROUNDS = st.lists(st.tuples(targets(), MOVES, st.booleans()), min_size=4, max_size=12)


@settings(max_examples=600, deadline=None)
@given(rounds=ROUNDS)
def test_what_is_shown_is_never_worthless(
    rounds: list[tuple[list[Resource], list[str], bool]],
) -> None:
    world = World()
    moves = {
        "read": world.server_reads,
        "write": world.server_writes,
        "client": world.client_reads,
        "reconnect": world.reconnect,
        "drain": world.envoy.drain,
    }
    for target, made, settled in rounds:
        world.change(target)
        for move in made:
            moves[move]()
        if settled:
            world.settle()
    healed = [one for one in rounds[-1][0] if refuse_bad(one) is None]
    world.change(healed)
    world.settle()
    assert world.stream.pending == {}
    for name in world.envoy.shown:
        wanted = world.snapshot.get(types.SECRET, name)
        if wanted is not None:
            assert world.envoy.has[wanted.key].version == wanted.version
