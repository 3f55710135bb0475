"""The agent as on Kubernetes: which pods are captured, and which are let go."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from penstock.meta.listeners import EGRESS_PORT
from support.agent_rig import AgentClient, running_agent, until
from support.kubernetes_node import (
    ENVOY_1,
    ENVOY_2,
    UIDS,
    Node,
    captured,
    captured_pod,
    has_ended,
    network_of,
    node_without_server,
    replaced_envoy,
    serving_node,
    taken_port,
)
from support.topology import write_sysctls


async def test_envoy_is_not_told_to_listen_where_a_process_has_its_port(node: Node) -> None:
    """As in a pod that has the proxy of another mesh when Penstock comes."""
    with taken_port(node, "server", listens=True):
        async with node_without_server(node) as agent:
            code, body = await agent.call("GET", f"/v1/pods/{UIDS['server']}")
            assert code == 503
            assert f"a process of the pod listens on port {EGRESS_PORT}" in body["error"]
            (envoy,) = node.envoys
            home = node.topology.pods["gateway"].netns.stat().st_ino
            assert network_of(envoy.process.pid) == home
    async with running_agent(node.config()) as agent:
        await until(lambda: captured(agent, node, "client", "server"))
        with node.serving("server"):
            assert node.get("client", "server") == 200


async def test_a_pod_whose_port_is_free_again_is_captured_without_asking(node: Node) -> None:
    with contextlib.ExitStack() as taking:
        taking.enter_context(taken_port(node, "server", listens=True))
        async with node_without_server(node) as agent:
            assert not await captured_pod(agent, "server")
            taking.close()
            await until(lambda: captured(agent, node, "client", "server"))


async def test_a_pod_without_ipv6_on_its_loopback_is_told_what_it_needs(node: Node) -> None:
    netns = node.topology.pods["server"].netns
    write_sysctls(netns, {"ipv6/conf/lo/disable_ipv6": "1"})
    try:
        async with node_without_server(node) as agent:
            _, body = await agent.call("GET", f"/v1/pods/{UIDS['server']}")
            assert "it needs net.ipv6.conf.lo.disable_ipv6=0" in body["error"]
            write_sysctls(netns, {"ipv6/conf/lo/disable_ipv6": "0"})
            await until(lambda: captured(agent, node, "client", "server"))
    finally:
        write_sysctls(netns, {"ipv6/conf/lo/disable_ipv6": "0"})


async def test_an_envoy_that_was_left_in_a_pod_starts_again(node: Node) -> None:
    """What has a port without listening on it is not seen before Envoy meets it."""
    with contextlib.ExitStack() as taking:
        taking.enter_context(taken_port(node, "server", listens=False))
        async with node_without_server(node) as agent:
            (first,) = node.envoys
            gateway = node.topology.pods["gateway"].netns
            assert (node.paths.netns / "node").readlink() == gateway
            await until(lambda: has_ended(first))
            taking.close()
            second = await replaced_envoy(agent, node, ENVOY_1)
            assert network_of(second.process.pid) == gateway.stat().st_ino


async def test_a_pod_is_captured_before_its_object_has_an_address(node: Node) -> None:
    """As by the CNI plugin: the Pod gets its status only when its network is there."""
    async with serving_node(node) as agent:
        uid = UIDS["stranger"]
        place = node.topology.pods["stranger"]
        node.controller.send(*node.resources("stranger", address=False))
        request = {
            "uid": uid, "namespace": "shop", "name": "stranger",
            "netns": str(place.netns), "addresses": [str(place.ipv4)],
        }  # fmt: skip
        code, body = await agent.call("PUT", f"/v1/pods/{uid}?timeout=20", request)
        assert code == 200, body
        node.start("stranger")
        with node.serving("server"):
            assert node.get("stranger", "server") == 200
        code, _ = await agent.call("DELETE", f"/v1/pods/{uid}?netns=/run/netns/other")
        assert code == 404
        code, _ = await agent.call("DELETE", f"/v1/pods/{uid}?netns={place.netns}")
        assert code == 200
        assert not (node.paths.netns / uid).exists()


async def test_a_namespace_that_is_gone_keeps_envoy_from_nothing_else(node: Node) -> None:
    """Envoy refuses the one listener whose link leads nowhere, also when it starts."""
    async with serving_node(node) as agent:
        netns = Path("/run/netns") / f"pst-lost-{os.getpid()}"
        make_netns(netns)
        try:
            node.controller.send(*node.resources("stranger"))
            uid = UIDS["stranger"]
            request = {
                "uid": uid, "namespace": "shop", "name": "lost", "netns": str(netns),
                "addresses": [],
            }  # fmt: skip
            code, body = await agent.call("PUT", f"/v1/pods/{uid}", request)
            assert code == 200, body
        finally:
            remove_netns(netns)
        (first,) = node.envoys
        first.close()
        await replaced_envoy(agent, node, ENVOY_2)
        code, _ = await agent.call("PUT", f"/v1/pods/{uid}?timeout=0", request)
        assert code == 400, "there is no such namespace"


async def test_a_pod_that_is_gone_is_let_go_although_nobody_said_so(node: Node) -> None:
    async with serving_node(node) as agent:
        netns = Path("/run/netns") / f"pst-lost-{os.getpid()}"
        make_netns(netns)
        try:
            await lose(node, agent, netns)
        finally:
            remove_netns(netns)


def make_netns(netns: Path) -> None:
    subprocess.run(["ip", "netns", "add", netns.name], check=True)
    inside = ["nsenter", f"--net={netns}", "ip", "link", "set", "lo", "up"]
    subprocess.run(inside, check=True)


def remove_netns(netns: Path) -> None:
    if netns.exists():
        subprocess.run(["ip", "netns", "delete", netns.name], check=True)


async def lose(node: Node, agent: AgentClient, netns: Path) -> None:
    uid = "0a1b2c3d-0000-0000-0000-00000000beef"
    request = {
        "uid": uid, "namespace": "shop", "name": "lost", "netns": str(netns), "addresses": [],
    }  # fmt: skip
    code, _ = await agent.call("PUT", f"/v1/pods/{uid}?timeout=0", request)
    assert code == 504
    assert (node.paths.netns / uid).readlink() == netns
    remove_netns(netns)
    node.api.set(node.object(one) for one in ("client", "server", "system"))

    async def forgotten() -> bool:
        return (await agent.call("GET", f"/v1/pods/{uid}"))[0] == 404

    await until(forgotten)
    assert not (node.paths.netns / uid).is_symlink()
