"""What is done about an object that we generate."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from penstock.gatewayapi.generated import GENERATED_FOR, Generated
from penstock.meta.names import ObjectRef
from penstock.status.objects import APPLIED, Apply, Create, Delete, Keep, Mend, step

WANTED = Generated(
    ref=ObjectRef("Service", "shop", "gw-c"),
    body={
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "gw-c",
            "namespace": "shop",
            "labels": {GENERATED_FOR: "gw", "team": "a"},
            "ownerReferences": [{"kind": "Gateway", "name": "gw", "uid": "u1"}],
        },
        "spec": {
            "type": "ClusterIP",
            "ports": [{"name": "tcp-80", "port": 80, "protocol": "TCP"}],
        },
    },
    owner="u1",
)


def live(wanted: Generated = WANTED) -> dict[str, Any]:
    """Return what a server makes of an object that was applied."""
    made = step(None, wanted)
    assert isinstance(made, Create)
    found = copy.deepcopy(made.body)
    found["metadata"] |= {"uid": "u7", "resourceVersion": "12", "creationTimestamp": "now"}
    found["metadata"]["managedFields"] = [{"manager": "penstock", "operation": "Apply"}]
    found["spec"] |= {"clusterIP": "10.96.0.1", "sessionAffinity": "None"}
    found["spec"]["ports"][0] |= {"nodePort": 30001, "targetPort": 80}
    return found


def changed(**metadata: Any) -> Generated:
    body = WANTED.body | {"metadata": WANTED.body["metadata"] | metadata}
    return Generated(ref=WANTED.ref, body=body, owner=WANTED.owner)


def test_what_is_not_there_is_made_and_what_is_as_it_should_be_is_kept() -> None:
    made = step(None, WANTED)
    assert isinstance(made, Create)
    assert APPLIED in made.body["metadata"]["annotations"]
    assert step(live(), WANTED) == Keep()
    assert step(None, None) == Keep()


def test_what_others_add_to_metadata_is_kept() -> None:
    found = live()
    found["metadata"]["labels"]["theirs"] = "1"
    found["metadata"]["finalizers"] = ["cloud.test/balancer"]
    assert step(found, WANTED) == Keep()


@pytest.mark.parametrize(
    "wanted",
    [
        changed(labels={GENERATED_FOR: "gw"}),
        changed(labels={GENERATED_FOR: "gw", "team": "b"}),
        changed(annotations={"size": "big"}),
    ],
    ids=["less", "other", "more"],
)
def test_what_we_say_otherwise_than_before_is_applied_to_what_was_read(wanted: Generated) -> None:
    todo = step(live(), wanted)
    assert isinstance(todo, Apply)
    metadata = todo.body["metadata"]
    assert (metadata["uid"], metadata["resourceVersion"]) == ("u7", "12")
    assert metadata["labels"] == wanted.body["metadata"]["labels"]


def test_what_leads_elsewhere_is_taken_away() -> None:
    found = live()
    found["spec"]["selector"] = {"app": "mine"}
    found["spec"]["ports"].append({"name": "x", "port": 81, "protocol": "TCP"})
    todo = step(found, WANTED)
    assert isinstance(todo, Mend)
    assert todo.patch["spec"]["selector"] is None
    (port,) = todo.patch["spec"]["ports"]
    assert (port["port"], port["nodePort"]) == (80, 30001)
    assert todo.patch["metadata"]["resourceVersion"] == "12"


def test_what_is_somebody_elses_is_left_alone() -> None:
    found = live()
    found["metadata"] |= {"labels": {}, "ownerReferences": []}
    assert step(found, WANTED) == Keep(foreign=True)
    assert step(found, None) == Keep(foreign=True)
    found["metadata"]["labels"] = {GENERATED_FOR: "other"}
    assert step(found, WANTED) == Keep(foreign=True)


def test_ours_without_its_label_is_known_by_its_owner() -> None:
    found = live()
    found["metadata"]["labels"] = {}
    assert isinstance(step(found, WANTED), Apply)


def test_what_is_not_wanted_any_more_is_deleted_as_it_was_read_unless_it_goes_already() -> None:
    todo = step(live(), None)
    assert todo == Delete({"preconditions": {"uid": "u7", "resourceVersion": "12"}})
    going = live()
    going["metadata"]["deletionTimestamp"] = "now"
    assert step(going, None) == step(going, WANTED) == Keep()


def test_a_copy_with_our_label_that_somebody_made_is_not_deleted() -> None:
    copied = live()
    for by in ("kubectl", "penstock"):
        copied["metadata"]["managedFields"] = [{"manager": by, "operation": "Update"}]
        assert step(copied, None) == Keep(foreign=True)


def test_slices_with_more_endpoints_than_ours_are_mended() -> None:
    wanted = Generated(
        ref=ObjectRef("EndpointSlice", "shop", "gw-c-ipv4"),
        body={
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "gw-c-ipv4", "namespace": "shop", "labels": {GENERATED_FOR: "gw"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["192.0.2.1"]}],
            "ports": [{"name": "tcp-80", "port": 80, "protocol": "TCP"}],
        },
    )
    made = step(None, wanted)
    assert isinstance(made, Create)
    found = copy.deepcopy(made.body)
    found["metadata"] |= {"uid": "u8", "resourceVersion": "3"}
    assert step(found, wanted) == Keep()
    found["endpoints"].append({"addresses": ["192.0.2.66"]})
    todo = step(found, wanted)
    assert isinstance(todo, Mend)
    assert todo.patch["endpoints"] == wanted.body["endpoints"]
