"""Ours is written, and what others wrote stays."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from penstock.status.merge import LONGEST_MESSAGE, is_in_force, merged

US, THEM = "penstock.dev/gateway-controller", "example.com/other"
EARLIER, NOW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def wanted(kind: str, status: str = "True", message: str = "") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": kind,
        "message": message,
        "observedGeneration": 1,
    }


def written(kind: str, status: str = "True", message: str = "") -> dict[str, Any]:
    return wanted(kind, status, message) | {"lastTransitionTime": EARLIER}


def entry(controller: str, parent: dict[str, Any], *conditions: dict[str, Any]) -> dict[str, Any]:
    return {"controllerName": controller, "parentRef": parent, "conditions": list(conditions)}


def merge(observed: dict[str, Any], desired: dict[str, Any] | None) -> dict[str, Any]:
    before = copy.deepcopy(observed)
    result = merged(observed, desired, US, NOW)
    assert observed == before
    return result


def test_empty_status_gets_ours_with_the_time() -> None:
    result = merge({}, {"conditions": [wanted("Accepted")]})
    assert result == {"conditions": [wanted("Accepted") | {"lastTransitionTime": NOW}]}


def test_equal_status_is_not_another_one() -> None:
    observed = {"conditions": [written("Accepted"), written("Programmed")]}
    assert merge(observed, {"conditions": [wanted("Programmed"), wanted("Accepted")]}) == observed


def test_time_of_transition_changes_with_the_status_only() -> None:
    observed = {"conditions": [written("Accepted"), written("Programmed")]}
    desired = {"conditions": [wanted("Accepted", message="new"), wanted("Programmed", "False")]}
    accepted, programmed = merge(observed, desired)["conditions"]
    assert (accepted["message"], accepted["lastTransitionTime"]) == ("new", EARLIER)
    assert programmed["lastTransitionTime"] == NOW


def test_conditions_of_other_types_stay_and_ours_that_ended_go() -> None:
    observed = {"conditions": [written("example.com/Seen"), written("ResolvedRefs")]}
    result = merge(observed, {"conditions": [wanted("Accepted")]})
    assert [one["type"] for one in result["conditions"]] == ["example.com/Seen", "Accepted"]


def test_fields_that_we_do_not_know_stay() -> None:
    observed = {"attachedListenerSets": 2, "conditions": []}
    assert merge(observed, {"conditions": [], "addresses": []}) == observed


def test_entries_of_other_controllers_stay_in_their_place() -> None:
    theirs = entry(THEM, {"name": "g"}, written("Accepted", "False"))
    observed = {"parents": [entry(US, {"name": "old"}), theirs, entry(US, {"name": "g"})]}
    desired = {"parents": [entry(US, {"name": "g"}, wanted("Accepted"))]}
    first, second = merge(observed, desired)["parents"]
    assert first == theirs
    assert second["parentRef"] == {"name": "g"}
    assert second["conditions"][0]["lastTransitionTime"] == NOW


def test_entries_of_others_at_ancestors_stay() -> None:
    def at(controller: str, name: str, *conditions: dict[str, Any]) -> dict[str, Any]:
        listed = list(conditions)
        return {"controllerName": controller, "ancestorRef": {"name": name}, "conditions": listed}

    theirs = at("other.test/c", "g")
    observed = {"ancestors": [at(US, "old"), theirs]}
    result = merge(observed, {"ancestors": [at(US, "g", wanted("Accepted"))]})
    assert result["ancestors"][0] == theirs
    assert [one["ancestorRef"] for one in result["ancestors"]] == [{"name": "g"}] * 2
    assert merge(result, None) == {"ancestors": [theirs]}


def test_parents_differ_by_every_field() -> None:
    parents: list[dict[str, Any]] = [{"name": "g"}, {"name": "g", "sectionName": "a"},
                                     {"name": "g", "port": 80}]  # fmt: skip
    desired = {"parents": [entry(US, parent, wanted("Accepted")) for parent in parents]}
    once = merge({"parents": [entry(US, parents[1], written("Accepted"))]}, desired)
    assert [one["parentRef"] for one in once["parents"]] == [parents[1], parents[0], parents[2]]
    assert merge(once, desired) == once


def test_route_that_has_no_parent_of_ours_loses_our_entries_only() -> None:
    theirs = entry(THEM, {"name": "g"}, written("Accepted"))
    assert merge({"parents": [entry(US, {"name": "h"}), theirs]}, None) == {"parents": [theirs]}


def test_object_that_is_not_ours_stays_as_it_is() -> None:
    observed = {"conditions": [written("Accepted", "False")]}
    assert merge(observed, None) == observed
    assert merge({}, None) == {}


def test_listeners_are_in_the_order_of_the_spec_with_what_others_said() -> None:
    observed = {
        "listeners": [
            {"name": "gone", "conditions": []},
            {"name": "b", "attachedRoutes": 0, "conditions": [written("example.com/Seen")]},
        ]
    }
    desired = {
        "listeners": [
            {"name": "a", "attachedRoutes": 1, "conditions": [wanted("Accepted")]},
            {"name": "b", "attachedRoutes": 2, "conditions": [wanted("Accepted")]},
        ]
    }
    first, second = merge(observed, desired)["listeners"]
    assert (first["name"], second["name"], second["attachedRoutes"]) == ("a", "b", 2)
    assert [one["type"] for one in second["conditions"]] == ["example.com/Seen", "Accepted"]


def test_endless_message_is_cut() -> None:
    result = merge({}, {"conditions": [wanted("Valid", "False", "x" * 100_000)]})
    assert len(result["conditions"][0]["message"]) == LONGEST_MESSAGE


def test_what_an_api_server_fills_in_before_anybody_looked_is_replaced() -> None:
    waiting = {
        "type": "Accepted", "status": "Unknown", "reason": "Pending",
        "message": "Waiting for controller", "lastTransitionTime": "1970-01-01T00:00:00Z",
    }  # fmt: skip
    ours = {
        "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
        "observedGeneration": 1,
    }  # fmt: skip
    now = "2026-01-01T00:00:00Z"
    found = merged({"conditions": [waiting]}, {"conditions": [ours]}, "c", now)
    assert found["conditions"] == [ours | {"lastTransitionTime": now}]


def said(kind: str, status: str, generation: int = 2) -> dict[str, Any]:
    return {"type": kind, "status": status, "observedGeneration": generation}


@pytest.mark.parametrize(
    ("conditions", "in_force"),
    [
        ([], False),
        ([said("Accepted", "True")], False),
        ([said("DataPlaneAcked", "True"), said("Programmed", "False")], True),
        ([said("DataPlaneAcked", "Unknown"), said("Programmed", "True")], False),
        ([said("DataPlaneAcked", "True", 1)], False),
        ([said("Programmed", "True")], True),
    ],
)
def test_a_status_tells_whether_an_object_is_in_force(
    conditions: list[dict[str, Any]],
    in_force: bool,  # noqa: FBT001 - as pytest gives it
) -> None:
    assert is_in_force({"conditions": conditions}, "c", 2) is in_force
    mine = {"controllerName": "c", "conditions": conditions}
    other = {"controllerName": "d", "conditions": [said("DataPlaneAcked", "False")]}
    assert is_in_force({"parents": [other, mine]}, "c", 2) is in_force


def test_an_object_is_in_force_if_it_is_at_all_its_parents() -> None:
    entries = [
        {"controllerName": "c", "conditions": [said("DataPlaneAcked", status)]}
        for status in ("True", "Unknown")
    ]
    assert not is_in_force({"parents": entries}, "c", 2)
    assert not is_in_force({"parents": []}, "c", 2)


def test_a_parent_that_lets_nobody_in_says_nothing_of_what_nodes_have() -> None:
    closed = said("DataPlaneAcked", "False") | {"reason": "NotServed"}
    entries = [
        {"controllerName": "c", "conditions": [one]}
        for one in (said("DataPlaneAcked", "True"), closed)
    ]
    assert is_in_force({"parents": entries}, "c", 2)
    assert not is_in_force({"parents": entries[1:]}, "c", 2)


@pytest.mark.parametrize(
    ("kind", "name", "most"),
    [
        ("HTTPRoute", "parents", 32),
        ("BackendTLSPolicy", "ancestors", 16),
        ("XBackend", "ancestors", 32),
    ],
)
def test_where_others_leave_no_room_the_last_of_ours_are_left_out(
    kind: str, name: str, most: int
) -> None:
    ref = {"parents": "parentRef", "ancestors": "ancestorRef"}[name]

    def entries(controller: str, count: int) -> list[dict[str, Any]]:
        said = {"controllerName": controller, "conditions": []}
        return [{ref: {"name": f"{controller}-{number}"}, **said} for number in range(count)]

    theirs, ours = entries(THEM, most // 2 + 1), entries(US, most // 2)
    result = merged({name: theirs}, {name: ours}, US, NOW, kind)[name]
    assert result == [*theirs, *ours[:-1]]
    assert merged({name: result}, {name: ours}, US, NOW, kind)[name] == result
    full = entries(THEM, most)
    assert merged({name: full}, {name: ours}, US, NOW, kind)[name] == full
