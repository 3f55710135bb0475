from __future__ import annotations

from collections.abc import Iterable

from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.xds import types
from penstock.xds.delta import PATIENCE, WINDOW, DeltaStream, Response
from penstock.xds.resource import Resource, ResourceName, make_resource
from penstock.xds.snapshot import Delta, Snapshot
from penstock.xds.verdict import Accepted, Cleared, Rejection
from support.fake_envoy import FakeEnvoy, converge

Message = tuple[str, list[str], list[str]]


def cluster(name: str, body: bytes = b"1") -> Resource:
    return make_resource(types.CLUSTER, name, body)


def endpoints(name: str, body: bytes = b"1") -> Resource:
    return make_resource(types.ENDPOINTS, name, body)


def scope(name: str, *clusters: str, body: bytes = b"1") -> Resource:
    needs = [ResourceName(types.CLUSTER, c) for c in clusters]
    return make_resource(types.SCOPE, name, body, needs=needs)


class Dialogue:
    """A stream and what is said on it, word by word."""

    def __init__(self, *resources: Resource) -> None:
        self.snapshot = Snapshot(resources)
        self.stream = DeltaStream(self.snapshot)
        self.now = 100.0
        self.last: list[Response] = []

    def ask(
        self,
        type_url: str,
        *names: str,
        has: dict[str, str] | None = None,
        leave: Iterable[str] = (),
    ) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url,
            resource_names_subscribe=names,
            resource_names_unsubscribe=leave,
            initial_resource_versions=has or {},
        )
        self.stream.on_request(request, self.now)

    def change(self, *upserts: Resource, remove: Iterable[Resource] = ()) -> None:
        removals = tuple(r.key for r in remove)
        self.stream.on_change(self.snapshot.apply(Delta(upserts, removals)))

    def sends(self) -> list[Message]:
        self.last = self.stream.responses(self.now)
        messages = [discovery_pb2.DeltaDiscoveryResponse.FromString(r.payload) for r in self.last]
        return [
            (types.short(m.type_url), [r.name for r in m.resources], list(m.removed_resources))
            for m in messages
        ]

    def ack(self, *responses: Response, error: str = "") -> None:
        for response in responses or self.last:
            request = discovery_pb2.DeltaDiscoveryRequest(
                type_url=response.type_url, response_nonce=response.nonce
            )
            if error:
                request.error_detail.message = error
            self.stream.on_request(request, self.now)

    def settle(self) -> list[Message]:
        """ACK all, until there is nothing left to send; return what was sent."""
        said: list[Message] = []
        while messages := self.sends():
            said += messages
            self.ack()
        return said


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


def test_types_go_in_order_whatever_the_order_of_the_requests() -> None:
    every = [make_resource(t, "x", b"") for t in reversed(types.SENDING_ORDER)]
    talk = Dialogue(*every)
    for resource in every:
        talk.ask(resource.type_url, "*")
    assert [m[0] for m in talk.settle()] == [types.short(t) for t in types.SENDING_ORDER]
    talk.change(remove=every)
    removed = [m for m in talk.settle() if m[2]]
    assert [m[0] for m in removed] == [types.short(t) for t in types.REMOVAL_ORDER]


def test_envoy_loses_nothing_while_verdicts_that_lead_away_from_it_are_under_way() -> None:
    old, new = (make_resource(types.POLICY, "1", body) for body in (b"proxy", b"allow"))
    talk = Dialogue(scope("in"), old)
    talk.ask(types.SCOPE)
    talk.ask(types.POLICY, "*")
    talk.settle()
    talk.change(new, remove=[scope("in")])
    assert talk.sends() == [("Policy", ["1"], [])]
    on_the_way = talk.last
    assert talk.sends() == []
    talk.ack(*on_the_way)
    assert talk.sends() == [("ScopedRouteConfiguration", [], ["in"])]


def test_first_scopes_go_together() -> None:
    talk = Dialogue(*(scope(f"s{i}") for i in range(WINDOW + 6)))
    talk.ask(types.SCOPE)
    ((_, names, _),) = talk.sends()
    assert len(names) == WINDOW + 6


def test_later_scopes_go_alone_and_many_at_a_time() -> None:
    talk = Dialogue(scope("first"))
    talk.ask(types.SCOPE)
    talk.settle()
    talk.change(*(scope(f"s{i}") for i in range(WINDOW + 6)))
    messages = talk.sends()
    assert len(messages) == WINDOW
    assert all(len(names) == 1 for _, names, _ in messages)
    one, *_ = talk.last
    assert talk.sends() == []
    talk.ack(one)
    assert len(talk.sends()) == 1


