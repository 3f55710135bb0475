"""The commands and their options. What a command does is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.formats import Format, LintFormat, Target
from penstock.cli.nodes import agent, cni_app, leave
from penstock.cli.options import RUN_DIR, LogJson, LogLevel, RunDir
from penstock.meta.paths import RunPaths
from penstock.meta.version import VERSION

app = typer.Typer(
    name="penstock",
    help="A sidecar-free L7 service mesh; with `penstock up`, a whole one on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
proxy_app = typer.Typer(
    help="What Envoy runs, beside what was meant and what it accepted.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(proxy_app, name="proxy")
app.add_typer(cni_app, name="cni", hidden=True)
app.command(hidden=True)(agent)
app.command(hidden=True)(leave)

Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace; all if not given.")]
Container = Annotated[str, typer.Option("--container", "-c", help="Container; the first one.")]


KubeConfig = Annotated[
    Path | None, typer.Option("--kubeconfig", help="Of the cluster; else $KUBECONFIG.")
]
Context = Annotated[str, typer.Option("--context", help="Of the kubeconfig.")]
SystemNamespace = Annotated[str, typer.Option("--namespace", "-n", help="Where Penstock runs.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to show it.")]


def _exit(status: int) -> None:
    raise typer.Exit(status)


@app.command()
def up(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of Kubernetes YAML.")],
    run_dir: RunDir = RUN_DIR,
    *,
    only_gateways: Annotated[
        bool, typer.Option("--only-gateways", help="Serve Gateways only; needs no rights.")
    ] = False,
) -> None:
    """Run the pods of a folder of YAML, and the mesh around them, until Ctrl-C."""
    from penstock.cli.up import up as run

    _exit(run(folder, RunPaths(run_dir.resolve()), only_gateways=only_gateways))


@app.command()
def down(run_dir: RunDir = RUN_DIR) -> None:
    """End an instance and remove what one that was killed left behind."""
    from penstock.cli.down import down as run

    _exit(run(RunPaths(run_dir.resolve())))


@app.command()
def status(run_dir: RunDir = RUN_DIR, output: Output = Format.TABLE) -> None:
    """Show what runs: processes, pods, Gateways, problems."""
    from penstock.cli.status import status as run

    _exit(run(RunPaths(run_dir.resolve()), output))


@app.command(name="exec", context_settings={"ignore_unknown_options": True})
def execute(
    pod: Annotated[str, typer.Argument(help="Name, beginning of a name, or deploy/NAME.")],
    command: Annotated[list[str], typer.Argument(help="Program and arguments, after --.")],
    run_dir: RunDir = RUN_DIR,
    namespace: Namespace = "",
    container: Container = "",
) -> None:
    """Run a command inside a pod; its exit status becomes this one's."""
    from penstock.cli.inside import execute as run

    paths = RunPaths(run_dir.resolve())
    _exit(run(paths, pod, command, namespace=namespace, container=container))


@app.command()
def logs(
    pod: Annotated[str, typer.Argument(help="Name, beginning of a name, or deploy/NAME.")],
    run_dir: RunDir = RUN_DIR,
    namespace: Namespace = "",
    container: Container = "",
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines.")] = False,
) -> None:
    """Print what a pod's process wrote."""
    from penstock.cli.inside import logs as run

    paths = RunPaths(run_dir.resolve())
    _exit(run(paths, pod, namespace=namespace, container=container, follow=follow))


@app.command()
def get(
    kind: Annotated[str, typer.Argument(help="HTTPRoute, gw, cnp, po, svc, …")],
    name: Annotated[str, typer.Argument(help="Name of one object.")] = "",
    run_dir: RunDir = RUN_DIR,
    namespace: Namespace = "",
    output: Output = Format.TABLE,
    *,
    files: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="DIR", help="Folder or file; nothing need run."),
    ] = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Look in all namespaces.")
    ] = False,
) -> None:
    """Show objects with their conditions."""
    from penstock.cli.get import get as run

    where = None if all_namespaces or not namespace else namespace
    _exit(run(RunPaths(run_dir.resolve()), kind, name, namespace=where, form=output, files=files))


@app.command()
def translate(
    folder: Annotated[Path, typer.Option("--file", "-f", metavar="DIR", help="Folder or file.")],
    node: Annotated[str, typer.Option("--node", help="Name of the node.")] = "",
    output: Output = Format.JSON,
    to: Annotated[Target, typer.Option("--to", help="Resources, or statuses.")] = Target.XDS,
) -> None:
    """Show the resources, or the statuses, that YAML becomes; needs no rights and no network."""
    from penstock.cli.translate import statuses
    from penstock.cli.translate import translate as run

    _exit(run(folder, output, node) if to is Target.XDS else statuses(folder, output))


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(help="Files and folders.")],
    output: Annotated[LintFormat, typer.Option("--output", "-o", help="How to show it.")] = (
        LintFormat.TEXT
    ),
    crds: Annotated[
        Path | None,
        typer.Option("--crds", metavar="DIR", help="CRDs: judge as an API server with them would."),
    ] = None,
) -> None:
    """Find mistakes in YAML; exit status 1 if something is an error."""
    from penstock.cli.lint import lint as run

    _exit(run(files, output, crds))


