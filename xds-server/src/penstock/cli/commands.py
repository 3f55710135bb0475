"""The commands and their options. What a command does is imported when it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from typing_extensions import override

from penstock.cli.formats import Format, LintFormat, Target
from penstock.cli.nodes import agent, cni, leave
from penstock.cli.options import (
    PATH,
    context,
    kubeconfig,
    logging,
    namespace,
    one_of,
    output,
    run_dir,
    system_namespace,
)
from penstock.meta.paths import RunPaths
from penstock.meta.version import VERSION

WIDTH = 120
"""Columns of help on terminals that are as wide."""
_container = click.option("--container", "-c", default="", help="Container; the first one.")


class _InOrder(click.Group):
    """A group that shows its commands in the order in which they are written here."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, name="penstock", context_settings={"max_content_width": WIDTH})
@click.version_option(VERSION, message="%(version)s", help="As `version`.")
def app() -> None:
    """A sidecar-free L7 service mesh; with `penstock up`, a whole one on this machine."""


app.add_command(agent)
app.add_command(leave)
app.add_command(cni)


@app.command()
@click.argument("folder", metavar="DIR", type=PATH, help="Folder of Kubernetes YAML.")
@run_dir
@click.option("--only-gateways", is_flag=True, help="Serve Gateways only; needs no rights.")
def up(*, folder: Path, paths: RunPaths, only_gateways: bool) -> None:
    """Run the pods of a folder of YAML, and the mesh around them, until Ctrl-C."""
    from penstock.cli.up import up as run

    sys.exit(run(folder, paths, only_gateways=only_gateways))


@app.command()
@run_dir
def down(*, paths: RunPaths) -> None:
    """End an instance and remove what one that was killed left behind."""
    from penstock.cli.down import down as run

    sys.exit(run(paths))


@app.command()
@run_dir
@output
def status(*, paths: RunPaths, output: Format) -> None:
    """Show what runs: processes, pods, Gateways, problems."""
    from penstock.cli.status import status as run

    sys.exit(run(paths, output))


@app.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("pod", help="Name, beginning of a name, or deploy/NAME.")
@click.argument("command", nargs=-1, required=True, help="Program and arguments, after --.")
@run_dir
@namespace
@_container
def execute(
    *, pod: str, command: tuple[str, ...], paths: RunPaths, namespace: str, container: str
) -> None:
    """Run a command inside a pod; its exit status becomes this one's."""
    from penstock.cli.inside import execute as run

    sys.exit(run(paths, pod, list(command), namespace=namespace, container=container))


@app.command()
@click.argument("pod", help="Name, beginning of a name, or deploy/NAME.")
@run_dir
@namespace
@_container
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines.")
def logs(*, pod: str, paths: RunPaths, namespace: str, container: str, follow: bool) -> None:
    """Print what a pod's process wrote."""
    from penstock.cli.inside import logs as run

    sys.exit(run(paths, pod, namespace=namespace, container=container, follow=follow))


@app.command()
@click.argument("kind", help="HTTPRoute, gw, cnp, po, svc, …")
@click.argument("name", default="", help="Name of one object.")
@run_dir
@namespace
@output
@click.option("--file", "-f", metavar="DIR", type=PATH, help="Folder or file; nothing need run.")
@click.option("--all-namespaces", "-A", is_flag=True, help="Look in all namespaces.")
def get(
    *,
    kind: str,
    name: str,
    paths: RunPaths,
    namespace: str,
    output: Format,
    file: Path | None,
    all_namespaces: bool,
) -> None:
    """Show objects with their conditions."""
    from penstock.cli.get import get as run

    where = None if all_namespaces or not namespace else namespace
    sys.exit(run(paths, kind, name, namespace=where, form=output, files=file))


@app.command()
@click.option(
    "--file", "-f", "folder", metavar="DIR", type=PATH, required=True, help="Folder or file."
)
@click.option("--node", default="", help="Name of the node.")
@click.option(
    "--output", "-o", type=one_of(Format), default=Format.JSON.value, show_default=True,
    help="How to show it.",
)  # fmt: skip
@click.option(
    "--to", type=one_of(Target), default=Target.XDS.value, show_default=True,
    help="Resources, or statuses.",
)  # fmt: skip
def translate(*, folder: Path, node: str, output: Format, to: Target) -> None:
    """Show the resources, or the statuses, that YAML becomes; needs no rights and no network."""
    from penstock.cli.translate import statuses
    from penstock.cli.translate import translate as run

    sys.exit(run(folder, output, node) if to is Target.XDS else statuses(folder, output))