def test_a_bad_scope_among_the_first_is_found() -> None:
    talk = Dialogue(scope("good"), scope("bad"))
    talk.ask(types.SCOPE)
    ((_, names, _),) = talk.sends()
    assert names == ["good", "bad"]
    talk.ack(error="no")
    assert talk.sends() == [("ScopedRouteConfiguration", [], ["good", "bad"])]
    talk.ack()
    assert sorted(names for _, names, _ in talk.sends()) == [["bad"], ["good"]]


def test_scope_waits_for_cluster_and_endpoints() -> None:
    talk = Dialogue(cluster("a"), endpoints("a"), scope("s", "a"))
    talk.ask(types.CLUSTER)
    talk.ask(types.SCOPE)
    assert talk.sends() == [("Cluster", ["a"], [])]
    on_the_way = talk.last
    talk.ask(types.ENDPOINTS, "a")
    talk.ack(*on_the_way)
    assert talk.sends() == [("ClusterLoadAssignment", ["a"], [])]
    talk.ack()
    assert talk.sends() == [("ScopedRouteConfiguration", ["s"], [])]


def test_scope_waits_for_the_endpoints_that_a_cluster_names() -> None:
    named = endpoints("a|1")
    talk = Dialogue(
        make_resource(types.CLUSTER, "a", b"1", needs=[named.key]), named, scope("s", "a")
    )
    talk.ask(types.CLUSTER)
    talk.ask(types.SCOPE)
    assert talk.sends() == [("Cluster", ["a"], [])]
    on_the_way = talk.last
    talk.ask(types.ENDPOINTS, "a|1")
    talk.ack(*on_the_way)
    assert talk.sends() == [("ClusterLoadAssignment", ["a|1"], [])]
    talk.ack()
    assert talk.sends() == [("ScopedRouteConfiguration", ["s"], [])]


def test_scope_does_not_wait_for_a_refused_or_missing_cluster() -> None:
    talk = Dialogue(cluster("bad"), scope("s", "bad", "missing"))
    talk.ask(types.SCOPE)
    talk.ask(types.CLUSTER)
    talk.sends()
    assert talk.stream.pending[types.SCOPE] == {"s"}
    talk.ack(error="no")
    assert ("ScopedRouteConfiguration", ["s"], []) in talk.sends()


def test_nothing_waits_for_ever() -> None:
    talk = Dialogue(cluster("a"), scope("s", "a"), scope("t"))
    talk.ask(types.CLUSTER)
    talk.ask(types.SCOPE)
    assert talk.sends() == [("Cluster", ["a"], []), ("ScopedRouteConfiguration", ["t"], [])]
    said: list[Message] = []
    while (due := talk.stream.next_time()) is not None and due <= 100 + PATIENCE:
        talk.now = due
        said = talk.sends()
    assert talk.now == 100 + PATIENCE
    assert said[-1] == ("ScopedRouteConfiguration", ["s"], [])


def test_change_of_a_cluster_sends_its_endpoints_right_after() -> None:
    talk = Dialogue(cluster("a"), endpoints("a"), cluster("b"), endpoints("b"))
    talk.ask(types.CLUSTER)
    talk.ask(types.ENDPOINTS, "a", "b")
    talk.settle()
    talk.change(cluster("a", b"2"))
    assert talk.sends() == [("Cluster", ["a"], []), ("ClusterLoadAssignment", ["a"], [])]


def test_returning_envoy_with_an_old_cluster_gets_endpoints_that_it_has() -> None:
    talk = Dialogue(cluster("a", b"2"), endpoints("a"))
    talk.ask(types.CLUSTER, has={"a": cluster("a").version})
    assert talk.sends() == [("Cluster", ["a"], [])]
    talk.ask(types.ENDPOINTS, "a", has={"a": endpoints("a").version})
    assert talk.sends() == [("ClusterLoadAssignment", ["a"], [])]


def test_cluster_that_shares_endpoints_has_them_sent_again() -> None:
    shared = endpoints("a")
    talk = Dialogue(cluster("a"), shared)
    talk.ask(types.CLUSTER)
    talk.ask(types.ENDPOINTS, "a")
    talk.settle()
    for body in (b"1", b"2"):
        talk.change(make_resource(types.CLUSTER, "a|shown", body, needs=[shared.key]))
        sent: list[Message] = [("Cluster", ["a|shown"], []), ("ClusterLoadAssignment", ["a"], [])]
        assert talk.settle() == sent