migrations = typer.Typer(help="Write YAML of other APIs as YAML of the Gateway API.")
app.add_typer(migrations, name="migrate")


@migrations.command("ingress")
def migrate_ingress(
    files: Annotated[list[Path], typer.Argument(help="Files and folders.")],
) -> None:
    """Write the equal of Ingresses; exit status 1 if something has no equal, told on stderr."""
    from penstock.cli.migrate import migrate_ingress as run

    _exit(run(files))


@migrations.callback()
def _migrations() -> None:
    """Write YAML of other APIs as YAML of the Gateway API."""


@app.command()
def observe(
    run_dir: RunDir = RUN_DIR,
    last: Annotated[int, typer.Option("--last", help="How many past flows; 20, with -f 0.")] = -1,
    pod: Annotated[str, typer.Option("--pod", help="Source or destination, its beginning.")] = "",
    verdict: Annotated[str, typer.Option("--verdict", help="ALLOWED, DENIED, ERROR.")] = "",
    output: Output = Format.TABLE,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones.")] = False,
) -> None:
    """Show one line for each request and each denied connection, and which line of YAML decided."""
    from penstock.cli.observe import FOLLOW_LAST, LAST, Wanted
    from penstock.cli.observe import observe as run

    count = last if last >= 0 else FOLLOW_LAST if follow else LAST
    wanted = Wanted(pod=pod, verdict=verdict)
    paths = RunPaths(run_dir.resolve())
    _exit(run(paths, wanted, last=count, follow=follow, form=output))


@app.command()
def check(
    run_dir: RunDir = RUN_DIR,
    kubeconfig: KubeConfig = None,
    context: Context = "",
    namespace: SystemNamespace = "penstock-system",
    output: Output = Format.TABLE,
    *,
    cni_conf_dir: Annotated[
        Path | None, typer.Option("--cni-conf-dir", help="Of the node's container runtime.")
    ] = None,
    node: Annotated[bool, typer.Option("--node", help="Check this node and its agent.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only what is not ok.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Name every object, not the first few.")
    ] = False,
) -> None:
    """Check a cluster, a node or this machine; exit status 1 if something fails."""
    from penstock.cli.check import Where
    from penstock.cli.check import check as run

    where = Where(
        node=node,
        paths=RunPaths(run_dir.resolve()),
        cni_folder=cni_conf_dir,
        kubeconfig=kubeconfig,
        context=context,
        namespace=namespace,
    )
    _exit(run(where, output, quiet=quiet, every=every))


