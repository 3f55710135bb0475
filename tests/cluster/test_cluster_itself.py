"""The cluster that other tests stand on: what they rely on, and that nothing stays of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from support.cluster import images
from support.cluster.cluster import Cluster, sweep
from support.cluster.control_plane import NODE_IS_MISSED
from support.cluster.node import environment, hierarchies
from support.cluster.plan import DNS_SERVICE, Plan
from support.cluster.traffic import eventually

WAIT = "--timeout=60s"


def echo_pod(name: str, namespace: str, node: str, **more: Any) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/status/200", "port": 8080}, "periodSeconds": 1}
    container = {"name": "echo", "image": "penstock.dev/echo", "readinessProbe": probe}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": node, "containers": [{**container, **more}]},
    }


@pytest.fixture
def pods(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Return the address of a Pod on each node; they are named as their nodes."""
    names = [node.name for node in cluster.plan.nodes]
    cluster.apply(*(echo_pod(name, namespace, name) for name in names))
    for name in names:
        cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", f"pod/{name}", WAIT)
    items = cluster.get("pods", "-n", namespace)["items"]
    return {one["metadata"]["name"]: one["status"]["podIP"] for one in items}


def test_nodes_are_ready_with_their_addresses(cluster: Cluster) -> None:
    nodes = cluster.get("nodes")["items"]
    addresses = {
        node["metadata"]["name"]: one["address"]
        for node in nodes
        for one in node["status"]["addresses"]
        if one["type"] == "InternalIP"
    }
    assert addresses == {"n1": "172.31.0.11", "n2": "172.31.0.12"}


def test_pods_get_addresses_of_their_nodes_network(pods: dict[str, str]) -> None:
    assert {name: address.rpartition(".")[0] for name, address in pods.items()} == {
        "n1": "10.244.1",
        "n2": "10.244.2",
    }


def test_pods_of_both_nodes_reach_each_other(
    cluster: Cluster, namespace: str, pods: dict[str, str]
) -> None:
    for client, server in (("n1", "n2"), ("n2", "n1"), ("n1", "n1")):
        said = get_from_pod(cluster, namespace, client, f"http://{pods[server]}:8080/")
        assert (said["pod"], said["remote"]) == (server, pods[client])


def get_from_pod(cluster: Cluster, namespace: str, pod: str, url: str) -> Any:
    code = f"import urllib.request as r; print(r.urlopen({url!r}, timeout=5).read().decode())"
    return json.loads(cluster.kubectl("exec", "-n", namespace, pod, "--", "python3", "-c", code))


def test_pods_are_reachable_from_the_control_planes_network(
    cluster: Cluster, pods: dict[str, str]
) -> None:
    words = cluster.in_control_netns("curl", "-sS", "-m", "5", f"http://{pods['n2']}:8080/")
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["remote"] == "172.31.0.1"