def test_returning_envoy_with_a_new_cluster_gets_endpoints_that_it_has() -> None:
    shared = endpoints("a")
    shown = make_resource(types.CLUSTER, "a|shown", b"1", needs=[shared.key])
    talk = Dialogue(cluster("a"), shown, shared)
    talk.ask(types.CLUSTER, has={"a": cluster("a").version})
    assert talk.sends() == [("Cluster", ["a|shown"], [])]
    talk.ask(types.ENDPOINTS, "a", has={"a": shared.version})
    assert talk.sends() == [("ClusterLoadAssignment", ["a"], [])]


def listener(name: str) -> Resource:
    return make_resource(types.LISTENER, name, b"1")


def test_scopes_follow_a_new_listener_where_there_is_none_of_a_pod() -> None:
    talk = Dialogue(listener("gateway/a/b/80"), scope("s"), scope("t"))
    talk.ask(types.LISTENER)
    talk.ask(types.SCOPE)
    talk.settle()
    assert talk.settle() == []
    for name in ("gateway/a/b/81", "u1/egress"):
        talk.change(listener(name))
        sent: list[Message] = [
            ("Listener", [name], []),
            ("ScopedRouteConfiguration", ["s", "t"], []),
        ]
        assert talk.settle() == sent
    talk.change(listener("u2/egress"))
    assert talk.settle() == [("Listener", ["u2/egress"], [])]
    talk.change(make_resource(types.LISTENER, "u1/egress", b"2"))
    assert talk.settle() == [("Listener", ["u1/egress"], [])]


def test_agent_does_not_get_scopes_again() -> None:
    talk = Dialogue(scope("s"))
    for type_url in (types.ENDPOINTS, types.LISTENER, types.SCOPE):
        talk.ask(type_url, "*")
    talk.settle()
    talk.change(listener("gateway/a/b/80"))
    assert talk.settle() == [("Listener", ["gateway/a/b/80"], [])]


def test_agent_does_not_get_endpoints_again() -> None:
    talk = Dialogue(cluster("a"), endpoints("a"))
    talk.ask(types.CLUSTER, "*")
    talk.ask(types.ENDPOINTS, "*")
    talk.settle()
    talk.change(cluster("a", b"2"))
    assert talk.settle() == [("Cluster", ["a"], [])]


def test_cluster_stays_until_the_route_that_replaces_its_user_is_accepted() -> None:
    talk = Dialogue(cluster("a"), cluster("b"), scope("s", "a"))
    talk.ask(types.CLUSTER)
    talk.ask(types.SCOPE)
    talk.settle()
    talk.change(scope("s", "b"), remove=[cluster("a")])
    assert talk.sends() == [("ScopedRouteConfiguration", ["s"], [])]
    talk.ack()
    assert talk.sends() == [("Cluster", [], ["a"])]


def test_refused_route_keeps_the_cluster_of_the_last_good_one() -> None:
    talk = Dialogue(cluster("a"), scope("s", "a"))
    talk.ask(types.CLUSTER)
    talk.ask(types.SCOPE)
    talk.settle()
    talk.change(scope("s", body=b"bad"), remove=[cluster("a")])
    talk.sends()
    talk.ack(error="no")
    assert talk.settle() == []
    talk.change(scope("s", body=b"good"))
    assert talk.settle()[-1] == ("Cluster", [], ["a"])


def test_route_of_an_unknown_version_keeps_all_clusters() -> None:
    talk = Dialogue(scope("s"))
    talk.ask(types.CLUSTER, has={"a": cluster("a").version})
    talk.ask(types.SCOPE, has={"s": "unknown"})
    assert [m for m in talk.sends() if m[2]] == []
    talk.ack()
    assert ("Cluster", [], ["a"]) in talk.settle()


def test_cluster_that_comes_back_is_not_removed() -> None:
    talk = Dialogue(cluster("a"), scope("s", "a"))
    talk.ask(types.CLUSTER)
    talk.ask(types.SCOPE)
    talk.settle()
    talk.change(remove=[cluster("a")])
    talk.change(cluster("a"))
    assert talk.settle() == []


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


def test_answer_to_a_response_of_another_stream_is_ignored() -> None:
    talk = Dialogue(cluster("a"))
    talk.ask(types.CLUSTER)
    talk.sends()
    stale = discovery_pb2.DeltaDiscoveryRequest(type_url=types.CLUSTER, response_nonce="99")
    stale.error_detail.message = "no"
    talk.stream.on_request(stale, talk.now)
    assert talk.stream.rejected == {}
    assert talk.stream.pending == {types.CLUSTER: {"a"}}


def test_refused_removal_counts_as_done() -> None:
    talk = Dialogue(cluster("a"))
    talk.ask(types.CLUSTER)
    talk.settle()
    talk.change(remove=[cluster("a")])
    talk.sends()
    talk.ack(error="what?")
    assert talk.settle() == []
    assert talk.stream.acked[types.CLUSTER] == {}


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
