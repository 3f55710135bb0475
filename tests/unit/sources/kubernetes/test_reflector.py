"""Bytes of an API server come in, requests and events come out; no IO, a made-up clock."""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

import pytest

from penstock.core.deployments import Deployment
from penstock.core.events import Event, EventType
from penstock.core.kinds import ConfigMap, Service
from penstock.core.objects import Broken
from penstock.gatewayapi.resources import HTTPRoute
from penstock.sources.kubernetes.reflector import Phase, Reflector
from penstock.sources.kubernetes.requests import ListRequest, Pace, Pause, Request, WatchRequest

LISTS = Pace(stream_snapshots=False)
EXPIRED = {"code": 410, "reason": "Expired", "message": "too old resource version: 1 (9)"}


def half() -> float:
    return 0.5


def config_map(name: str, version: int, uid: str = "", **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "uid": uid or f"uid-{name}"}
    return {"metadata": {**metadata, "resourceVersion": str(version)}, "data": data}


def page(version: int, *objects: dict[str, Any], continue_: str = "") -> bytes:
    metadata = {"resourceVersion": str(version), "continue": continue_}
    return json.dumps({"kind": "ConfigMapList", "metadata": metadata, "items": objects}).encode()


def compact(body: bytes) -> bytes:
    """Return JSON as servers write it."""
    return json.dumps(json.loads(body), separators=(",", ":")).encode()


