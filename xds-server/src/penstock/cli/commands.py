"""The commands and their options. What a command does is imported when it runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.formats import Format, LintFormat
from penstock.meta.paths import DEFAULT_RUN_DIR, RunPaths


def default_run_dir() -> Path:
    """Return the run folder of the user's instance: /run/penstock for root."""
    if os.geteuid() == 0:
        return DEFAULT_RUN_DIR
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/{os.geteuid()}") / "penstock"  # noqa: S108 - as for XDG_RUNTIME_DIR


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

RUN_DIR = default_run_dir()
RunDir = Annotated[
    Path, typer.Option("--run-dir", envvar="PENSTOCK_RUN_DIR", help="Run folder of the instance.")
]
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
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Look in all namespaces.")
    ] = False,
) -> None:
    """Show objects with their conditions."""
    from penstock.cli.get import get as run

    where = None if all_namespaces or not namespace else namespace
    _exit(run(RunPaths(run_dir.resolve()), kind, name, namespace=where, form=output))


@app.command()
def translate(
    folder: Annotated[Path, typer.Option("--file", "-f", metavar="DIR", help="Folder or file.")],
    node: Annotated[str, typer.Option("--node", help="Name of the node.")] = "",
    output: Output = Format.JSON,
) -> None:
    """Show the resources that YAML becomes; needs no rights and no network."""
    from penstock.cli.translate import translate as run

    _exit(run(folder, output, node))


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(help="Files and folders.")],
    output: Annotated[LintFormat, typer.Option("--output", "-o", help="How to show it.")] = (
        LintFormat.TEXT
    ),
) -> None:
    """Find mistakes in YAML; exit status 1 if something is an error."""
    from penstock.cli.lint import lint as run

    _exit(run(files, output))


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
    cni_conf_dir: Annotated[
        Path | None, typer.Option("--cni-conf-dir", help="Of the node's container runtime.")
    ] = None,
    *,
    node: Annotated[bool, typer.Option("--node", help="Check this node and its agent.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only what is not ok.")] = False,
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
    _exit(run(where, output, quiet=quiet))


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


@app.command(hidden=True)
def controller(
    source: Annotated[
        list[Path] | None, typer.Option("--source", help="Folder or file; repeatable.")
    ] = None,
    run_dir: RunDir = RUN_DIR,
    published_offset: Annotated[int, typer.Option("--published-offset")] = 8000,
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", help="Read from this API server instead.")
    ] = None,
    context: Annotated[str, typer.Option("--context", help="Of the kubeconfig.")] = "",
    *,
    lease_namespace: Annotated[
        str, typer.Option("--lease-namespace", help="Of the Lease whose holder writes statuses.")
    ] = "",
    in_cluster: Annotated[
        bool, typer.Option("--in-cluster", help="Read from the API server of this pod instead.")
    ] = False,
    only_gateways: Annotated[bool, typer.Option("--only-gateways")] = False,
    log_json: Annotated[bool, typer.Option("--log-json")] = False,
) -> None:
    """Compile objects and serve them to agents; `penstock up` starts it."""
    from penstock.cli.parts import ClusterOptions, run_controller

    run_controller(
        RunPaths(run_dir.resolve()),
        source or [],
        cluster=ClusterOptions(
            kubeconfig=kubeconfig,
            context=context,
            in_cluster=in_cluster,
            lease_namespace=lease_namespace,
        ),
        published_offset=published_offset,
        only_gateways=only_gateways,
        log_json=log_json,
    )


@app.command(hidden=True)
def agent(
    run_dir: RunDir = RUN_DIR,
    node: Annotated[str, typer.Option("--node", help="Name of the node.")] = "lab",
    *,
    only_gateways: Annotated[bool, typer.Option("--only-gateways")] = False,
    stop_envoy: Annotated[bool, typer.Option("--stop-envoy")] = False,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", help="Envoy's worker threads.")
    ] = None,
    log_json: Annotated[bool, typer.Option("--log-json")] = False,
) -> None:
    """Serve one Envoy and steer pods into it; `penstock up` starts it."""
    from penstock.cli.parts import run_agent

    run_agent(
        RunPaths(run_dir.resolve()),
        node,
        only_gateways=only_gateways,
        stop_envoy=stop_envoy,
        concurrency=concurrency,
        log_json=log_json,
    )


@app.command(hidden=True)
def demo(
    folder: Annotated[Path | None, typer.Option("--folder", help="The shop's YAML.")] = None,
) -> None:
    """Run the shop: policy, refusal, canary and failures, on this machine, in about a minute."""
    from penstock.cli.demo import run

    _exit(run(folder))
