from __future__ import annotations

from typing import Any

import pytest

from penstock.lab.cluster import desired
from penstock.lab.environment import MissingReferenceError, environment, expand
from penstock.lab.images import UnknownImageError, bare_name, command_of
from penstock.lab.podfiles import hosts, nsswitch, resolv_conf
from support.lab import config_map, container, pod, secret


def variables(env: list[dict[str, Any]], **fields: Any) -> dict[str, str]:
    want = desired(
        [
            pod("a", container(env=env, **fields), labels={"tier": "front"}),
            config_map("settings", colour="blue", size="big"),
            secret("key", code="t0ken"),
        ]
    )
    plan = want.plans[0]
    return environment(plan.pod.spec.containers[0], plan, want, {"PATH": "/bin"})


def test_references_to_earlier_variables_are_replaced() -> None:
    got = variables([{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(PATH)-$(NO)"}])
    assert got["B"] == "1-/bin-$(NO)"


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $(B)", "$A ${A} $(B)"),
        ("100%", "100%"),
        ("$(", "$("),
    ],
)
def test_expansion_follows_kubernetes(text: str, outcome: str) -> None:
    assert expand(text, {"A": "1"}) == outcome


def test_fields_of_the_pod_are_values() -> None:
    def field(path: str) -> dict[str, Any]:
        return {"name": path, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    paths = ["metadata.name", "metadata.namespace", "metadata.labels['tier']", "spec.nodeName"]
    got = variables([field(path) for path in [*paths, "status.podIP", "status.podIPs"]])
    assert [got[path] for path in paths] == ["a", "shop", "front", "lab"]
    assert got["status.podIPs"].startswith(got["status.podIP"] + ",fd44:")


def test_unknown_field_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(MissingReferenceError, match=r"status\.phase.*metadata\.name"):
        variables([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}])


def test_values_come_from_config_maps_and_secrets() -> None:
    got = variables(
        [
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "key", "key": "code"}}},
        ],
        envFrom=[{"prefix": "X_", "configMapRef": {"name": "settings"}}],
    )
    assert (got["C"], got["S"], got["X_size"]) == ("blue", "t0ken", "big")


def test_missing_key_is_an_error_unless_it_is_optional() -> None:
    def reference(*, optional: bool) -> list[dict[str, Any]]:
        selector = {"name": "settings", "key": "nope", "optional": optional}
        return [{"name": "C", "valueFrom": {"configMapKeyRef": selector}}]

    assert "C" not in variables(reference(optional=True))
    with pytest.raises(MissingReferenceError, match=r"shop/settings has no key 'nope'"):
        variables(reference(optional=False))


def test_missing_config_map_is_an_error_with_its_name() -> None:
    with pytest.raises(MissingReferenceError, match=r"shop/none does not exist"):
        variables([], envFrom=[{"configMapRef": {"name": "none"}}])


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("penstock.dev/echo:1.2", "penstock.dev/echo"),
        ("docker.io/curlimages/curl:8@sha256:0abc", "curlimages/curl"),
        ("localhost:5000/a/b:v1", "localhost:5000/a/b"),
        ("busybox", "busybox"),
    ],
)
def test_image_name_is_bared_of_registry_tag_and_digest(image: str, name: str) -> None:
    assert bare_name(image) == name


def test_echo_image_listens_on_its_container_ports() -> None:
    one = pod("a", container(image="penstock.dev/echo", ports=[{"containerPort": 9000}]))
    command = command_of(one.spec.containers[0], "Pod shop/a")
    assert command.argv[1:] == ("-m", "penstock.lab.echo")
    assert command.env["PORT"] == "9000"


def test_command_wins_over_the_image() -> None:
    one = pod("a", container(image="penstock.dev/echo", command=["x"], args=["y"]))
    assert command_of(one.spec.containers[0], "").argv == ("x", "y")


def test_client_image_sleeps_without_a_command_and_runs_args() -> None:
    sleeping, running = pod("a"), pod("a", container(args=["curl", "x"]))
    assert command_of(sleeping.spec.containers[0], "").argv == ("sleep", "infinity")
    assert command_of(running.spec.containers[0], "").argv == ("curl", "x")


def test_unknown_image_without_command_says_what_to_do() -> None:
    one = pod("a", container(image="nginx:1.27"))
    with pytest.raises(UnknownImageError, match=r"Pod shop/a.*nginx:1.27.*`command`"):
        command_of(one.spec.containers[0], "Pod shop/a")


def test_resolver_searches_the_namespace_first() -> None:
    plan = desired([pod("a")]).plans[0]
    assert resolv_conf(plan, "10.96.0.10") == (
        "search shop.svc.cluster.local svc.cluster.local cluster.local\n"
        "nameserver 10.96.0.10\noptions ndots:5\n"
    )


def test_hosts_file_names_the_pod_with_its_subdomain() -> None:
    plan = desired([pod("a", hostname="h", subdomain="s")]).plans[0]
    assert f"{plan.addresses.ipv4} h.s.shop.svc.cluster.local h\n" in hosts(plan)


def test_names_are_looked_up_in_files_and_dns_only() -> None:
    assert nsswitch("passwd: files\nhosts: files resolve myhostname\n") == (
        "passwd: files\nhosts: files dns\n"
    )
    assert nsswitch("passwd: files\n").endswith("hosts: files dns\n")
