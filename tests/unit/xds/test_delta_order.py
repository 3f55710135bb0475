"""What waits for what on a delta stream, and what is sent again after what."""

from __future__ import annotations

from penstock.xds import types
from penstock.xds.delta import PATIENCE, WHOLE_PATIENCE, WINDOW
from penstock.xds.resource import make_resource
from support.dialogue import Dialogue, Message, cluster, endpoints, listener, scope


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


def test_a_client_hears_that_it_has_everything_when_it_has_said_so() -> None:
    talk = Dialogue(cluster("a"), endpoints("a"), scope("s", "a"))
    for type_url in (types.CLUSTER, types.ENDPOINTS, types.SCOPE, types.WHOLE):
        talk.ask(type_url, "*")
    assert [name for name, _, _ in talk.sends()] == ["Cluster", "ClusterLoadAssignment"]
    first = talk.last
    assert talk.sends() == []
    talk.ack(*first)
    assert talk.sends() == [("ScopedRouteConfiguration", ["s"], [])]
    scopes = talk.last
    assert talk.sends() == []
    talk.ack(*scopes, error="no")
    assert talk.sends() == [("Whole", [], [])]


def test_changes_without_end_do_not_keep_that_word_back() -> None:
    talk = Dialogue(cluster("a"))
    talk.ask(types.CLUSTER, "*")
    talk.ask(types.WHOLE, "*")
    end = talk.now + WHOLE_PATIENCE * PATIENCE
    for number in range(40):
        names = [name for name, _, _ in talk.sends()]
        assert ("Whole" in names) == (talk.now == end)
        talk.now += 1
        talk.change(cluster("a", b"%d" % number))
        talk.ack()
    assert talk.now > end


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


def test_later_scopes_go_together_to_who_hands_them_on() -> None:
    talk = Dialogue(scope("first"), endpoints("a"))
    talk.ask(types.ENDPOINTS, "*")
    talk.ask(types.SCOPE)
    talk.settle()
    talk.change(*(scope(f"s{i}") for i in range(WINDOW + 6)))
    ((_, names, _),) = talk.sends()
    assert len(names) == WINDOW + 6


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
