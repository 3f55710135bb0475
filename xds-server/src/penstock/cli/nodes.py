"""The commands that run on nodes: the agent, and the CNI plugin's installation."""

from __future__ import annotations

from pathlib import Path

import click

from penstock.cli.options import PATH, logging, run_dir
from penstock.meta.paths import DEFAULT_RUN_DIR, RunPaths

_bin_dir = click.option(
    "--bin-dir",
    type=PATH,
    default=Path("/opt/cni/bin"),
    show_default=True,
    help="Folder of CNI plugins.",
)
_conf_dir = click.option(
    "--conf-dir",
    type=PATH,
    default=Path("/etc/cni/net.d"),
    show_default=True,
    help="Folder of network configurations.",
)
_unpoliced = click.option(
    "--unpoliced-namespace", multiple=True, help="Its pods are left alone; repeatable."
)
_bpffs = click.option(
    "--bpffs",
    type=PATH,
    default=Path("/sys/fs/bpf/penstock"),
    show_default=True,
    help="Folder in the node's bpffs for what is pinned.",
)


@click.command(hidden=True)
@run_dir
@click.option(
    "--node",
    default="lab",
    show_default=True,
    envvar="NODE_NAME",
    show_envvar=True,
    help="Its name.",
)
@click.option("--kubeconfig", type=PATH, help="API server; else that of this pod.")
@click.option("--context", default="", help="Of the kubeconfig.")
@click.option(
    "--controller",
    multiple=True,
    help="HOST[:PORT] or unix:PATH; repeatable; else looked up.",
)
@click.option(
    "--controller-service",
    default="penstock-controller",
    show_default=True,
    help="Whose endpoints are controllers.",
)
@click.option(
    "--namespace",
    default="",
    envvar="POD_NAMESPACE",
    show_envvar=True,
    help="Of Penstock's own pods.",
)
@click.option(
    "--ca-file",
    type=PATH,
    help="Certificates by which controllers are known; else the ConfigMap penstock-ca.",
)
@click.option(
    "--token-file",
    type=PATH,
    default=Path("/var/run/secrets/penstock/token"),
    show_default=True,
    help="Token of this pod for controllers.",
)
@_unpoliced
@click.option("--kubepods-cgroup", type=PATH, help="Cgroup v2 of all pods; else sought.")
@_bpffs
@click.option(
    "--netns-dir",
    type=PATH,
    default=Path("/run/netns"),
    show_default=True,
    help="Where pods' network namespaces have names.",
)
@click.option(
    "--node-ip",
    multiple=True,
    envvar="NODE_IP",
    show_envvar=True,
    help="On the link of Gateways' addresses.",
)
@click.option("--cni-bin-dir", type=PATH, help="Keep the CNI plugin installed there.")
@click.option("--cni-conf-dir", type=PATH, help="And in the configuration there.")
@click.option("--health-address", default="", help="Of /healthz and /readyz, as 127.0.0.1:15015.")
@click.option("--concurrency", type=int, help="Envoy's worker threads.")
@click.option("--kubernetes", is_flag=True, help="Pods and Envoy are Kubernetes' here.")
@click.option("--only-gateways", is_flag=True)
@click.option("--stop-envoy", is_flag=True)
@logging
def agent(
    *,
    paths: RunPaths,
    node: str,
    kubeconfig: Path | None,
    context: str,
    controller: tuple[str, ...],
    controller_service: str,
    namespace: str,
    ca_file: Path | None,
    token_file: Path,
    unpoliced_namespace: tuple[str, ...],
    kubepods_cgroup: Path | None,
    bpffs: Path,
    netns_dir: Path,
    node_ip: tuple[str, ...],
    cni_bin_dir: Path | None,
    cni_conf_dir: Path | None,
    health_address: str,
    concurrency: int | None,
    kubernetes: bool,
    only_gateways: bool,
    stop_envoy: bool,
    log_level: str,
    log_json: bool,
) -> None:
    """Serve one Envoy and steer pods into it; `penstock up` starts it, on nodes a DaemonSet."""
    from penstock.cli.agent import AgentOptions, ClusterNode, run_agent

    cluster = ClusterNode(
        kubeconfig=kubeconfig,
        context=context,
        controllers=controller,
        service=controller_service,
        namespace=namespace,
        ca_file=ca_file,
        token_file=token_file,
        unpoliced=unpoliced_namespace,
        kubepods=kubepods_cgroup,
        bpffs=bpffs,
        netns_folder=netns_dir,
        node_addresses=node_ip,
        cni_programs=cni_bin_dir,
        cni_configuration=cni_conf_dir,
    )
    options = AgentOptions(
        cluster=cluster if kubernetes else None,
        health=health_address,
        only_gateways=only_gateways,
        stop_envoy=stop_envoy,
        concurrency=concurrency,
    )
    run_agent(paths, node, options, log_level=log_level, log_json=log_json)


@click.command(hidden=True)
@run_dir
@_bin_dir
@_conf_dir
@_bpffs
@click.option("--stay", is_flag=True, help="End only when told to.")
def leave(*, paths: RunPaths, bin_dir: Path, conf_dir: Path, bpffs: Path, stay: bool) -> None:
    """Take away from this node all that agents left on it, before Penstock is uninstalled."""
    from penstock.cli.agent import leave_node

    leave_node(paths, bpffs, bin_dir, conf_dir, stay=stay)


@click.group(hidden=True)
def cni() -> None:
    """The CNI plugin in the node's folders."""


@cni.command()
@_bin_dir
@_conf_dir
@click.option(
    "--run-dir",
    type=PATH,
    default=DEFAULT_RUN_DIR,
    show_default=True,
    envvar="PENSTOCK_RUN_DIR",
    show_envvar=True,
    help="Run folder of the agent, as the node sees it.",
)
@click.option("--program", type=PATH, help="The plugin; else that of the image.")
@_unpoliced
def install(
    *,
    bin_dir: Path,
    conf_dir: Path,
    run_dir: Path,
    program: Path | None,
    unpoliced_namespace: tuple[str, ...],
) -> None:
    """Put the plugin behind the others of the node's network, unless it is there."""
    from penstock.cli.agent import install_cni

    install_cni(
        RunPaths(run_dir), bin_dir, conf_dir, program=program, unpoliced=unpoliced_namespace
    )


@cni.command()
@_bin_dir
@_conf_dir
def uninstall(*, bin_dir: Path, conf_dir: Path) -> None:
    """Take the plugin away again; the network's configuration is as it was."""
    from penstock.cli.agent import uninstall_cni

    uninstall_cni(bin_dir, conf_dir)
