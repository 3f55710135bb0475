"""What a client refuses, or does not answer, on a delta stream."""

from __future__ import annotations

from penstock.xds import types
from penstock.xds.delta import PATIENCE, DeltaStream
from penstock.xds.resource import Resource, make_resource
from penstock.xds.snapshot import Snapshot
from penstock.xds.verdict import Accepted, Cleared, Rejection
from support.dialogue import Dialogue, cluster, scope
from support.fake_envoy import FakeEnvoy, converge


def test_a_bad_scope_among_the_first_is_found() -> None:
    talk = Dialogue(scope("good"), scope("bad"))
    talk.ask(types.SCOPE)
    ((_, names, _),) = talk.sends()
    assert names == ["good", "bad"]
    talk.ack(error="no")
    assert talk.sends() == [("ScopedRouteConfiguration", [], ["good", "bad"])]
    talk.ack()
    assert sorted(names for _, names, _ in talk.sends()) == [["bad"], ["good"]]


def test_refused_version_is_quarantined_until_it_changes() -> None:
    talk = Dialogue(scope("s"))
    talk.ask(types.SCOPE)
    talk.settle()
    talk.stream.verdicts()
    bad = scope("s", body=b"bad")
    talk.change(bad)
    talk.sends()
    talk.ack(error="bad regex")
    assert talk.settle() == []
    rejection = Rejection(bad.key, bad.version, (), "bad regex")
    assert talk.stream.rejected == {bad.key: rejection}
    assert str(rejection) == "ScopedRouteConfiguration s: bad regex"
    assert talk.stream.acked[types.SCOPE] == {"s": scope("s").version}
    assert talk.stream.pending == {}
    good = scope("s", body=b"good")
    talk.change(good)
    talk.settle()
    assert talk.stream.rejected == {}
    assert talk.stream.verdicts() == [rejection, Accepted(types.SCOPE, {"s": good.version})]


def test_refusal_is_cleared_when_the_last_good_version_is_wanted_again() -> None:
    talk = Dialogue(scope("s"))
    talk.ask(types.SCOPE)
    talk.settle()
    talk.change(scope("s", body=b"bad"))
    talk.sends()
    talk.ack(error="no")
    talk.stream.verdicts()
    talk.change(scope("s"))
    assert talk.settle() == []
    assert talk.stream.verdicts() == [Cleared(scope("s").key)]


def test_refusal_is_cleared_when_the_resource_is_gone() -> None:
    talk = Dialogue(scope("s"))
    talk.ask(types.SCOPE)
    talk.sends()
    talk.ack(error="no")
    talk.change(remove=[scope("s")])
    assert talk.settle() == []
    assert talk.stream.rejected == {}


def test_retry_sends_a_quarantined_version_once_more() -> None:
    talk = Dialogue(scope("s"))
    talk.ask(types.SCOPE)
    talk.sends()
    talk.ack(error="no such netns")
    talk.stream.retry(scope("s").key)
    assert talk.settle() == [("ScopedRouteConfiguration", ["s"], [])]
    assert talk.stream.rejected == {}


def test_members_of_a_refused_response_are_sent_alone() -> None:
    listeners = [make_resource(types.LISTENER, n, b"") for n in ("a", "bad", "c")]
    talk = Dialogue(*listeners)
    talk.ask(types.LISTENER)
    talk.sends()
    talk.ack(error="one of them")
    assert talk.stream.rejected == {}
    assert talk.sends() == [("Listener", [n], []) for n in ("a", "bad", "c")]
    first, second, third = talk.last
    talk.ack(first, third)
    talk.ack(second, error="it is me")
    assert talk.settle() == []
    assert {k.name for k in talk.stream.rejected} == {"bad"}
    assert talk.stream.acked[types.LISTENER].keys() == {"a", "c"}


def test_new_clusters_of_a_refused_response_are_taken_back_first() -> None:
    talk = Dialogue(cluster("old"))
    talk.ask(types.CLUSTER)
    talk.settle()
    talk.change(cluster("old", b"2"), cluster("a"), cluster("bad"))
    talk.sends()
    talk.ack(error="one of them")
    assert talk.sends() == [("Cluster", [], ["a", "bad"])]
    talk.ack()
    assert talk.sends() == [("Cluster", ["old"], [])]
    talk.ack()
    assert talk.sends() == [("Cluster", ["a"], [])]
    talk.ack()
    assert talk.sends() == [("Cluster", ["bad"], [])]
    talk.ack(error="it is me")
    assert talk.settle() == [("Cluster", [], ["bad"])]
    assert {k.name for k in talk.stream.rejected} == {"bad"}


def test_unanswered_new_cluster_is_taken_back_once() -> None:
    talk = Dialogue(cluster("slow"))
    talk.ask(types.CLUSTER)
    assert talk.sends() == [("Cluster", ["slow"], [])]
    first = talk.last
    talk.now += PATIENCE / 2
    assert talk.sends() == [("Cluster", [], ["slow"])]
    talk.ack(*first, *talk.last)
    assert talk.sends() == [("Cluster", ["slow"], [])]
    talk.now += PATIENCE / 2
    assert talk.sends() == []
    talk.change(cluster("other"))
    assert talk.sends() == [("Cluster", ["other"], [])]


def test_cluster_that_silenced_envoy_on_an_earlier_stream_is_found() -> None:
    def refuse(resource: Resource) -> str | None:
        return "no" if resource.body == b"bad" else None

    bad = cluster("a", b"bad")
    envoy, snapshot = FakeEnvoy(refuse), Snapshot([bad])
    stream = DeltaStream(snapshot)
    for _ in range(2):
        envoy.connect()
        stream = DeltaStream(snapshot)
        stream.on_request(envoy.requests.popleft(), 0.0)
        for response in stream.responses(0.0):
            envoy.receive(response)
    assert envoy.zombies == {"a": bad.version}
    converge(envoy, stream)
    assert envoy.zombies == {}
    assert stream.rejected.keys() == {bad.key}


def test_refused_removal_counts_as_done() -> None:
    talk = Dialogue(cluster("a"))
    talk.ask(types.CLUSTER)
    talk.settle()
    talk.change(remove=[cluster("a")])
    talk.sends()
    talk.ack(error="what?")
    assert talk.settle() == []
    assert talk.stream.acked[types.CLUSTER] == {}
