"""Who gets what on a delta stream: subscriptions, differences, and their cost."""

from __future__ import annotations

from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.xds import types
from penstock.xds.delta import DeltaStream
from penstock.xds.resource import Resource, ResourceName
from penstock.xds.snapshot import Snapshot
from penstock.xds.verdict import Accepted
from support.dialogue import Dialogue, cluster, endpoints, scope


def test_wildcard_gets_everything_and_then_each_change() -> None:
    talk = Dialogue(cluster("a"), cluster("b"))
    talk.ask(types.CLUSTER)
    assert talk.settle() == [("Cluster", ["a", "b"], [])]
    talk.change(cluster("b", b"2"), cluster("c"))
    assert talk.settle() == [("Cluster", ["b", "c"], [])]
    talk.change(remove=[cluster("a")])
    assert talk.settle() == [("Cluster", [], ["a"])]
    assert talk.stream.pending == {}


def test_first_answer_comes_even_when_there_is_nothing() -> None:
    talk = Dialogue()
    talk.ask(types.LISTENER)
    assert talk.settle() == [("Listener", [], [])]
    assert talk.stream.verdicts() == []


def test_first_answer_does_not_come_before_what_has_to_wait() -> None:
    talk = Dialogue(cluster("a"), scope("s", "a"))
    talk.ask(types.CLUSTER)
    talk.ask(types.SCOPE)
    assert talk.sends() == [("Cluster", ["a"], [])]
    talk.ack()
    assert talk.sends() == [("ScopedRouteConfiguration", ["s"], [])]


def test_empty_request_for_endpoints_is_no_wildcard() -> None:
    talk = Dialogue(endpoints("a"))
    talk.ask(types.ENDPOINTS)
    assert talk.sends() == []
    talk.ask(types.ENDPOINTS, "*")
    assert talk.sends() == [("ClusterLoadAssignment", ["a"], [])]


def test_missing_name_is_answered_as_removed_and_sent_when_it_exists() -> None:
    talk = Dialogue()
    talk.ask(types.ENDPOINTS, "a")
    assert talk.settle() == [("ClusterLoadAssignment", [], ["a"])]
    talk.change(endpoints("a"))
    assert talk.settle() == [("ClusterLoadAssignment", ["a"], [])]


def test_name_that_is_asked_for_again_is_sent_again() -> None:
    talk = Dialogue(endpoints("a"))
    talk.ask(types.ENDPOINTS, "a")
    talk.settle()
    talk.ask(types.ENDPOINTS, "a")
    assert talk.settle() == [("ClusterLoadAssignment", ["a"], [])]


def test_name_that_is_left_is_not_sent() -> None:
    talk = Dialogue(endpoints("a"), endpoints("b"))
    talk.ask(types.ENDPOINTS, "a", "b")
    talk.settle()
    talk.ask(types.ENDPOINTS, leave=["a"])
    talk.change(endpoints("a", b"2"), endpoints("b", b"2"))
    assert talk.settle() == [("ClusterLoadAssignment", ["b"], [])]
    assert talk.stream.acked[types.ENDPOINTS].keys() == {"b"}


def test_left_wildcard_ends_all_but_the_names() -> None:
    talk = Dialogue(cluster("a"), cluster("b"))
    talk.ask(types.CLUSTER, "*", "b")
    talk.settle()
    talk.ask(types.CLUSTER, leave=["*"])
    talk.change(cluster("a", b"2"), cluster("b", b"2"))
    assert talk.settle() == [("Cluster", ["b"], [])]


def test_name_left_under_a_wildcard_is_sent_again() -> None:
    talk = Dialogue(cluster("a"))
    talk.ask(types.CLUSTER, "*", "a")
    talk.settle()
    talk.ask(types.CLUSTER, leave=["a"])
    assert talk.settle() == [("Cluster", ["a"], [])]


