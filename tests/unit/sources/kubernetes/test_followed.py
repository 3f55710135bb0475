"""Objects that are watched because others refer to them: what is asked for, what is told when."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from penstock.core.decode import Decoded, decode
from penstock.core.events import Event, EventType
from penstock.core.kinds import ConfigMap, Secret
from penstock.core.objects import Broken
from penstock.meta.names import NamespacedName
from penstock.sources.kubernetes.followed import Followed, Referenced
from penstock.sources.kubernetes.reflector import Reflector
from penstock.sources.kubernetes.requests import ListRequest, Pace, Scope

LISTS = Pace(stream_snapshots=False)


def names_in(holders: Iterable[Decoded]) -> frozenset[NamespacedName]:
    """Read the names that ConfigMaps list, which stand for Gateways here."""
    maps = [one for one in holders if isinstance(one, ConfigMap)]
    return frozenset(NamespacedName("shop", name) for one in maps for name in one.data)


def reflector(scope: Scope) -> Reflector:
    return Reflector(Secret, lambda: 0.5, LISTS, scope)


def followed() -> Followed:
    holders = frozenset({ConfigMap})
    return Followed(
        Referenced(kind=Secret, holders=holders, waits=(ConfigMap,), names=names_in), reflector
    )


def holder(*names: str) -> Decoded:
    metadata = {"name": "holder", "namespace": "shop"}
    raw = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    return decode(ConfigMap, {**raw, "data": dict.fromkeys(names, "")})


def change_of(thing: Decoded) -> Event:
    return Event(EventType.MODIFIED, thing)


def answer(one: Reflector, *names: str, now: float = 0.0) -> tuple[Event, ...]:
    """Let a reflector have read the Secrets with these names."""
    items: list[dict[str, Any]] = [
        {"metadata": {"name": n, "namespace": "shop", "uid": n, "resourceVersion": "5"}, "data": {}}
        for n in names
    ]
    one.next(now)
    one.opened()
    one.chunk(json.dumps({"metadata": {"resourceVersion": "9"}, "items": items}).encode(), now)
    return one.finished(now)


def synced(given: Followed) -> bool:
    return given.synced


def told(events: Iterable[Event]) -> list[str]:
    return [f"{one.type.value} {one.object.ref.kind} {one.object.ref.name}" for one in events]


def test_each_reference_is_asked_for_by_its_name_in_its_namespace() -> None:
    given = followed()
    assert given.update([holder("a", "b")]).begun == (
        NamespacedName("shop", "a"),
        NamespacedName("shop", "b"),
    )
    request = given.reflectors[NamespacedName("shop", "a")].next(0.0)
    assert isinstance(request, ListRequest)
    path, _, query = request.target.partition("?")
    assert path == "/api/v1/namespaces/shop/secrets"
    assert "fieldSelector=metadata.name%3Da" in query


def test_nothing_is_known_before_each_was_looked_for() -> None:
    given = followed()
    assert synced(given)
    given.update([holder("a", "b")])
    a, b = given.reflectors.values()
    answer(a, "a")
    assert not synced(given)
    answer(b)
    assert synced(given)


def test_what_may_not_be_read_holds_nothing_up() -> None:
    given = followed()
    given.update([holder("a")])
    (one,) = given.reflectors.values()
    one.next(0.0)
    one.refused(403, b"{}", 0.0)
    assert synced(given)


FORBIDDEN = b'{"code": 403, "reason": "Forbidden", "message": "not for you"}'


def test_something_stands_in_for_what_may_not_be_read_until_it_may() -> None:
    given = followed()
    given.update([holder("a", "b")])
    a, b = given.reflectors.values()
    a.next(0.0)
    a.refused(403, FORBIDDEN, 0.0)
    assert told(given.look(a)) == ["ADDED Secret a"]
    assert given.look(a) == given.look(b) == ()
    (stand_in,) = given.objects()
    assert isinstance(stand_in, Broken)
    assert stand_in.unseen
    assert "cannot be read: 403 Forbidden: not for you" in str(stand_in.problems[0])
    a.next(1e3)
    a.refused(403, FORBIDDEN.replace(b"you", b"me"), 1e3)
    assert told(given.look(a)) == ["MODIFIED Secret a"]
    came = answer(a, "a", now=1e6)
    assert told((*given.look(a), *came)) == ["DELETED Secret a", "ADDED Secret a"]
    assert [type(one) for one in given.objects()] == [Secret]


def test_what_was_read_before_stays_when_it_may_not_be_read_any_more() -> None:
    given = followed()
    given.update([holder("a")])
    (a,) = given.reflectors.values()
    answer(a, "a")
    a.next(0.0)
    a.refused(403, FORBIDDEN, 0.0)
    assert a.denied
    assert given.look(a) == ()
    assert [type(one) for one in given.objects()] == [Secret]


def test_what_stands_in_goes_with_the_last_reference() -> None:
    given = followed()
    given.update([holder("a")])
    (a,) = given.reflectors.values()
    a.next(0.0)
    a.refused(403, FORBIDDEN, 0.0)
    given.look(a)
    assert told(given.update([holder()]).events) == ["DELETED Secret a"]
    assert list(given.objects()) == []
    assert given.look(a) == ()


def test_a_new_reference_is_told_with_what_it_leads_to_and_before_what_it_left() -> None:
    given = followed()
    given.update([holder("a")])
    answer(given.reflectors[NamespacedName("shop", "a")], "a")
    change = given.update([holder("b")])
    assert change.ended == (NamespacedName("shop", "a"),)
    assert told(given.sort_out([change_of(holder("b"))], change.events)) == []
    came = answer(given.reflectors[NamespacedName("shop", "b")], "b")
    assert told(given.sort_out(came, ())) == [
        "MODIFIED ConfigMap holder",
        "DELETED Secret a",
        "ADDED Secret b",
    ]


def test_other_changes_do_not_wait() -> None:
    given = followed()
    given.update([holder("a")])
    (one,) = given.reflectors.values()
    secret = decode(Secret, {"metadata": {"name": "x"}, "apiVersion": "v1", "kind": "Secret"})
    assert told(given.sort_out([change_of(secret)], ())) == ["MODIFIED Secret x"]
    one.next(0.0)
    one.broke("no connection", 0.0)
    assert told(given.sort_out([change_of(holder("a"))], ())) == ["MODIFIED ConfigMap holder"]


def test_a_reference_that_comes_back_is_not_deleted_later() -> None:
    given = followed()
    given.update([holder("a")])
    answer(given.reflectors[NamespacedName("shop", "a")], "a")
    left = given.update([holder("b")])
    given.sort_out([change_of(holder("b"))], left.events)
    back = given.update([holder("a")])
    given.sort_out([change_of(holder("a"))], back.events)
    came = answer(given.reflectors[NamespacedName("shop", "a")], "a")
    assert told(given.sort_out(came, ())) == [
        "MODIFIED ConfigMap holder",
        "MODIFIED ConfigMap holder",
        "ADDED Secret a",
    ]