def event(kind: str, thing: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


def bookmark(version: int, *, ends_initial: bool = False) -> bytes:
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if ends_initial:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return event("BOOKMARK", {"kind": "ConfigMap", "metadata": metadata})


def answer(reflector: Reflector, body: bytes, now: float) -> tuple[Event, ...]:
    """Let a list come in two pieces; return what changes."""
    reflector.opened()
    half = len(body) // 2
    assert reflector.chunk(body[:half], now) == reflector.chunk(body[half:], now) == ()
    return reflector.finished(now)


def told(events: tuple[Event, ...]) -> list[str]:
    return [f"{one.type.value} {one.object.metadata.name}" for one in events]


def phase_of(reflector: Reflector) -> Phase:
    return reflector.phase


def is_synced(reflector: Reflector) -> bool:
    return reflector.synced


def watching(*objects: dict[str, Any], version: int = 9, pace: Pace = LISTS) -> Reflector:
    """Return a reflector at time 0 that knows *objects* and has asked for changes."""
    reflector = Reflector(ConfigMap, half, pace)
    if pace.stream_snapshots:
        reflector.next(0.0)
        reflector.opened()
        for one in objects:
            reflector.chunk(event("ADDED", one), 0.0)
        reflector.chunk(bookmark(version, ends_initial=True), 0.0)
    else:
        reflector.next(0.0)
        answer(reflector, page(version, *objects), 0.0)
        reflector.next(0.0)
        reflector.opened()
    assert phase_of(reflector) is Phase.WATCH
    return reflector


def after_pause(reflector: Reflector, now: float) -> tuple[float, Pause | Request]:
    """Return time and request after the pause that is due."""
    first = reflector.next(now)
    assert isinstance(first, Pause)
    then = now + first.seconds
    return then, reflector.next(then)


def test_pages_are_applied_when_the_last_one_is_there() -> None:
    reflector = Reflector(ConfigMap, half, LISTS)
    assert reflector.next(0.0) == ListRequest("v1", "configmaps", 2500)
    assert answer(reflector, page(9, config_map("b", 2), continue_="c1"), 0.0) == ()
    assert not is_synced(reflector)
    assert reflector.next(0.0) == ListRequest("v1", "configmaps", 2500, "c1")
    assert told(answer(reflector, page(9, config_map("a", 1)), 0.0)) == ["ADDED a", "ADDED b"]
    assert is_synced(reflector)
    assert reflector.next(0.0) == WatchRequest("v1", "configmaps", "9", 450)


def test_page_that_fails_is_asked_for_again_with_its_token() -> None:
    reflector = Reflector(ConfigMap, half, LISTS)
    reflector.next(0.0)
    answer(reflector, page(9, config_map("a", 1), continue_="c1"), 0.0)
    reflector.next(0.0)
    assert reflector.refused(500, b"oops", 1.0) == ()
    _, request = after_pause(reflector, 1.0)
    assert request == ListRequest("v1", "configmaps", 2500, "c1")
    assert told(answer(reflector, page(9, config_map("b", 1)), 2.0)) == ["ADDED a", "ADDED b"]


def test_expired_page_starts_over_without_pages() -> None:
    reflector = Reflector(ConfigMap, half, LISTS)
    reflector.next(0.0)
    answer(reflector, page(9, config_map("gone", 1), continue_="c1"), 0.0)
    reflector.next(0.0)
    reflector.refused(410, json.dumps(EXPIRED).encode(), 1.0)
    _, request = after_pause(reflector, 1.0)
    assert request == ListRequest("v1", "configmaps", 0)
    assert told(answer(reflector, page(12, config_map("a", 1)), 2.0)) == ["ADDED a"]


def test_streamed_snapshot_is_applied_at_its_bookmark_only() -> None:
    reflector = Reflector(ConfigMap, half)
    request = reflector.next(0.0)
    assert isinstance(request, WatchRequest)
    assert "sendInitialEvents=true" in request.target
    assert reflector.chunk(event("ADDED", config_map("a", 1)) + bookmark(3), 0.0) == ()
    assert not is_synced(reflector)
    assert told(reflector.chunk(bookmark(9, ends_initial=True), 0.0)) == ["ADDED a"]
    assert told(reflector.chunk(event("ADDED", config_map("b", 10)), 0.0)) == ["ADDED b"]


def test_first_snapshot_can_be_a_list_where_later_ones_are_streamed() -> None:
    reflector = Reflector(ConfigMap, half, Pace(first_as_list=True))
    assert reflector.next(0.0) == ListRequest("v1", "configmaps", 0)
    assert told(answer(reflector, page(9, config_map("a", 1)), 0.0)) == ["ADDED a"]
    reflector.next(0.0)
    reflector.opened()
    reflector.chunk(event("ERROR", EXPIRED), 1.0)
    _, again = after_pause(reflector, 1.0)
    assert isinstance(again, WatchRequest)
    assert "sendInitialEvents=true" in again.target


def test_first_list_that_breaks_is_dropped_and_read_in_pages() -> None:
    reflector = Reflector(ConfigMap, half, Pace(first_as_list=True))
    reflector.next(0.0)
    reflector.opened()
    body = compact(page(9, config_map("gone", 1), config_map("a", 1), config_map("b", 1)))
    reflector.chunk(body[:-100], 0.0)
    assert reflector.broke("connection lost", 0.0) == ()
    _, request = after_pause(reflector, 0.0)
    assert request == ListRequest("v1", "configmaps", 2500)
    assert told(answer(reflector, page(12, config_map("a", 1)), 1.0)) == ["ADDED a"]


def test_list_without_a_version_leaves_nothing_behind() -> None:
    reflector = Reflector(ConfigMap, half, LISTS)
    reflector.next(0.0)
    nameless = json.dumps({"metadata": {}, "items": [config_map("gone", 1)]}).encode()
    assert answer(reflector, nameless, 0.0) == ()
    assert reflector.trouble
    after_pause(reflector, 0.0)
    assert told(answer(reflector, page(9, config_map("a", 1)), 1.0)) == ["ADDED a"]


def test_what_a_list_brought_is_not_kept_when_it_has_changed() -> None:
    reflector = Reflector(ConfigMap, half, LISTS)
    reflector.next(0.0)
    names = ["a", "b", "c"]
    (first, *_) = answer(reflector, page(9, *(config_map(name, 1) for name in names)), 0.0)
    old = first.object
    del first, _
    reflector.next(0.0)
    reflector.opened()
    reflector.chunk(event("MODIFIED", config_map("a", 10, x="new")), 1.0)
    assert sys.getrefcount(old) == 2, "the name here and the argument hold it, nobody else"


def test_silence_within_a_list_counts_from_the_last_piece() -> None:
    reflector = Reflector(ConfigMap, half, LISTS)
    reflector.next(0.0)
    reflector.opened()
    body = page(9, config_map("a", 1))
    assert reflector.deadline == LISTS.answer
    reflector.chunk(body[:20], 50.0)
    assert reflector.deadline == 50.0 + LISTS.answer
    reflector.chunk(body[20:], 100.0)
    assert told(reflector.finished(101.0)) == ["ADDED a"]


def test_list_that_trickles_is_given_up_in_the_end() -> None:
    reflector = Reflector(ConfigMap, half, LISTS)
    reflector.next(0.0)
    reflector.opened()
    now, body = 0.0, iter(page(9, config_map("a", 1)))
    while now < reflector.deadline:
        reflector.chunk(bytes([next(body)]), now)
        now += LISTS.answer / 2
    assert now <= LISTS.watch_longest + LISTS.answer


def test_streamed_snapshot_that_breaks_is_dropped_and_listed_instead() -> None:
    reflector = Reflector(ConfigMap, half)
    reflector.next(0.0)
    reflector.chunk(event("ADDED", config_map("a", 1)), 0.0)
    assert reflector.broke("connection lost", 0.0) == ()
    _, request = after_pause(reflector, 0.0)
    assert request == ListRequest("v1", "configmaps", 2500)
    assert told(answer(reflector, page(9, config_map("b", 2)), 1.0)) == ["ADDED b"]


def test_server_that_cannot_stream_snapshots_is_asked_for_lists_from_then_on() -> None:
    reflector = Reflector(ConfigMap, half)
    reflector.next(0.0)
    reflector.refused(422, b'{"code": 422, "reason": "Invalid"}', 0.0)
    assert isinstance(reflector.next(0.0), ListRequest)
    answer(reflector, page(9), 0.0)
    reflector.next(0.0)
    reflector.chunk(event("ERROR", EXPIRED), 1.0)
    assert isinstance(after_pause(reflector, 1.0)[1], ListRequest)


def test_objects_missing_after_410_are_deleted() -> None:
    reflector = watching(config_map("a", 1), config_map("b", 2))
    assert reflector.chunk(event("ERROR", EXPIRED), 1.0) == ()
    assert reflector.over
    now, request = after_pause(reflector, 1.0)
    assert isinstance(request, ListRequest)
    assert told(answer(reflector, page(20, config_map("b", 2)), now)) == ["DELETED a"]


def test_object_made_anew_under_the_same_name_is_another_one() -> None:
    reflector = watching(config_map("a", 1, uid="first"))
    reflector.chunk(event("ERROR", EXPIRED), 1.0)
    now, _ = after_pause(reflector, 1.0)
    events = answer(reflector, page(20, config_map("a", 15, uid="second")), now)
    assert told(events) == ["DELETED a", "ADDED a"]
    assert [one.object.metadata.uid for one in events] == ["first", "second"]


def test_everything_stays_while_snapshots_fail() -> None:
    reflector = watching(config_map("a", 1))
    reflector.chunk(event("ERROR", EXPIRED), 1.0)
    now = 1.0
    for _ in range(20):
        now, _ = after_pause(reflector, now)
        assert reflector.refused(500, b"", now) == ()
    assert len(reflector.table) == 1


def test_pauses_grow_to_ten_seconds() -> None:
    reflector = Reflector(ConfigMap, half, LISTS)
    now, pauses = 0.0, list[float]()
    for _ in range(12):
        reflector.next(now)
        reflector.broke("refused", now)
        pause = reflector.next(now)
        assert isinstance(pause, Pause)
        pauses.append(pause.seconds)
        now += pause.seconds
    assert all(a <= b + 1e-6 for a, b in itertools.pairwise(pauses))
    assert pauses[0] < 0.1
    assert pauses[-1] == pytest.approx(7.5)


def test_repeated_and_late_events_change_nothing() -> None:
    reflector = watching(config_map("a", 1))
    newer = event("MODIFIED", config_map("a", 11, x="11"))
    older = event("MODIFIED", config_map("a", 10, x="10"))
    assert told(reflector.chunk(newer + newer + older, 0.0)) == ["MODIFIED a"]
    gone = event("DELETED", config_map("a", 12))
    assert told(reflector.chunk(gone + gone + newer, 0.0)) == ["DELETED a"]


def test_an_object_that_left_the_selection_and_comes_back_is_there_again() -> None:
    reflector = watching(config_map("a", 1))
    assert told(reflector.chunk(event("DELETED", config_map("a", 11)), 0.0)) == ["DELETED a"]
    assert told(reflector.chunk(event("ADDED", config_map("a", 12)), 0.0)) == ["ADDED a"]


def test_events_of_different_objects_may_come_in_any_order() -> None:
    reflector = watching()
    chunk = event("ADDED", config_map("b", 12)) + event("ADDED", config_map("a", 11))
    assert told(reflector.chunk(chunk, 0.0)) == ["ADDED b", "ADDED a"]


def test_late_deletion_of_an_earlier_object_of_the_name_changes_nothing() -> None:
    reflector = watching(config_map("a", 5, uid="second"))
    assert reflector.chunk(event("DELETED", config_map("a", 4, uid="first")), 0.0) == ()


def test_deletion_carries_the_last_known_state() -> None:
    reflector = watching(config_map("a", 1, x="1"))
    (gone,) = reflector.chunk(event("DELETED", config_map("a", 12)), 0.0)
    assert gone.type is EventType.DELETED
    assert isinstance(gone.object, ConfigMap)
    assert gone.object.data == {"x": "1"}


def test_lines_may_be_cut_anywhere() -> None:
    reflector = watching()
    stream = event("ADDED", config_map("a", 11, x="ü")) + event("ADDED", config_map("b", 12))
    events = [one for byte in stream for one in reflector.chunk(bytes([byte]), 0.0)]
    assert told(tuple(events)) == ["ADDED a", "ADDED b"]


def test_half_a_line_at_the_end_is_not_applied() -> None:
    reflector = watching()
    reflector.chunk(event("ADDED", config_map("a", 11))[:-10], 0.0)
    assert reflector.finished(10.0) == ()
    assert len(reflector.table) == 0


def test_watch_goes_on_from_the_last_bookmark_after_a_check() -> None:
    reflector = watching(config_map("a", 1))
    reflector.chunk(bookmark(40), 60.0)
    reflector.finished(400.0)
    assert reflector.next(400.0) == ListRequest("v1", "configmaps", 1)
    answer(reflector, page(41, config_map("a", 1)), 400.0)
    request = reflector.next(400.0)
    assert isinstance(request, WatchRequest)
    assert request.resource_version == "40"


def test_server_restored_from_an_older_copy_is_read_anew() -> None:
    reflector = watching(config_map("a", 8), config_map("new", 9), version=9)
    reflector.broke("connection lost", 1.0)
    now, request = after_pause(reflector, 1.0)
    assert request == ListRequest("v1", "configmaps", 1)
    assert answer(reflector, page(5, config_map("a", 3)), now) == ()
    now, request = after_pause(reflector, now)
    assert request == ListRequest("v1", "configmaps", 2500)
    events = answer(reflector, page(5, config_map("a", 3, x="old")), now)
    assert told(events) == ["MODIFIED a", "DELETED new"]


def test_deleted_object_that_a_restored_server_has_again_is_followed() -> None:
    reflector = watching(config_map("a", 8))
    reflector.chunk(event("DELETED", config_map("a", 10)), 0.0)
    reflector.chunk(event("ERROR", EXPIRED), 1.0)
    now, _ = after_pause(reflector, 1.0)
    assert told(answer(reflector, page(9, config_map("a", 8)), now)) == ["ADDED a"]
    reflector.next(now)
    assert told(reflector.chunk(event("MODIFIED", config_map("a", 10, x="2")), now)) == [
        "MODIFIED a"
    ]


def test_server_that_was_away_is_read_anew() -> None:
    reflector = watching(config_map("a", 8), config_map("b", 9), version=9)
    reflector.broke("connection lost", 1.0)
    now, request = after_pause(reflector, 1.0)
    assert request == ListRequest("v1", "configmaps", 1)
    reflector.broke("connection refused", now)
    now, request = after_pause(reflector, now)
    assert request == ListRequest("v1", "configmaps", 2500)
    assert told(answer(reflector, page(30, config_map("a", 8)), now)) == ["DELETED b"]


def test_watch_that_outlives_its_time_counts_as_stalled() -> None:
    reflector = watching()
    assert reflector.deadline == 450 + LISTS.margin


def test_silence_after_a_bookmark_counts_as_stalled_sooner() -> None:
    reflector = watching()
    reflector.chunk(bookmark(10), 60.0)
    assert reflector.deadline == 60.0 + LISTS.quiet


def test_silence_of_a_server_that_sent_bookmarks_earlier_counts_from_the_beginning() -> None:
    reflector = watching(config_map("a", 1))
    reflector.chunk(bookmark(40), 60.0)
    reflector.finished(400.0)
    reflector.next(400.0)
    answer(reflector, page(41, config_map("a", 1)), 400.0)
    assert isinstance(reflector.next(400.0), WatchRequest)
    reflector.opened()
    assert reflector.deadline == 400.0 + LISTS.quiet


def test_silence_in_a_snapshot_counts_as_stalled() -> None:
    reflector = Reflector(ConfigMap, half)
    reflector.next(0.0)
    reflector.chunk(event("ADDED", config_map("a", 1)), 50.0)
    assert reflector.deadline == 50.0 + LISTS.answer


def test_watch_that_ends_at_once_without_a_word_is_not_asked_for_in_a_loop() -> None:
    reflector = watching()
    reflector.finished(0.1)
    assert isinstance(reflector.next(0.1), Pause)


def test_snapshots_after_a_few_come_twice_a_minute_at_most() -> None:
    reflector = watching()
    now = 0.0
    for _ in range(10):
        reflector.chunk(event("ERROR", EXPIRED), now)
        now, _ = after_pause(reflector, now)
        answer(reflector, page(9), now)
        reflector.next(now)
    assert now >= LISTS.between_snapshots * 7


def test_kind_that_the_server_does_not_know_is_empty_and_asked_for_again() -> None:
    reflector = Reflector(HTTPRoute, half, LISTS)
    versions = []
    for _ in range(2):
        request = reflector.next(0.0)
        assert isinstance(request, ListRequest)
        versions.append(request.api_version)
        reflector.refused(404, b"404 page not found", 0.0)
    assert versions == ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"]
    assert is_synced(reflector)
    assert phase_of(reflector) is Phase.ABSENT
    now, request = after_pause(reflector, 0.0)
    assert now <= 10.0
    assert isinstance(request, ListRequest)
    assert request.api_version == "gateway.networking.k8s.io/v1"
    answer(reflector, page(9), now)
    assert phase_of(reflector) is Phase.WATCH


def test_kind_that_vanishes_keeps_its_objects_until_it_stayed_away() -> None:
    reflector = watching(config_map("a", 1))
    reflector.broke("connection lost", 1.0)
    now = 1.0
    events: tuple[Event, ...] = ()
    while phase_of(reflector) is not Phase.ABSENT:
        now, _ = after_pause(reflector, now)
        events = reflector.refused(404, b"404 page not found", now)
        assert now < 60.0
    assert now >= 1.0 + LISTS.vanished
    assert told(events) == ["DELETED a"]


def test_denied_kind_is_not_synced() -> None:
    reflector = Reflector(ConfigMap, half, LISTS)
    reflector.next(0.0)
    reflector.refused(403, b'{"code": 403, "reason": "Forbidden", "message": "no"}', 0.0)
    assert reflector.denied
    assert not is_synced(reflector)
    pause = reflector.next(0.0)
    assert isinstance(pause, Pause)
    assert pause.seconds >= LISTS.denied


def test_retry_after_is_respected() -> None:
    reflector = Reflector(ConfigMap, half, LISTS)
    reflector.next(0.0)
    reflector.refused(429, b"", 0.0, retry_after=7.0)
    assert reflector.next(0.0) == Pause(7.0)


@pytest.mark.parametrize("said", [b"", b"<html>", b"[]", b'{"metadata": {}, "items": []}', b"{"])
def test_answer_that_is_no_list_changes_nothing(said: bytes) -> None:
    reflector = watching(config_map("a", 1))
    reflector.chunk(event("ERROR", EXPIRED), 1.0)
    now, _ = after_pause(reflector, 1.0)
    assert answer(reflector, said, now) == ()
    assert reflector.trouble
    assert len(reflector.table) == 1


@pytest.mark.parametrize("line", [b"x\n", b"{}\n", b'{"type": "ADDED", "object": {}}\n'])
def test_line_that_is_no_event_ends_the_watch(line: bytes) -> None:
    reflector = watching(config_map("a", 1))
    good = event("ADDED", config_map("b", 10))
    assert told(reflector.chunk(good + line + event("DELETED", config_map("a", 11)), 1.0)) == [
        "ADDED b"
    ]
    assert reflector.over
    assert len(reflector.table) == 2


def test_managed_fields_and_unread_status_are_not_kept() -> None:
    thing = config_map("a", 1)
    thing["metadata"]["managedFields"] = [{"manager": "kubectl", "fieldsV1": {"f:data": {}}}]
    thing["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "kept": "1",
    }
    thing["status"] = {"conditions": [1, 2, 3]}
    reflector = watching(thing)
    (kept,) = reflector.table
    assert kept.metadata.annotations == {"kept": "1"}
    assert isinstance(kept, ConfigMap)


def test_object_that_stops_decoding_keeps_its_last_good_version_also_over_a_snapshot() -> None:
    def deployment(version: int, replicas: int) -> dict[str, Any]:
        thing = config_map("d", version)
        del thing["data"]
        template = {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": []}}
        template["spec"] = {"containers": [{"name": "c", "image": "penstock.dev/echo"}]}
        selector = {"matchLabels": {"app": "d"}}
        thing["spec"] = {"replicas": replicas, "selector": selector, "template": template}
        return thing

    reflector = Reflector(Deployment, half, LISTS)
    reflector.next(0.0)
    answer(reflector, page(9, deployment(1, 3)), 0.0)
    reflector.next(0.0)
    assert reflector.chunk(event("MODIFIED", deployment(10, -1)), 0.0) == ()
    assert [one.last_good for one in reflector.table.problems()] == [True]
    reflector.chunk(event("ERROR", EXPIRED), 1.0)
    now, _ = after_pause(reflector, 1.0)
    assert answer(reflector, page(11, deployment(10, -1)), now) == ()
    (kept,) = reflector.table
    assert isinstance(kept, Deployment)
    assert kept.spec.replicas == 3


def test_field_that_only_a_newer_kubernetes_knows_is_left_out() -> None:
    spec = {"ports": [{"port": 80, "newer": 1}], "newer": {}, "selector": {"app": "a"}}
    thing = config_map("a", 1)
    del thing["data"]
    thing["spec"] = spec
    reflector = Reflector(Service, half, LISTS)
    reflector.next(0.0)
    (came,) = answer(reflector, page(9, thing), 0.0)
    assert isinstance(came.object, Service)
    assert came.object.spec.ports[0].port == 80


def test_unknown_field_of_a_custom_resource_is_a_mistake() -> None:
    thing = config_map("a", 1)
    del thing["data"]
    thing["spec"] = {"rules": [{"newer": 1}]}
    reflector = Reflector(HTTPRoute, half, LISTS)
    reflector.next(0.0)
    (came,) = answer(reflector, page(9, thing), 0.0)
    assert isinstance(came.object, Broken)
    assert [str(one.problem.path) for one in reflector.table.problems()] == ["spec.rules[0].newer"]