def test_returning_client_gets_the_difference() -> None:
    same, old, new = cluster("same"), cluster("changed", b"1"), cluster("changed", b"2")
    talk = Dialogue(same, new)
    has = {"same": same.version, "changed": old.version, "gone": "x"}
    talk.ask(types.CLUSTER, has=has)
    assert talk.settle() == [("Cluster", ["changed"], []), ("Cluster", [], ["gone"])]


def test_returning_client_in_step_gets_an_empty_answer() -> None:
    talk = Dialogue(cluster("a"))
    talk.ask(types.CLUSTER, has={"a": cluster("a").version})
    assert talk.settle() == [("Cluster", [], [])]
    versions = {"a": cluster("a").version}
    assert talk.stream.verdicts() == [Accepted(types.CLUSTER, versions, brought=True)]
    assert talk.stream.acked == {types.CLUSTER: versions}


def test_slow_client_gets_the_latest_and_none_between() -> None:
    talk = Dialogue(cluster("a"))
    talk.ask(types.CLUSTER)
    first = (talk.sends(), talk.last)
    for i in range(100):
        talk.change(cluster("a", b"v%d" % i), cluster("b", b"v%d" % i))
        assert talk.stream.responses(talk.now) == []
    talk.ack(*first[1])
    assert talk.settle() == [("Cluster", ["a", "b"], [])]
    assert talk.stream.acked[types.CLUSTER]["a"] == cluster("a", b"v99").version


def test_answer_to_a_response_of_another_stream_is_ignored() -> None:
    talk = Dialogue(cluster("a"))
    talk.ask(types.CLUSTER)
    talk.sends()
    stale = discovery_pb2.DeltaDiscoveryRequest(type_url=types.CLUSTER, response_nonce="99")
    stale.error_detail.message = "no"
    talk.stream.on_request(stale, talk.now)
    assert talk.stream.rejected == {}
    assert talk.stream.pending == {types.CLUSTER: {"a"}}


def test_settled_means_there_is_nothing_to_wait_for() -> None:
    talk = Dialogue(cluster("a"), endpoints("a"))
    key = cluster("a").key
    assert talk.stream.settled(key)  # the client does not ask for clusters
    talk.ask(types.CLUSTER)
    assert not talk.stream.settled(key)
    assert talk.stream.settled(ResourceName(types.CLUSTER, "missing"))
    talk.ask(types.ENDPOINTS, "a")
    talk.sends()
    talk.ack(talk.last[0])
    assert not talk.stream.settled(key)  # its endpoints are under way
    talk.ack(talk.last[1])
    assert talk.stream.settled(key)


def test_large_batches_are_split() -> None:
    talk = Dialogue(*(cluster(f"c{i}", b"x" * 100_000) for i in range(7)))
    talk.ask(types.CLUSTER)
    assert [len(names) for _, names, _ in talk.settle()] == [3, 3, 1]


def test_work_for_one_change_does_not_grow_with_what_is_there() -> None:
    def looks(count: int) -> int:
        talk = Dialogue(*(scope(f"s{i}") for i in range(count)))
        talk.ask(types.SCOPE)
        talk.settle()
        seen = 0
        get = talk.snapshot.get

        def counting(type_url: str, name: str) -> Resource | None:
            nonlocal seen
            seen += 1
            return get(type_url, name)

        talk.snapshot.get = counting  # type: ignore[method-assign]  # counts reads of a live snapshot
        talk.change(scope("s3", body=b"2"))
        talk.settle()
        return seen

    assert looks(10) == looks(2_000) < 20


def test_streams_share_the_words_for_what_clients_brought() -> None:
    one = cluster("a")
    stream = DeltaStream(Snapshot([one]))
    request = discovery_pb2.DeltaDiscoveryRequest(
        type_url=types.CLUSTER,
        resource_names_subscribe=["*"],
        initial_resource_versions={one.name: one.version},
    )
    stream.on_request(
        discovery_pb2.DeltaDiscoveryRequest.FromString(request.SerializeToString()), 0
    )
    ((name, version),) = stream.acked[types.CLUSTER].items()
    assert name is one.name
    assert version is one.version
