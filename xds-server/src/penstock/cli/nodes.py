"""The commands that run on nodes: the agent, and the CNI plugin's installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import RUN_DIR, LogJson, LogLevel, RunDir
from penstock.meta.paths import RunPaths

cni_app = typer.Typer(
    help="The CNI plugin in the node's folders.", no_args_is_help=True, rich_markup_mode=None
)
BinDir = Annotated[Path, typer.Option("--bin-dir", help="Folder of CNI plugins.")]
ConfDir = Annotated[Path, typer.Option("--conf-dir", help="Folder of network configurations.")]
Unpoliced = Annotated[
    list[str] | None,
    typer.Option("--unpoliced-namespace", help="Its pods are left alone; repeatable."),
]
BpfFolder = Annotated[
    Path, typer.Option("--bpffs", help="Folder in the node's bpffs for what is pinned.")
]
_PINS = Path("/sys/fs/bpf/penstock")
_BIN, _CONF = Path("/opt/cni/bin"), Path("/etc/cni/net.d")


AgentNode = Annotated[str, typer.Option("--node", envvar="NODE_NAME", help="Its name.")]
AgentKubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", help="API server; else that of this pod.")
]
AgentContext = Annotated[str, typer.Option("--context", help="Of the kubeconfig.")]
AgentController = Annotated[
    list[str] | None,
    typer.Option("--controller", help="HOST[:PORT] or unix:PATH; repeatable; else looked up."),
]
AgentControllerService = Annotated[
    str, typer.Option("--controller-service", help="Whose endpoints are controllers.")
]
AgentNamespace = Annotated[
    str, typer.Option("--namespace", envvar="POD_NAMESPACE", help="Of Penstock's own pods.")
]
AgentCaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        help="Certificates by which controllers are known; else the ConfigMap penstock-ca.",
    ),
]
AgentTokenFile = Annotated[
    Path, typer.Option("--token-file", help="Token of this pod for controllers.")
]
AgentKubepodsCgroup = Annotated[
    Path | None, typer.Option("--kubepods-cgroup", help="Cgroup v2 of all pods; else sought.")
]
AgentNetnsDir = Annotated[
    Path, typer.Option("--netns-dir", help="Where pods' network namespaces have names.")
]
AgentNodeIp = Annotated[
    list[str] | None,
    typer.Option("--node-ip", envvar="NODE_IP", help="On the link of Gateways' addresses."),
]
AgentCniBinDir = Annotated[
    Path | None, typer.Option("--cni-bin-dir", help="Keep the CNI plugin installed there.")
]
AgentCniConfDir = Annotated[
    Path | None, typer.Option("--cni-conf-dir", help="And in the configuration there.")
]
AgentHealthAddress = Annotated[
    str, typer.Option("--health-address", help="Of /healthz and /readyz, as 127.0.0.1:15015.")
]
AgentConcurrency = Annotated[
    int | None, typer.Option("--concurrency", help="Envoy's worker threads.")
]
AgentKubernetes = Annotated[
    bool, typer.Option("--kubernetes", help="Pods and Envoy are Kubernetes' here.")
]
AgentOnlyGateways = Annotated[bool, typer.Option("--only-gateways")]
AgentStopEnvoy = Annotated[bool, typer.Option("--stop-envoy")]


def agent(
    run_dir: RunDir = RUN_DIR,
    node: AgentNode = "lab",
    *,
    kubeconfig: AgentKubeconfig = None,
    context: AgentContext = "",
    controller: AgentController = None,
    controller_service: AgentControllerService = "penstock-controller",
    namespace: AgentNamespace = "",
    ca_file: AgentCaFile = None,
    token_file: AgentTokenFile = Path("/var/run/secrets/penstock/token"),
    unpoliced_namespace: Unpoliced = None,
    kubepods_cgroup: AgentKubepodsCgroup = None,
    bpffs: BpfFolder = _PINS,
    netns_dir: AgentNetnsDir = Path("/run/netns"),
    node_ip: AgentNodeIp = None,
    cni_bin_dir: AgentCniBinDir = None,
    cni_conf_dir: AgentCniConfDir = None,
    health_address: AgentHealthAddress = "",
    concurrency: AgentConcurrency = None,
    log_level: LogLevel = "info",
    kubernetes: AgentKubernetes = False,
    only_gateways: AgentOnlyGateways = False,
    stop_envoy: AgentStopEnvoy = False,
    log_json: LogJson = False,
) -> None:
    """Serve one Envoy and steer pods into it; `penstock up` starts it, on nodes a DaemonSet."""
    from penstock.cli.agent import AgentOptions, ClusterNode, run_agent

    cluster = ClusterNode(
        kubeconfig=kubeconfig,
        context=context,
        controllers=tuple(controller or ()),
        service=controller_service,
        namespace=namespace,
        ca_file=ca_file,
        token_file=token_file,
        unpoliced=tuple(unpoliced_namespace or ()),
        kubepods=kubepods_cgroup,
        bpffs=bpffs,
        netns_folder=netns_dir,
        node_addresses=tuple(node_ip or ()),
        cni_programs=cni_bin_dir,
        cni_configuration=cni_conf_dir,
    )
    run_agent(
        RunPaths(run_dir.resolve()),
        node,
        AgentOptions(
            cluster=cluster if kubernetes else None,
            health=health_address,
            only_gateways=only_gateways,
            stop_envoy=stop_envoy,
            concurrency=concurrency,
        ),
        log_level=log_level,
        log_json=log_json,
    )


def leave(
    run_dir: RunDir = RUN_DIR,
    bin_dir: BinDir = _BIN,
    conf_dir: ConfDir = _CONF,
    bpffs: BpfFolder = _PINS,
    *,
    stay: Annotated[bool, typer.Option("--stay", help="End only when told to.")] = False,
) -> None:
    """Take away from this node all that agents left on it, before Penstock is uninstalled."""
    from penstock.cli.agent import leave_node

    leave_node(RunPaths(run_dir.resolve()), bpffs, bin_dir, conf_dir, stay=stay)


@cni_app.command()
def install(
    bin_dir: BinDir = _BIN,
    conf_dir: ConfDir = _CONF,
    run_dir: RunDir = RUN_DIR,
    program: Annotated[
        Path | None, typer.Option("--program", help="The plugin; else that of the image.")
    ] = None,
    unpoliced_namespace: Unpoliced = None,
) -> None:
    """Put the plugin behind the others of the node's network, unless it is there."""
    from penstock.cli.agent import install_cni

    paths = RunPaths(run_dir)
    install_cni(paths, bin_dir, conf_dir, program=program, unpoliced=unpoliced_namespace)


@cni_app.command()
def uninstall(bin_dir: BinDir = _BIN, conf_dir: ConfDir = _CONF) -> None:
    """Take the plugin away again; the network's configuration is as it was."""
    from penstock.cli.agent import uninstall_cni

    uninstall_cni(bin_dir, conf_dir)
