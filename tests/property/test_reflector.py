"""Whatever a network does to what a server says, a reflector ends in the server's state."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.decode import Decoded
from penstock.core.events import Event, EventType
from penstock.core.kinds import ConfigMap
from penstock.meta.names import ObjectRef
from penstock.sources.kubernetes.reflector import Reflector
from penstock.sources.kubernetes.requests import ListRequest, Pace, Pause, WatchRequest

EXPIRED = {"code": 410, "reason": "Expired", "message": "too old resource version"}
NAMES = st.sampled_from("abc")
STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.sampled_from(["compact", "restore", "save", "answer", "answer", "fault"]), NAMES),
)


class Server:
    """What an API server is to one kind: objects, a version, and a history that may be cut."""

    def __init__(self) -> None:
        self.version = 10
        self.objects: dict[str, dict[str, Any]] = {}
        self.history: list[tuple[int, str, dict[str, Any]]] = []
        self.oldest = 10
        self.away = False
        """Whether the next request gets no answer."""
        self.gone: set[str] = set()
        """uids that were deleted, or forgotten by a restore, at any time."""
        self._uid = 0
        self._saved = (10, dict[str, dict[str, Any]]())

    def put(self, name: str) -> None:
        self.version += 1
        known = self.objects.get(name)
        self._uid += known is None
        uid = f"uid-{self._uid}" if known is None else known["metadata"]["uid"]
        metadata = {"name": name, "namespace": "n", "uid": uid}
        thing = {
            "metadata": {**metadata, "resourceVersion": str(self.version)},
            "data": {"x": str(self.version)},
        }
        self.objects[name] = thing
        self.history.append((self.version, "MODIFIED" if known else "ADDED", thing))

    def delete(self, name: str) -> None:
        if name in self.objects:
            self.version += 1
            gone = self.objects.pop(name)
            self.gone.add(gone["metadata"]["uid"])
            metadata = {**gone["metadata"], "resourceVersion": str(self.version)}
            self.history.append((self.version, "DELETED", {**gone, "metadata": metadata}))

    def compact(self) -> None:
        self.oldest = self.version

    def save(self) -> None:
        self._saved = self.version, dict(self.objects)

    def restore(self) -> None:
        """Go back: a server that was away, and starts with no history at all."""
        self.away = True
        self.gone |= {thing["metadata"]["uid"] for thing in self.objects.values()}
        self.version, self.objects = self._saved[0], dict(self._saved[1])
        self.history, self.oldest = [], self.version

    def answer(self, request: ListRequest | WatchRequest) -> list[bytes]:
        if isinstance(request, ListRequest):
            metadata: dict[str, Any] = {"resourceVersion": str(self.version)}
            page = {"metadata": metadata, "items": list(self.objects.values())}
            body = json.dumps(page, separators=(",", ":")).encode()
            return [body[at : at + 100] for at in range(0, len(body), 100)]
        if not request.resource_version:
            bookmarked: dict[str, Any] = {
                "resourceVersion": str(self.version),
                "annotations": {"k8s.io/initial-events-end": "true"},
            }
            initial = [line("ADDED", thing) for thing in self.objects.values()]
            return [*initial, line("BOOKMARK", {"metadata": bookmarked})]
        since = int(request.resource_version)
        if since < self.oldest:
            return [line("ERROR", EXPIRED)]
        return [line(kind, thing) for version, kind, thing in self.history if version > since]


def line(kind: str, thing: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


class Client:
    """Drives a reflector and keeps what its events say."""

    def __init__(self, server: Server, *, stream: bool, listed: bool) -> None:
        self.server = server
        self.now = 0.0
        pace = Pace(stream_snapshots=stream, first_as_list=listed)
        self.reflector = Reflector(ConfigMap, lambda: 0.5, pace)
        self.objects: dict[ObjectRef, Decoded] = {}

    def answer(self, *, fault: str = "") -> None:
        """Let the server answer one request, or the network spoil the answer."""
        request = self.reflector.next(self.now)
        if isinstance(request, Pause):
            self.now += request.seconds
            request = self.reflector.next(self.now)
        assert not isinstance(request, Pause)
        away, self.server.away = self.server.away, False
        if fault == "a" or away:
            self._take(self.reflector.refused(500, b"oops", self.now))
            return
        pieces = self.server.answer(request)
        self.reflector.opened()
        if isinstance(request, ListRequest):
            for piece in pieces[:-1] if fault else pieces:
                self._take(self.reflector.chunk(piece, self.now))
            self._take(
                self.reflector.broke("cut", self.now)
                if fault == "b"
                else self.reflector.finished(self.now)
            )
            return
        if fault == "b":
            pieces = pieces[: len(pieces) // 2]
        elif fault == "c" and request.resource_version:
            pieces = [one for one in reversed(pieces) for _ in range(2)]
        for piece in pieces:
            if not self.reflector.over:
                self._take(self.reflector.chunk(piece, self.now))
        if not self.reflector.over:
            self._take(self.reflector.broke("cut", self.now))

    def _take(self, events: tuple[Event, ...]) -> None:
        for event in events:
            ref = event.object.ref
            if event.type is EventType.DELETED:
                assert event.object.metadata.uid in self.server.gone
                del self.objects[ref]
            else:
                assert (ref in self.objects) is (event.type is EventType.MODIFIED)
                self.objects[ref] = event.object


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(STEPS, max_size=40), stream=st.booleans(), listed=st.booleans())
def test_ends_in_the_state_of_the_server_and_removes_nothing_wrongly(
    steps: list[tuple[str, str]], *, stream: bool, listed: bool
) -> None:
    server = Server()
    client = Client(server, stream=stream, listed=listed)
    for step, name in steps:
        match step:
            case "put":
                server.put(name)
            case "delete":
                server.delete(name)
            case "answer":
                client.answer()
            case "fault":
                client.answer(fault=name)
            case _:
                getattr(server, step)()
    server.restore()  # a restart: all history is gone
    server.put("a")
    for _ in range(8):
        client.answer()
    for name in "abc":  # and changes after that are followed
        server.put(name)
    for _ in range(4):
        client.answer()
    told = {ref.name: one.metadata.resource_version for ref, one in client.objects.items()}
    true = {name: one["metadata"]["resourceVersion"] for name, one in server.objects.items()}
    assert told == true
