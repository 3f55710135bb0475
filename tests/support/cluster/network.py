"""Network namespaces of one cluster: the control plane with a bridge, and one for each node.

The bridge is in the control plane's namespace; the machine's own namespace gets no device, no
address and no route.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support.cluster.errors import ClusterError
from support.cluster.plan import API_HOST, NodePlan, Plan, netns_path

_NODE_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv6/conf/all/forwarding": "1",
}


def in_netns(name: str, *words: str) -> tuple[str, ...]:
    """Return the command that runs *words* in a namespace; it stays the same process."""
    return ("nsenter", f"--net={netns_path(name)}", *words)


def make(plan: Plan) -> None:
    """Make the namespaces and connect them.

    Raises:
        ClusterError: not possible here.
    """
    for program in ("ip", "nsenter"):
        if shutil.which(program) is None:
            raise ClusterError(f"{program} is missing: apt-get install iproute2 util-linux")
    control = plan.control_netns
    _run("ip", "netns", "add", control)
    _batch(
        control,
        "link set lo up",
        "link add br0 type bridge",
        f"address add {API_HOST}/24 dev br0",
        "link set br0 up",
    )
    for node in plan.nodes:
        connect(plan, node)


def remove(plan: Plan) -> None:
    """Remove what `make` made; what is not there is no error."""
    for name in (plan.control_netns, *(node.netns for node in plan.nodes)):
        if Path(netns_path(name)).exists():
            _run("ip", "netns", "delete", name)


def disconnect(node: NodePlan) -> None:
    """Remove a node's namespace, and with it what is at the other end of its link."""
    _run("ip", "netns", "delete", node.netns)


def connect(plan: Plan, node: NodePlan) -> None:
    """Make a node's namespace and its link to the bridge.

    Raises:
        ClusterError: not possible here.
    """
    control = plan.control_netns
    _run("ip", "netns", "add", node.netns)
    _run(
        "ip", "link", "add", "eth0", "netns", node.netns,
        "type", "veth", "peer", "name", node.name, "netns", control,
    )  # fmt: skip
    _batch(
        control,
        f"link set {node.name} master br0 up",
        f"route replace {node.pod_network} via {node.address}",
    )
    for path, value in _NODE_SYSCTLS.items():
        _run(*in_netns(node.netns, "sh", "-c", f"echo {value} >/proc/sys/{path}"))
    _batch(
        node.netns,
        "link set lo up",
        f"address add {node.address}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {API_HOST}",
        *(
            f"route add {other.pod_network} via {other.address}"
            for other in plan.nodes
            if other != node
        ),
    )


def _batch(netns: str, *lines: str) -> None:
    _run(*in_netns(netns, "ip", "-batch", "-"), text="\n".join(lines) + "\n")


def _run(*words: str, text: str = "") -> None:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