@app.command()
@click.argument("files", nargs=-1, required=True, type=PATH, help="Files and folders.")
@click.option(
    "--output", "-o", type=one_of(LintFormat), default=LintFormat.TEXT.value, show_default=True,
    help="How to show it.",
)  # fmt: skip
@click.option(
    "--crds", metavar="DIR", type=PATH, help="CRDs: judge as an API server with them would."
)
def lint(*, files: tuple[Path, ...], output: LintFormat, crds: Path | None) -> None:
    """Find mistakes in YAML; exit status 1 if something is an error."""
    from penstock.cli.lint import lint as run

    sys.exit(run(files, output, crds))


@app.command()
@run_dir
@click.option("--last", type=int, default=-1, help="How many past flows; 20, with -f 0.")
@click.option("--pod", default="", help="Source or destination, its beginning.")
@click.option("--verdict", default="", help="ALLOWED, DENIED, ERROR.")
@output
@click.option("--follow", "-f", is_flag=True, help="Go on with new ones.")
def observe(
    *, paths: RunPaths, last: int, pod: str, verdict: str, output: Format, follow: bool
) -> None:
    """Show one line for each request and each denied connection, and which line of YAML decided."""
    from penstock.cli.observe import FOLLOW_LAST, LAST, Wanted
    from penstock.cli.observe import observe as run

    count = last if last >= 0 else FOLLOW_LAST if follow else LAST
    wanted = Wanted(pod=pod, verdict=verdict)
    sys.exit(run(paths, wanted, last=count, follow=follow, form=output))


@app.command()
@run_dir
@kubeconfig
@context
@system_namespace
@output
@click.option("--cni-conf-dir", type=PATH, help="Of the node's container runtime.")
@click.option("--node", is_flag=True, help="Check this node and its agent.")
@click.option("--quiet", "-q", is_flag=True, help="Only what is not ok.")
@click.option("--all", "every", is_flag=True, help="Name every object, not the first few.")
def check(
    *,
    paths: RunPaths,
    kubeconfig: Path | None,
    context: str,
    namespace: str,
    output: Format,
    cni_conf_dir: Path | None,
    node: bool,
    quiet: bool,
    every: bool,
) -> None:
    """Check a cluster, a node or this machine; exit status 1 if something fails."""
    from penstock.cli.check import Where
    from penstock.cli.check import check as run

    where = Where(
        node=node,
        paths=paths,
        cni_folder=cni_conf_dir,
        kubeconfig=kubeconfig,
        context=context,
        namespace=namespace,
    )
    sys.exit(run(where, output, quiet=quiet, every=every))


@app.command()
def version() -> None:
    """Print the version of this command; `penstock check` tells that of a cluster."""
    click.echo(VERSION)


@app.command()
@run_dir
@kubeconfig
@context
@system_namespace
@click.option("--file", "-f", type=PATH, help="To write; - is standard output.")
@click.option("--node", is_flag=True, help="Of this node, not of a cluster.")
@click.option("--dry-run", is_flag=True, help="Tell what would be taken.")
def sysdump(
    *,
    paths: RunPaths,
    kubeconfig: Path | None,
    context: str,
    namespace: str,
    file: Path | None,
    node: bool,
    dry_run: bool,
) -> None:
    """Gather what others need to understand an installation, without its secrets, in one file."""
    from penstock.cli.check import Where
    from penstock.cli.sysdump.command import sysdump as run

    where = Where(
        node=node, paths=paths, kubeconfig=kubeconfig, context=context, namespace=namespace
    )
    sys.exit(run(where, file, dry_run=dry_run))


@app.group(cls=_InOrder)
def proxy() -> None:
    """What Envoy runs, beside what was meant and what it accepted."""


def _listing(what: str, paths: RunPaths, output: Format) -> None:
    from penstock.cli.proxy import listing

    sys.exit(listing(paths, what, output))


@proxy.command()
@run_dir
@output
def listeners(*, paths: RunPaths, output: Format) -> None:
    """Show Envoy's listeners."""
    _listing("listeners", paths, output)


