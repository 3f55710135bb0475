from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.decode import decode
from penstock.core.kinds import BUILTIN_KINDS
from penstock.core.objects import Object
from penstock.lab import cgroups
from penstock.lab.attach import read_logs
from support.lab import config_map, container, deployment, pod, secret, service
from support.lab_bench import PATIENCE, Bench

ECHO: dict[str, Any] = {
    "image": "penstock.dev/echo",
    "ports": [{"name": "http", "containerPort": 8080}],
}
READY = {"httpGet": {"port": "http", "path": "/ready"}}
TRAP = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done"


def shell(script: str, **fields: Any) -> dict[str, Any]:
    return container(command=["sh", "-c", script], **fields)


def objects_on_disk(bench: Bench) -> list[Object]:
    kinds = {kind.kind: kind for kind in BUILTIN_KINDS}
    raws = [json.loads(path.read_bytes()) for path in bench.paths.objects.glob("*.json")]
    decoded = [decode(kinds[raw["kind"]], raw) for raw in raws]
    return [one for one in decoded if isinstance(one, Object)]


async def test_pods_reach_each_other_by_name_on_both_families(bench: Bench) -> None:
    bench.lab.update(
        [
            deployment("web", container(**ECHO, readinessProbe=READY), replicas=2),
            service("web", {"name": "http", "port": 8080}, clusterIP="None"),
            pod("client"),
        ]
    )
    await bench.settled()
    ask = "import json,urllib.request as u; print(json.load(u.urlopen('http://%s:8080/x'))['%s'])"
    name = "web.shop.svc.cluster.local"
    for host in ("web", "web.shop", name):
        answer = await bench.run("client", f'{sys.executable} -c "{ask % (host, "namespace")}"')
        assert answer == "shop\n[0]"
    for address in (await bench.run("client", "getent ahosts web")).split():
        if address.startswith(("10.244.", "fd44::")):
            host = f"[{address}]" if ":" in address else address
            answer = await bench.run("client", f'{sys.executable} -c "{ask % (host, "remote")}"')
            assert answer.removesuffix("\n[0]") in bench.pod("client").addresses


async def test_pod_sees_its_own_name_files_and_nothing_of_the_run_folder(bench: Bench) -> None:
    bench.lab.update([pod("client")])
    await bench.settled()
    lines = f"hostname; cat /etc/hostname; ls -A {bench.paths.root}; tail -1 /etc/resolv.conf"
    assert await bench.run("client", lines) == "client\nclient\noptions ndots:5\n[0]"


async def test_pod_without_a_way_out_is_told_at_once(bench: Bench) -> None:
    bench.lab.update([pod("client")])
    await bench.settled()
    dial = "import socket; print(socket.socket().connect_ex(('%s', 80)))"
    for address in ("10.96.7.7", "192.0.2.1"):
        answer = await bench.run("client", f'{sys.executable} -c "{dial % address}"')
        assert answer in ("113\n[0]", "101\n[0]")


async def test_objects_describe_the_running_pods(bench: Bench) -> None:
    bench.lab.update([deployment("web"), service("web", {"port": 80})])
    await bench.settled()
    found = {str(one.ref): one for one in objects_on_disk(bench)}
    record = bench.pod("web")
    stored = found[f"Pod shop/{record.name}"]
    assert stored.metadata.uid == record.uid
    assert {str(one.ref) for one in bench.lab.state.objects} == set(found)
    assert "EndpointSlice shop/web-ipv6" in found


async def test_readiness_gates_the_endpoint_and_follows_the_probe(bench: Bench) -> None:
    probe = {"exec": {"command": ["test", "-e", "/data/ready"]}, "periodSeconds": 1}
    one = container(
        readinessProbe=probe | {"failureThreshold": 1},
        volumeMounts=[{"name": "v", "mountPath": "/data"}],
    )
    bench.lab.update(
        [deployment("web", one, volumes=[{"name": "v", "emptyDir": {}}]), service("web")]
    )

    async def endpoint_is(*, ready: bool) -> None:
        async with asyncio.timeout(PATIENCE):
            await bench.lab.wait_for(
                lambda state: any(
                    one.service == "web"
                    and len(one.endpoints) == 1
                    and one.endpoints[0].conditions.ready is ready
                    for one in state.slices
                )
            )

    await bench.until("web", "p.phase == 'Running' and p.reason == 'ContainersNotReady'")
    await endpoint_is(ready=False)
    assert await bench.run("web", "touch /data/ready") == "[0]"
    await endpoint_is(ready=True)
    assert await bench.run("web", "rm /data/ready") == "[0]"
    await endpoint_is(ready=False)


