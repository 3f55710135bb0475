"""What becomes an Event, and what does not."""

from __future__ import annotations

import itertools
from typing import Any

from penstock.meta.names import ObjectRef
from penstock.status.transitions import (
    LONGEST_NOTE,
    Allowance,
    Said,
    Transition,
    again,
    event,
    of_problems,
    settled,
    transition,
)

OURS = "penstock.io/controller"


def condition(kind: str, value: str, reason: str = "", message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": value, "reason": reason, "message": message}


def plain(*conditions: dict[str, Any]) -> dict[str, Any]:
    return {"conditions": list(conditions)}


def route(*conditions: dict[str, Any], controller: str = OURS, name: str = "gw") -> dict[str, Any]:
    entry = {"controllerName": controller, "parentRef": {"name": name}}
    return {"parents": [entry | {"conditions": list(conditions)}]}


def follow(*statuses: dict[str, Any]) -> list[str]:
    """Return what is told of each status after the first one."""
    known = settled(statuses[0], OURS)
    told: list[str] = []
    for status in statuses[1:]:
        now = settled(status, OURS, known)
        one = transition(known, now)
        known = now
        told.append("" if one is None else f"{one.type} {one.reason}")
    return told


ACCEPTED = condition("Accepted", "True", "Accepted")
REFUSED = condition("Accepted", "False", "NoMatchingParent", "no such listener")
NOT_ALLOWED = condition("Accepted", "False", "NotAllowedByListeners")
PENDING = condition("DataPlaneAcked", "Unknown", "Pending")
ACKED = condition("DataPlaneAcked", "True", "Acked")
REJECTED = condition("DataPlaneAcked", "False", "Rejected", "bad regex")


def test_what_is_wrong_is_told_when_it_is_something_else_and_when_it_is_over() -> None:
    said = ["", "a", "a", "a; b", "", ""]
    told = [of_problems(*pair) for pair in itertools.pairwise(said)]
    assert [one and (one.type, one.reason, one.note) for one in told] == [
        ("Warning", "NotServedAsWritten", "a"),
        None,
        ("Warning", "NotServedAsWritten", "a; b"),
        ("Normal", "ServedAsWritten", "everything is served as it is written"),
        None,
    ]


def test_a_new_object_that_is_good_is_told_once() -> None:
    assert follow({}, plain(ACCEPTED), plain(ACCEPTED)) == ["Normal Accepted", ""]


def test_becoming_bad_and_good_again_is_told() -> None:
    told = follow(plain(ACCEPTED), plain(REFUSED), plain(REFUSED), plain(ACCEPTED))
    assert told == ["Warning NotAccepted", "", "Normal Accepted"]


def test_another_reason_is_news() -> None:
    assert follow(plain(REFUSED), plain(NOT_ALLOWED)) == ["Warning NotAccepted"]


def test_another_message_is_no_news() -> None:
    other = REFUSED | {"message": "something else"}
    assert follow(plain(REFUSED), plain(other)) == [""]


def test_resources_on_their_way_and_there_are_no_news() -> None:
    good = plain(ACCEPTED)
    assert follow(good, plain(ACCEPTED, PENDING), plain(ACCEPTED, ACKED)) == ["", ""]


def test_a_refusal_of_the_data_plane_and_its_end_are_told_across_what_is_pending() -> None:
    told = follow(
        plain(ACCEPTED, ACKED),
        plain(ACCEPTED, REJECTED),
        plain(ACCEPTED, PENDING),
        plain(ACCEPTED, REJECTED),
        plain(ACCEPTED, PENDING),
        plain(ACCEPTED, ACKED),
    )
    assert told == ["Warning RejectedByDataPlane", "", "", "", "Normal AcceptedByDataPlane"]


def test_a_route_that_no_listener_is_open_for_is_refused_by_no_node() -> None:
    closed = condition("DataPlaneAcked", "False", "NotServed", "not served: listener http: …")
    told = follow(plain(ACCEPTED, ACKED), plain(ACCEPTED, closed), plain(ACCEPTED, ACKED))
    assert told == ["Warning NotServed", "Normal AcceptedByDataPlane"]


def test_not_programmed_because_it_takes_a_moment_is_no_news() -> None:
    yes = condition("Programmed", "True", "Programmed")
    wait = condition("Programmed", "False", "Pending")
    no = condition("Programmed", "False", "AddressNotUsable")
    assert follow(plain(yes), plain(wait), plain(yes)) == ["", ""]
    assert follow(plain(yes), plain(no)) == ["Warning NotProgrammed"]


def test_an_address_that_nobody_answers_for_is_told_and_its_end() -> None:
    kind = "penstock.dev/AddressAssigned"
    good = plain(condition(kind, "True", "Assigned"))
    bad = plain(condition(kind, "False", "NoLocalEndpoints", "announced nowhere"))
    assert follow(good, bad, good) == ["Warning AddressNotAssigned", "Normal AddressAssigned"]


def test_several_changes_are_one_event_with_the_worst_reason() -> None:
    unresolved = condition("ResolvedRefs", "False", "BackendNotFound", "no Service x")
    resolved = condition("ResolvedRefs", "True")
    before, after = (
        settled(route(ACCEPTED, resolved), OURS),
        settled(route(REFUSED, unresolved), OURS),
    )
    assert transition(before, after) == Transition(
        type="Warning",
        reason="NotAccepted",
        note="Accepted at Gateway gw: NoMatchingParent: no such listener; "
        "ResolvedRefs at Gateway gw: BackendNotFound: no Service x",
    )


def test_what_other_controllers_say_is_not_ours_to_tell() -> None:
    assert follow({}, route(REFUSED, controller="other.example/controller")) == [""]


def test_a_parent_that_is_gone_and_comes_back_is_new() -> None:
    told = follow(route(ACCEPTED), {"parents": []}, route(ACCEPTED))
    assert told == ["", "Normal Accepted"]


def test_listeners_are_places_of_their_own() -> None:
    def gateway(good: str) -> dict[str, Any]:
        bad = condition("ResolvedRefs", good, "InvalidCertificateRef", "no Secret")
        return {"listeners": [{"name": "https", "conditions": [bad]}]}

    assert follow(gateway("True"), gateway("False")) == ["Warning UnresolvedRefs"]


def test_long_notes_are_cut_at_a_character() -> None:
    long = {("", "Accepted"): Said(good=False, reason="R", message="ü" * 2_000)}
    told = transition({}, long)
    assert told is not None
    assert len(told.note.encode()) <= LONGEST_NOTE
    assert told.note.endswith("ü…")


def test_an_event_says_about_what_and_by_whom() -> None:
    told = Transition(type="Normal", reason="Accepted", note="Accepted")
    ref = ObjectRef("GatewayClass", "", "penstock")
    made = event(told, ref, api_version="v1", uid="u", name="e", instance="i" * 200, wall=0.5)
    assert made["metadata"] == {"name": "e", "namespace": "default"}
    assert made["eventTime"] == "1970-01-01T00:00:00.500000Z"
    assert len(made["reportingInstance"]) == 128
    assert made["regarding"] == {
        "apiVersion": "v1", "kind": "GatewayClass", "name": "penstock", "uid": "u",
    }  # fmt: skip
    assert again(made | again(made, 1.0), 2.0)["series"]["count"] == 3


def test_an_allowance_fills_up_with_time() -> None:
    left = Allowance(2.0, 10.0, 0.0)
    assert [left.take(0.0) for _ in range(3)] == [True, True, False]
    assert not left.take(9.0)
    assert left.take(10.0)
    assert not left.is_full(20.0)
    assert left.is_full(40.0)


def balanced(*addresses: str) -> dict[str, Any]:
    entries = [{"ip": one} for one in addresses]
    return {"loadBalancer": {"ingress": entries} if entries else {}}


def test_an_ingress_that_gets_an_address_and_loses_it_is_told() -> None:
    told = follow({}, balanced(), balanced("192.0.2.1"), balanced("192.0.2.1"), balanced())
    assert told == ["", "Normal AddressAssigned", "", "Warning AddressLost"]
    one = transition({}, settled(balanced("192.0.2.1", "2001:db8::1"), OURS))
    assert one is not None
    assert one.note == "Address 192.0.2.1, 2001:db8::1"


def test_rules_that_are_not_served_are_told_as_a_warning() -> None:
    bad = condition("PartiallyInvalid", "True", "UnsupportedValue", "Dropped Rule 0")
    assert follow(route(ACCEPTED), route(ACCEPTED, bad)) == ["Warning PartiallyInvalid"]


def test_a_route_that_others_go_before_is_told_as_a_warning() -> None:
    told = follow(route(), route(condition("Overlapped", "True", "RouteGoesFirst", "a")), route())
    assert told == ["Warning Overlapped", ""]