@proxy.command()
@run_dir
@output
def routes(*, paths: RunPaths, output: Format) -> None:
    """Show Envoy's routes, with the weights that are in force."""
    _listing("routes", paths, output)


@proxy.command()
@run_dir
@output
def clusters(*, paths: RunPaths, output: Format) -> None:
    """Show Envoy's clusters."""
    _listing("clusters", paths, output)


@proxy.command()
@run_dir
@output
def endpoints(*, paths: RunPaths, output: Format) -> None:
    """Show the endpoints of Envoy's clusters, with requests and failures."""
    _listing("endpoints", paths, output)


@proxy.command()
@run_dir
@output
def diff(*, paths: RunPaths, output: Format) -> None:
    """Show where Envoy differs from what is meant; exit status 1 if it does."""
    from penstock.cli.proxy import diff as run

    sys.exit(run(paths, output))


@app.group()
def migrate() -> None:
    """Write YAML of other APIs as YAML of the Gateway API."""


@migrate.command("ingress")
@click.argument("files", nargs=-1, required=True, type=PATH, help="Files and folders.")
def migrate_ingress(*, files: tuple[Path, ...]) -> None:
    """Write the equal of Ingresses; exit status 1 if something has no equal, told on stderr."""
    from penstock.cli.migrate import migrate_ingress as run

    sys.exit(run(files))


@app.command(hidden=True)
@click.option("--source", type=PATH, multiple=True, help="Folder or file; repeatable.")
@run_dir
@click.option("--published-offset", type=int, default=8000)
@click.option("--kubeconfig", type=PATH, help="Read from this API server instead.")
@context
@click.option("--in-cluster", is_flag=True, help="Read from the API server of this pod instead.")
@click.option("--lease-namespace", default="", help="Of the Lease whose holder writes statuses.")
@click.option("--ads-address", default="", help="Serve nodes there, as 0.0.0.0:15012.")
@click.option("--join-address", default="", help="Let nodes join there; port 15013 beside ADS.")
@click.option("--metrics-address", default="", help="Health and metrics, as 0.0.0.0:15014.")
@click.option(
    "--trust-domain", default="cluster.local", show_default=True,
    help="Of the names in certificates.",
)  # fmt: skip
@click.option("--serving-name", multiple=True, help="One more DNS name; repeatable.")
@click.option("--ca-dir", type=PATH, help="Keep the CA there instead of in a Secret.")
@click.option(
    "--join-audience", default="penstock", show_default=True,
    help="Of the tokens with which nodes join.",
)  # fmt: skip
@click.option("--join-service-account", default="", help="NAMESPACE/NAME of those tokens.")
@click.option("--join-token-file", type=PATH, help="A token that lets any node join.")
@click.option(
    "--drain-seconds", type=float, default=5.0, show_default=True,
    help="From SIGTERM to the end of streams.",
)  # fmt: skip
@click.option(
    "--gateway-addresses", default="nodes", show_default=True,
    help="nodes, loadbalancer, or pool:192.0.2.0/26 (cluster).",
)  # fmt: skip
@click.option("--system-namespace", default="", help="Of Penstock's own pods (cluster).")
@click.option("--system-authorities", type=PATH, help="PEM; else where this system keeps them.")
@click.option("--only-gateways", is_flag=True)
@logging
def controller(
    *,
    source: tuple[Path, ...],
    paths: RunPaths,
    published_offset: int,
    kubeconfig: Path | None,
    context: str,
    in_cluster: bool,
    lease_namespace: str,
    ads_address: str,
    join_address: str,
    metrics_address: str,
    trust_domain: str,
    serving_name: tuple[str, ...],
    ca_dir: Path | None,
    join_audience: str,
    join_service_account: str,
    join_token_file: Path | None,
    drain_seconds: float,
    gateway_addresses: str,
    system_namespace: str,
    system_authorities: Path | None,
    only_gateways: bool,
    log_level: str,
    log_json: bool,
) -> None:
    """Compile objects and serve them to agents; `penstock up` starts it."""
    from penstock.cli.parts import ClusterOptions, NetworkOptions, run_controller

    run_controller(
        paths,
        list(source),
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
            names=serving_name,
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
@click.option("--folder", type=PATH, help="The shop's YAML.")
def demo(*, folder: Path | None) -> None:
    """Run the shop: policy, refusal, canary and failures, on this machine, in about a minute."""
    from penstock.cli.demo import run

    sys.exit(run(folder))
