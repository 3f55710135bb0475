"""What a client gets in place of a Secret that it loses, and when it gets nothing."""

from __future__ import annotations

import pytest

from penstock.pb.envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, make_resource
from support.dialogue import Dialogue, Message, listener

SECRET = make_resource(types.SECRET, "tls|a", b"key")
OTHER = make_resource(types.SECRET, "tls|b", b"other")
TRUSTED = make_resource(types.SECRET, "trusted|a", b"authority")
OLD, NEW = listener("l", b"old"), listener("l", b"new")
INSTEAD: Message = ("Secret", ["tls|a"], [])
REMOVED: Message = ("Secret", [], ["tls|a"])


def stand_in(key: ResourceName) -> bytes:
    if not key.name.startswith("tls|"):
        return b""
    return make_resource(types.SECRET, key.name, b"worthless").framed


def talk(*resources: Resource, names: tuple[str, ...] = ("tls|a",)) -> Dialogue:
    """Return a dialogue with an Envoy that has a listener and the Secret."""
    found = Dialogue(OLD, SECRET, *resources, stand_in=stand_in)
    found.ask(types.LISTENER)
    found.ask(types.SECRET, *names)
    found.settle()
    return found


def test_it_goes_when_the_client_has_taken_the_listener_without_it() -> None:
    said = talk()
    said.change(NEW, remove=[SECRET])
    assert said.sends() == [("Listener", ["l"], [])]
    assert said.stream.responses(said.now) == []
    said.ack()
    assert said.settle() == [INSTEAD]
    assert said.stream.pending == {}
    assert said.stream.acked[types.SECRET] == {}


def test_what_takes_its_place_in_a_listener_comes_first() -> None:
    said = talk(OTHER)
    said.change(NEW, remove=[SECRET])
    said.sends()
    said.ask(types.SECRET, "tls|b")
    said.ack()
    assert said.settle() == [("Secret", ["tls|b"], []), INSTEAD]


def test_a_client_that_refuses_the_listener_keeps_the_secret() -> None:
    said = talk()
    said.change(NEW, remove=[SECRET])
    said.sends()
    said.ack(error="no")
    assert said.settle() == [REMOVED]


@pytest.mark.parametrize(("named", "goes"), [("tls|a", REMOVED), ("tls|ab", INSTEAD)])
def test_a_secret_that_a_listener_still_names_is_not_taken_from_it(
    named: str, goes: Message
) -> None:
    config = secret_pb2.SdsSecretConfig(name=named)
    said = talk(listener("m", b"around " + config.SerializeToString()))
    said.change(NEW, remove=[SECRET])
    assert said.settle() == [("Listener", ["l"], []), goes]


def test_a_secret_that_a_new_server_does_not_know_may_be_in_use() -> None:
    said = Dialogue(OLD, stand_in=stand_in)
    said.ask(types.LISTENER, has={"l": OLD.version})
    said.ask(types.SECRET, "tls|a", has={"tls|a": SECRET.version})
    assert REMOVED in said.settle()


def test_a_name_that_never_was_there_is_told_so() -> None:
    said = talk(names=("tls|a", "tls|none"))
    said.change(remove=[OTHER])
    said.ask(types.SECRET, "tls|none")
    assert said.settle() == [("Secret", [], ["tls|none"])]


def test_a_secret_that_comes_back_is_sent() -> None:
    said = talk()
    said.change(NEW, remove=[SECRET])
    said.settle()
    said.change(OLD, SECRET)
    assert said.settle() == [("Secret", ["tls|a"], []), ("Listener", ["l"], [])]
    assert said.stream.acked[types.SECRET] == {"tls|a": SECRET.version}


def test_one_that_comes_back_at_once_was_never_away() -> None:
    said = talk()
    said.change(NEW, remove=[SECRET])
    said.change(OLD, SECRET)
    assert said.settle() == []
    said.change(NEW)
    assert said.settle() == [("Listener", ["l"], [])]


def test_what_holds_no_key_is_removed_as_ever() -> None:
    said = talk(TRUSTED, names=("trusted|a",))
    said.change(remove=[TRUSTED])
    assert said.settle() == [("Secret", [], ["trusted|a"])]


def test_without_anything_to_take_its_place_it_is_removed() -> None:
    said = Dialogue(SECRET)
    said.ask(types.SECRET, "tls|a")
    said.settle()
    said.change(remove=[SECRET])
    assert said.settle() == [REMOVED]