@app.command()
def version() -> None:
    """Print the version of this command; `penstock check` tells that of a cluster."""
    typer.echo(VERSION)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def _app(
    *,
    _: Annotated[
        bool,
        typer.Option("--version", help="As `version`.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """A sidecar-free L7 service mesh; with `penstock up`, a whole one on this machine."""


@app.command()
def sysdump(
    run_dir: RunDir = RUN_DIR,
    kubeconfig: KubeConfig = None,
    context: Context = "",
    namespace: SystemNamespace = "penstock-system",
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="To write; - is standard output.")
    ] = None,
    *,
    node: Annotated[bool, typer.Option("--node", help="Of this node, not of a cluster.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be taken.")] = False,
) -> None:
    """Gather what others need to understand an installation, without its secrets, in one file."""
    from penstock.cli.check import Where
    from penstock.cli.sysdump.command import sysdump as run

    where = Where(
        node=node,
        paths=RunPaths(run_dir.resolve()),
        kubeconfig=kubeconfig,
        context=context,
        namespace=namespace,
    )
    _exit(run(where, file, dry_run=dry_run))


def _listing(what: str, run_dir: Path, output: Format) -> None:
    from penstock.cli.proxy import listing

    _exit(listing(RunPaths(run_dir.resolve()), what, output))


@proxy_app.command()
def listeners(run_dir: RunDir = RUN_DIR, output: Output = Format.TABLE) -> None:
    """Show Envoy's listeners."""
    _listing("listeners", run_dir, output)


@proxy_app.command()
def routes(run_dir: RunDir = RUN_DIR, output: Output = Format.TABLE) -> None:
    """Show Envoy's routes, with the weights that are in force."""
    _listing("routes", run_dir, output)


@proxy_app.command()
def clusters(run_dir: RunDir = RUN_DIR, output: Output = Format.TABLE) -> None:
    """Show Envoy's clusters."""
    _listing("clusters", run_dir, output)


@proxy_app.command()
def endpoints(run_dir: RunDir = RUN_DIR, output: Output = Format.TABLE) -> None:
    """Show the endpoints of Envoy's clusters, with requests and failures."""
    _listing("endpoints", run_dir, output)


@proxy_app.command()
def diff(run_dir: RunDir = RUN_DIR, output: Output = Format.TABLE) -> None:
    """Show where Envoy differs from what is meant; exit status 1 if it does."""
    from penstock.cli.proxy import diff as run

    _exit(run(RunPaths(run_dir.resolve()), output))


ControllerSource = Annotated[
    list[Path] | None, typer.Option("--source", help="Folder or file; repeatable.")
]
ControllerPublishedOffset = Annotated[int, typer.Option("--published-offset")]
ControllerKubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", help="Read from this API server instead.")
]
ControllerContext = Annotated[str, typer.Option("--context", help="Of the kubeconfig.")]
ControllerLeaseNamespace = Annotated[
    str, typer.Option("--lease-namespace", help="Of the Lease whose holder writes statuses.")
]
ControllerAdsAddress = Annotated[
    str, typer.Option("--ads-address", help="Serve nodes there, as 0.0.0.0:15012.")
]
ControllerJoinAddress = Annotated[
    str, typer.Option("--join-address", help="Let nodes join there; port 15013 beside ADS.")
]
ControllerMetricsAddress = Annotated[
    str, typer.Option("--metrics-address", help="Health and metrics, as 0.0.0.0:15014.")
]
ControllerTrustDomain = Annotated[
    str, typer.Option("--trust-domain", help="Of the names in certificates.")
]
ControllerServingName = Annotated[
    list[str] | None, typer.Option("--serving-name", help="One more DNS name; repeatable.")
]
ControllerCaDir = Annotated[
    Path | None, typer.Option("--ca-dir", help="Keep the CA there instead of in a Secret.")
]
ControllerJoinAudience = Annotated[
    str, typer.Option("--join-audience", help="Of the tokens with which nodes join.")
]
ControllerJoinServiceAccount = Annotated[
    str, typer.Option("--join-service-account", help="NAMESPACE/NAME of those tokens.")
]
ControllerJoinTokenFile = Annotated[
    Path | None, typer.Option("--join-token-file", help="A token that lets any node join.")
]
ControllerDrainSeconds = Annotated[
    float, typer.Option("--drain-seconds", help="From SIGTERM to the end of streams.")
]
ControllerGatewayAddresses = Annotated[
    str,
    typer.Option(
        "--gateway-addresses", help="nodes, loadbalancer, or pool:192.0.2.0/26 (cluster)."
    ),
]
ControllerSystemAuthorities = Annotated[
    Path | None,
    typer.Option("--system-authorities", help="PEM; else where this system keeps them."),
]
ControllerSystemNamespace = Annotated[
    str, typer.Option("--system-namespace", help="Of Penstock's own pods (cluster).")
]
ControllerInCluster = Annotated[
    bool, typer.Option("--in-cluster", help="Read from the API server of this pod instead.")
]
ControllerOnlyGateways = Annotated[bool, typer.Option("--only-gateways")]


@app.command(hidden=True)
def controller(
    source: ControllerSource = None,
    run_dir: RunDir = RUN_DIR,
    published_offset: ControllerPublishedOffset = 8000,
    kubeconfig: ControllerKubeconfig = None,
    context: ControllerContext = "",
    *,
    lease_namespace: ControllerLeaseNamespace = "",
    ads_address: ControllerAdsAddress = "",
    join_address: ControllerJoinAddress = "",
    metrics_address: ControllerMetricsAddress = "",
    trust_domain: ControllerTrustDomain = "cluster.local",
    serving_name: ControllerServingName = None,
    ca_dir: ControllerCaDir = None,
    join_audience: ControllerJoinAudience = "penstock",
    join_service_account: ControllerJoinServiceAccount = "",
    join_token_file: ControllerJoinTokenFile = None,
    drain_seconds: ControllerDrainSeconds = 5.0,
    gateway_addresses: ControllerGatewayAddresses = "nodes",
    system_namespace: ControllerSystemNamespace = "",
    system_authorities: ControllerSystemAuthorities = None,
    in_cluster: ControllerInCluster = False,
    only_gateways: ControllerOnlyGateways = False,
    log_level: LogLevel = "info",
    log_json: LogJson = False,
) -> None:
    """Compile objects and serve them to agents; `penstock up` starts it."""
    from penstock.cli.parts import ClusterOptions, NetworkOptions, run_controller

    run_controller(
        RunPaths(run_dir.resolve()),
        source or [],
        cluster=ClusterOptions(
            kubeconfig=kubeconfig,
            context=context,
            in_cluster=in_cluster,
            lease_namespace=lease_namespace,
            gateway_addresses=gateway_addresses,
            system_namespace=system_namespace,
        ),
        network=NetworkOptions(
            ads_address=ads_address,
            join_address=join_address,
            metrics_address=metrics_address,
            trust_domain=trust_domain,
            names=tuple(serving_name or ()),
            authority_folder=ca_dir,
            join_audience=join_audience,
            join_account=join_service_account,
            join_token_file=join_token_file,
            drain=drain_seconds,
        ),
        published_offset=published_offset,
        system_authorities=system_authorities,
        only_gateways=only_gateways,
        log_level=log_level,
        log_json=log_json,
    )


@app.command(hidden=True)
def demo(
    folder: Annotated[Path | None, typer.Option("--folder", help="The shop's YAML.")] = None,
) -> None:
    """Run the shop: policy, refusal, canary and failures, on this machine, in about a minute."""
    from penstock.cli.demo import run

    _exit(run(folder))