async def test_killed_process_is_restarted_in_the_same_network(bench: Bench) -> None:
    bench.lab.update([deployment("web")])
    await bench.settled()
    before = bench.pod("web")
    assert before.containers[0].process is not None
    os.kill(before.containers[0].process.pid, signal.SIGKILL)
    after = await bench.until("web", "p.ready and p.restarts == 1")
    assert (after.uid, after.addresses) == (before.uid, before.addresses)
    assert after.containers[0].exit_code == 128 + signal.SIGKILL
    assert len([call for call in bench.agent.calls if call.startswith("PUT")]) == 1


async def test_failing_container_backs_off_and_says_why(bench: Bench) -> None:
    bench.lab.update([pod("bad", shell("echo oops; exit 7"))])
    record = await bench.until("bad", "p.reason == 'CrashLoopBackOff'")
    assert "ended with 7" in record.message
    assert b"oops" in b"".join(read_logs(bench.paths, "bad"))


async def test_failing_liveness_probe_restarts_the_container(bench: Bench) -> None:
    probe = {"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 1}
    bench.lab.update([pod("sick", container(livenessProbe=probe))])
    record = await bench.until("sick", "p.restarts == 1")
    assert record.containers[0].exit_code == 128 + signal.SIGKILL


async def test_job_like_pods_end_as_their_policy_says(bench: Bench) -> None:
    bench.lab.update(
        [
            pod("good", shell("exit 0"), restartPolicy="OnFailure"),
            pod("bad", shell("exit 4"), restartPolicy="Never"),
            pod(
                "retry",
                shell("test -e /d/x || { touch /d/x; exit 1; }", volumeMounts=[mount("d", "/d")]),
                volumes=[{"name": "d", "emptyDir": {}}],
                restartPolicy="OnFailure",
            ),
        ]
    )
    await bench.until("good", "p.phase == 'Succeeded'")
    await bench.until("bad", "p.phase == 'Failed'")
    await bench.until("retry", "p.phase == 'Succeeded' and p.restarts == 1")


def mount(name: str, path: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "mountPath": path, **fields}


async def test_volumes_appear_where_no_folder_is_and_leave_none(bench: Bench) -> None:
    mounts = [
        mount("conf", "/penstock-test/etc"),
        mount("key", "/usr/share/penstock-test/key"),
        mount("tmp", "/penstock-test/tmp"),
        mount("conf", "/etc/penstock-test.conf", subPath="colour"),
    ]
    volumes = [
        {"name": "conf", "configMap": {"name": "settings"}},
        {"name": "key", "secret": {"secretName": "key"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    settings = config_map("settings", colour="blue")
    one = pod("a", container(volumeMounts=mounts), volumes=volumes)
    bench.lab.update([one, settings, secret("key", code="t0ken")])
    await bench.settled()
    script = (
        "cat /penstock-test/etc/colour /usr/share/penstock-test/key/code /etc/penstock-test.conf;"
        "echo; echo x > /penstock-test/tmp/x && echo wrote;"
        "echo x > /penstock-test/etc/colour || echo frozen;"
        "stat -f -c %T /usr/share/penstock-test/key; ls /usr/share/dpkg >/dev/null && echo kept"
    )
    answer = await bench.run("a", script)
    assert answer.startswith("bluet0kenblue\nwrote\nfrozen\ntmpfs\nkept\n")
    assert not Path("/penstock-test").exists()  # noqa: ASYNC240 - a local file
    assert not Path("/usr/share/penstock-test").exists()  # noqa: ASYNC240 - a local file
    bench.lab.update([one, config_map("settings", colour="red"), secret("key", code="t0ken")])
    assert await bench.run("a", "cat /penstock-test/etc/colour") == "red[0]"
    assert bench.pod("a").restarts == 0


async def test_missing_config_map_is_told_and_heals(bench: Bench) -> None:
    volumes = [{"name": "c", "configMap": {"name": "late"}}]
    one = pod("a", container(volumeMounts=[mount("c", "/c")]), volumes=volumes)
    bench.lab.update([one])
    record = await bench.until("a", "p.reason == 'CreateContainerConfigError'")
    assert "ConfigMap shop/late does not exist" in record.message
    bench.lab.update([one, config_map("late", a="b")])
    await bench.settled()


async def test_command_that_does_not_exist_is_told(bench: Bench) -> None:
    bench.lab.update([pod("a", container(command=["no-such-program"])), pod("b", {"name": "c"})])
    record = await bench.until("a", "p.reason == 'RunContainerError'")
    assert "cannot start 'no-such-program': there is no such command" in record.message
    record = await bench.until("b", "p.reason == 'ErrImageNeverPull'")


async def test_pod_that_asks_for_the_network_of_the_machine_does_not_start(bench: Bench) -> None:
    bench.lab.update([pod("a", hostNetwork=True)])
    record = await bench.until("a", "p.reason == 'RunContainerError'")
    assert "no hostNetwork" in record.message


async def test_environment_and_arguments_are_expanded(bench: Bench) -> None:
    env = [
        {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "URL", "value": "http://$(ME):80"},
    ]
    one = container(command=["echo"], args=["$(URL)", "$$(ME)"], env=env)
    bench.lab.update([pod("a", one, restartPolicy="Never")])
    record = await bench.until("a", "p.phase == 'Succeeded'")
    log = b"".join(read_logs(bench.paths, "a")).decode()
    assert log == f"http://{record.addresses[0]}:80 $(ME)\n"


async def test_init_containers_run_first_and_sidecars_beside(bench: Bench) -> None:
    shared = [mount("v", "/v")]
    one = pod(
        "a",
        shell("cat /v/first; echo main; exec sleep 60", volumeMounts=shared),
        initContainers=[
            shell("echo first > /v/first", volumeMounts=shared) | {"name": "init"},
            shell("exec sleep 60") | {"name": "side", "restartPolicy": "Always"},
        ],
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    bench.lab.update([one])
    await bench.settled()
    async with asyncio.timeout(PATIENCE):
        while b"first\nmain\n" not in b"".join(read_logs(bench.paths, "a")):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    running = [c.name for c in bench.pod("a").containers if c.process is not None]
    assert running == ["side", "app"]


async def test_commands_wait_until_the_agent_has_the_pod(bench: Bench) -> None:
    bench.agent.away = True
    bench.lab.update([deployment("web", replicas=3)])
    await bench.until("web", "p.reason == 'AgentUnavailable'")
    assert cgroups.processes(cgroups.instance_root(bench.paths.root)) == []
    bench.agent.away = False
    await bench.settled()
    told = [one.message for one in bench.progress if one.kind == "agent"]
    assert told == ["the agent is away; pods wait", "the agent answers again"]
    record = bench.pod("web-" + bench.lab.status()[0].name.rsplit("-", 1)[0][4:] + "-0")
    registration = bench.agent.pods[record.uid]
    assert registration.netns == f"netns/{record.uid}"
    assert list(registration.addresses) == list(record.addresses)
    assert Path(registration.cgroup).is_dir()  # noqa: ASYNC240 - a local file


async def test_new_agent_hears_of_all_pods(bench: Bench) -> None:
    bench.lab.update([deployment("web", replicas=2)])
    await bench.settled()
    bench.agent.pods.clear()
    await bench.lab.agent_restarted()
    assert set(bench.agent.pods) == {one.uid for one in bench.lab.status()}


async def test_pod_ends_with_grace_and_is_forgotten(bench: Bench) -> None:
    bench.lab.update([deployment("a", shell(TRAP)), service("a", {"port": 80})])
    await bench.settled()
    record = bench.pod("a")
    log = Path(record.containers[0].log)
    async with asyncio.timeout(PATIENCE):
        while log.read_text() != "up\n":  # noqa: ASYNC110, ASYNC240 - nobody tells
            await asyncio.sleep(0.01)
    bench.lab.update([service("a", {"port": 80})])
    await bench.settled()
    assert log.read_text() == "up\nbye\n"  # noqa: ASYNC240 - a local file
    assert bench.agent.calls[-1].startswith("DELETE a-")
    assert not Path(record.cgroup).exists()  # noqa: ASYNC240 - a local file
    assert not (bench.paths.root / record.netns).exists()


async def test_process_that_ignores_sigterm_is_killed_with_its_children(bench: Bench) -> None:
    bench.lab.update([pod("a", shell("trap '' TERM; sleep 60 & sleep 61 & wait; wait"))])
    await bench.settled()
    bench.lab.update([])
    await bench.settled()


async def test_rolling_update_goes_through_ready_pods(bench: Bench) -> None:
    web = service("web", {"port": 8080})
    bench.lab.update([deployment("web", container(**ECHO, readinessProbe=READY), replicas=2), web])
    await bench.settled()
    old = {one.uid for one in bench.lab.status()}
    lows: list[int] = []

    def note(state: Any) -> bool:
        ready = [
            endpoint
            for one in state.slices
            if one.service == "web" and one.address_type == "IPv4"
            for endpoint in one.endpoints
            if endpoint.conditions.ready
        ]
        lows.append(len(ready))
        return bench.lab.settled

    env = [{"name": "VERSION", "value": "v2"}]
    new = deployment("web", container(**ECHO, readinessProbe=READY, env=env), replicas=2)
    bench.lab.update([new, web])
    async with asyncio.timeout(PATIENCE):
        await bench.lab.wait_for(note)
    assert min(lows) == 2
    assert old.isdisjoint(one.uid for one in bench.lab.status())
    assert [one for one in bench.progress if one.kind == "pod-not-ready"] == []


async def test_changed_bare_pod_is_replaced_at_its_address(bench: Bench) -> None:
    bench.lab.update([pod("a"), pod("client")])
    await bench.settled()
    before = bench.pod("a")
    bench.lab.update([pod("a", container(**ECHO, readinessProbe=READY)), pod("client")])
    await bench.settled()
    after = bench.pod("a")
    assert (after.addresses, after.uid == before.uid) == (before.addresses, False)
    dial = "import socket; print(socket.socket().connect_ex(('%s', 8080)))"
    assert (
        await bench.run("client", f'{sys.executable} -c "{dial % after.addresses[0]}"') == "0\n[0]"
    )


async def test_new_labels_need_no_restart(bench: Bench) -> None:
    bench.lab.update([pod("a", labels={"v": "1"})])
    await bench.settled()
    before = bench.pod("a")
    bench.lab.update([pod("a", labels={"v": "2"})])
    async with asyncio.timeout(PATIENCE):
        await bench.lab.wait_for(
            lambda state: any(one.metadata.labels == {"v": "2"} for one in state.pods)
        )
    assert bench.pod("a").containers[0].process == before.containers[0].process


async def test_folder_of_yaml_is_followed(bench: Bench, tmp_path: Path) -> None:
    raw = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "shop"}}
    spec = {"containers": [container()], "terminationGracePeriodSeconds": 1}
    (tmp_path / "a.json").write_bytes(msgspec.json.encode(raw | {"spec": spec}))
    following = asyncio.create_task(bench.lab.follow([tmp_path]))
    try:
        await bench.until("a", "p.ready")
        (tmp_path / "a.json").unlink()
        async with asyncio.timeout(PATIENCE):
            await bench.lab.wait_for(lambda state: len(state.pods) == 1)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_exec_passes_the_exit_status_and_the_environment(bench: Bench) -> None:
    bench.lab.update([pod("a", container(env=[{"name": "COLOUR", "value": "blue"}]))])
    await bench.settled()
    assert await bench.run("shop/a", "echo $COLOUR; exit 9") == "blue\n[9]"
    cgroup = Path(bench.pod("a").cgroup).relative_to(cgroups.mount_point())
    assert f"0::/{cgroup}/app\n" in await bench.run("a", "cat /proc/self/cgroup")
    assert "pod 'b' does not exist; there are: shop/a" in await bench.run("b", "true")
