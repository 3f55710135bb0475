"""The agent as on Kubernetes: Envoy is started by others, and starts again."""

from __future__ import annotations

from penstock.agent.config import CniFolders
from penstock.agent.leave import leave
from support.agent_rig import running_agent, until
from support.kubernetes_node import (
    ENVOY_1,
    ENVOY_2,
    UIDS,
    Node,
    captured,
    exists,
    has_ended,
    replaced_envoy,
    runs,
    serving_node,
    status,
)


async def test_pods_that_run_already_are_found_and_only_then_strangers_are_closed(
    node: Node,
) -> None:
    node.start("stranger")
    node.start("client")
    node.start("server")
    with node.serving("server"):
        assert node.get("stranger", "server") == 200
        async with serving_node(node) as agent:
            assert node.get("client", "server") == 200
            assert node.get("stranger", "server") == 0
            found = {pod["uid"]: pod for pod in (await status(agent))["pods"]}
            assert set(found) == {UIDS[name] for name in ("client", "server", "system")}
    assert node.api.asked[0] == "spec.nodeName=n1"
    links = {link.name: str(link.readlink()) for link in node.paths.netns.iterdir()}
    assert links == {
        UIDS["client"]: str(node.topology.pods["client"].netns),
        UIDS["server"]: str(node.topology.pods["server"].netns),
        "node": str(node.topology.pods["gateway"].netns),
        "host": str(node.topology.node.netns),
    }


async def test_envoy_waits_for_its_programs_and_is_known_by_its_socket(node: Node) -> None:
    envoy = node.start_envoy(ENVOY_2)
    await until(lambda: exists(node.paths.root))
    assert envoy.process.poll() is None
    assert not node.paths.envoy_admin.exists()
    async with serving_node(node) as agent:
        await until(lambda: runs(agent))
        assert (await status(agent))["envoy"]["pid"] in {one.process.pid for one in node.envoys}


async def test_a_restarted_agent_leaves_envoy_and_its_pods_as_they_are(node: Node) -> None:
    async with serving_node(node) as agent:
        await until(lambda: runs(agent))
        before = (await status(agent))["envoy"]["pid"]
    await node.controller.stop()
    with node.serving("server"):
        assert node.get("client", "server") == 200, "no agent is needed"
        async with running_agent(node.config()) as agent:
            await until(lambda: runs(agent))
            await until(lambda: captured(agent, node, "client", "server"))
            assert (await status(agent))["envoy"]["pid"] == before
            assert node.get("client", "server") == 200


async def test_envoy_in_the_same_pod_starts_again_without_an_agent(node: Node) -> None:
    async with serving_node(node) as agent:
        await until(lambda: runs(agent))
    (first,) = node.envoys
    first.close()
    node.paths.envoy_admin.unlink()
    node.start_envoy(ENVOY_1)
    await until(lambda: exists(node.paths.envoy_admin))


async def test_a_new_pod_of_envoy_takes_the_place_of_the_old_one(node: Node) -> None:
    async with serving_node(node) as agent:
        await until(lambda: runs(agent))
        (first,) = node.envoys
        first.close()
        await replaced_envoy(agent, node, ENVOY_2)
        assert node.paths.envoy_admitted.read_text().strip() == ENVOY_2


async def test_an_envoy_whose_programs_were_taken_away_starts_again(node: Node) -> None:
    """As after `penstock leave` and an agent that comes back; pods could not be captured else."""
    async with serving_node(node) as agent:
        await until(lambda: runs(agent))
    (first,) = node.envoys
    leave(node.paths, node.bpffs, CniFolders(programs=node.folder, configuration=node.folder))
    assert first.process.poll() is None, "Gateways are served on"
    async with running_agent(node.config()) as agent:
        await until(lambda: has_ended(first))
        await replaced_envoy(agent, node, ENVOY_1)