def test_logs_and_port_forwards_come_through(
    cluster: Cluster, namespace: str, pods: dict[str, str]
) -> None:
    assert pods
    pod = echo_pod("talks", namespace, "n1", command=["python3", "-c", "print('said')"])
    cluster.apply(pod)
    log = ("logs", "-n", namespace, "talks")
    assert eventually(lambda: "said" in cluster.kubectl(*log, check=False)), "no log of the pod"
    forward = subprocess.Popen(
        [
            "kubectl", "--kubeconfig", str(cluster.kubeconfig), "-n", namespace,
            "port-forward", "pod/n2", ":8080",
        ],
        executable=cluster.kubectl_program, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with forward:
        try:
            assert forward.stdout is not None
            port = re.search(r":(\d+) ->", forward.stdout.readline())
            assert port is not None
            with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/", timeout=10) as answer:
                assert json.load(answer)["pod"] == "n2"
        finally:
            forward.kill()


def test_an_image_that_nobody_made_is_refused_at_once(cluster: Cluster, namespace: str) -> None:
    cluster.apply(echo_pod("x", namespace, "n1", image="registry.example/nothing:1"))

    def reason() -> str:
        status = cluster.get("pod", "-n", namespace, "x")["status"]
        states = [one["state"] for one in status.get("containerStatuses", [])]
        return str(states[0].get("waiting", {}).get("reason")) if states else ""

    assert eventually(lambda: reason() in ("ErrImagePull", "ImagePullBackOff")), (
        "the pull is not refused"
    )


def test_an_image_made_anew_is_what_new_pods_run(cluster: Cluster, namespace: str) -> None:
    name = "localhost/late:dev"
    for version in ("one", "two"):
        made = images.echo_image(name, images.cache_folder(), f"VERSION={version}")
        images.write(made, cluster.images)
        cluster.renew_image(name)
        cluster.apply(echo_pod(version, namespace, "n1", image=name))
        ready = ("wait", "-n", namespace, "--for=condition=Ready", f"pod/{version}", WAIT)
        cluster.kubectl(*ready)
        said = get_from_pod(cluster, namespace, version, "http://127.0.0.1:8080/")
        assert said["version"] == version


def test_dns_of_the_cluster_answers(cluster: Cluster) -> None:
    items = cluster.get("pods", "-n", "kube-system", "-l", "k8s-app=kube-dns")["items"]
    code = (
        "import sys, dns.resolver as r; one = r.Resolver(configure=False); "
        "one.nameservers = [sys.argv[1]]; "
        "print(one.resolve('kube-dns.kube-system.svc.cluster.local')[0])"
    )
    words = (sys.executable, "-c", code, items[0]["status"]["podIP"])
    done = subprocess.run(
        cluster.in_control_netns(*words), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == DNS_SERVICE


def test_each_node_has_a_bpf_file_system_of_its_own(cluster: Cluster) -> None:
    on_node(cluster, "n1", "mkdir -p /sys/fs/bpf/seen")
    assert "seen" in on_node(cluster, "n1", "ls /sys/fs/bpf")
    assert "seen" not in on_node(cluster, "n2", "ls /sys/fs/bpf")
    on_node(cluster, "n1", "rmdir /sys/fs/bpf/seen")


def on_node(cluster: Cluster, node: str, script: str) -> str:
    words = cluster.in_node(node, "sh", "-c", script)
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_a_pods_processes_are_in_a_cgroup_v2_below_kubepods(
    cluster: Cluster, namespace: str, pods: dict[str, str]
) -> None:
    assert pods
    uid = cluster.get("pod", "-n", namespace, "n1")["metadata"]["uid"]
    found = on_node(
        cluster, "n1",
        f"find /sys/fs/cgroup -path '*/kubepods/*/pod{uid}/*/cgroup.procs' -exec cat {{}} +",
    )  # fmt: skip
    commands = on_node(cluster, "n1", f"cat {' '.join(f'/proc/{p}/comm' for p in found.split())}")
    assert {"pause", "python3"} <= set(commands.split())


def test_pods_see_folders_of_their_node_and_what_is_mounted_there_later(
    cluster: Cluster, namespace: str
) -> None:
    on_node(cluster, "n1", "echo from-node >/etc/cni/net.d/seen")
    folders = {"conf": "/etc/cni/net.d", "netns": "/run/netns"}
    pod = echo_pod(
        "host", namespace, "n1",
        volumeMounts=[
            {"name": "conf", "mountPath": "/etc/cni/net.d"},
            {"name": "netns", "mountPath": "/run/netns", "mountPropagation": "HostToContainer"},
        ],
    )  # fmt: skip
    pod["spec"]["hostNetwork"] = True
    pod["spec"]["volumes"] = [
        {"name": name, "hostPath": {"path": path}} for name, path in folders.items()
    ]
    cluster.apply(pod, echo_pod("later", namespace, "n1"))
    for name in ("host", "later"):
        cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", f"pod/{name}", WAIT)
    code = (
        "import os; print(open('/etc/cni/net.d/seen').read(), "
        "[os.stat('/run/netns/' + one).st_ino for one in os.listdir('/run/netns')])"
    )
    said = cluster.kubectl("exec", "-n", namespace, "host", "--", "python3", "-c", code)
    own = cluster.kubectl(
        "exec", "-n", namespace, "later", "--", "python3", "-c",
        "import os; print(os.stat('/proc/self/ns/net').st_ino)",
    )  # fmt: skip
    on_node(cluster, "n1", "rm /etc/cni/net.d/seen")
    assert "from-node" in said
    assert own.strip() in said


def test_a_kubelet_that_is_killed_comes_back(cluster: Cluster) -> None:
    def kubelet() -> str:
        return on_node(cluster, "n2", "pgrep -x kubelet || true").strip()

    before = kubelet()
    on_node(cluster, "n2", f"kill -9 {before}")
    assert eventually(lambda: kubelet() not in ("", before)), "no kubelet again"


def test_a_node_comes_back_after_a_power_cut(cluster: Cluster, namespace: str) -> None:
    cluster.stop_node("n2")
    unreachable = (
        "wait",
        "--for=condition=Ready=Unknown",
        "node/n2",
        f"--timeout={NODE_IS_MISSED:.0f}s",
    )
    cluster.kubectl(*unreachable)
    cluster.start_node("n2")
    cluster.apply(echo_pod("again", namespace, "n2"))
    cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/again", WAIT)


def left_over(plan: Plan) -> list[str]:
    """Return what there is of a cluster."""
    names = [path.name for path in Path("/run/netns").glob(f"{plan.name}-*")]
    cgroups = [
        str(path) for root in hierarchies() for path in root.glob(f"penstock-cluster-{plan.name}-*")
    ]
    processes = [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if str(plan.state).encode() in read(path)
    ]
    states = [str(plan.state)] if plan.state.exists() else []
    return [*names, *cgroups, *processes, *states]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.usefixtures("cluster")
def test_a_second_cluster_beside_comes_and_goes_without_leaving_anything() -> None:
    plan = Plan(name=f"pk{os.getpid()}b", node_count=1)
    said: list[str] = []
    second = Cluster(plan)
    try:
        second.up(said.append)
        assert second.get("nodes")["items"]
        second.up(said.append)
        assert said[-1] == f"cluster {plan.name} runs already"
    finally:
        second.down()
    assert left_over(plan) == []
    second.down()


@pytest.mark.usefixtures("cluster")
def test_of_a_run_that_was_killed_the_next_one_removes_what_stayed() -> None:
    plan = Plan(name=f"pk{os.getpid()}c", node_count=1)
    code = (
        "import signal, sys; from support.cluster.cluster import running; "
        "from support.cluster.plan import Plan\n"
        "with running(Plan(sys.argv[1], 1), print): print('up', flush=True); signal.pause()"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, plan.name],
        stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    with run:
        try:
            assert run.stdout is not None
            lines = iter(run.stdout.readline, "")
            assert "up\n" in lines
        finally:
            run.send_signal(signal.SIGKILL)
    try:
        sweep()
        assert left_over(plan) == []
    finally:
        Cluster(plan).down()
