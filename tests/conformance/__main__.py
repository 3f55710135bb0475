"""`make conformance`: the official suite of Gateway API against a real cluster.

python -m conformance [--profiles GATEWAY-HTTP,…] [--quick] [--tests NAME,…] [--crds 1.7.0]
    [--keep] [--own]

It uses the cluster of `make cluster` if that runs, else one of its own that it removes at the end.
Results are kept in docs where all tests of the suite were run; where the CRDs are not its own, the
numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import msgspec
import yaml

from conformance import suite, table
from conformance.profile import CORE, SERVED, profiles_of
from conformance.quick import QUICK
from conformance.results import Outcome, Run, read
from conformance.suite import Options
from conformance.table import Explanations, Facts, OtherRun, ProfileResults
from support.cluster.cluster import Cluster, running
from support.cluster.errors import ClusterError
from support.cluster.install import install, install_crds
from support.cluster.plan import Plan
from support.kube import ROOT, MissingProgramError

DOCS = ROOT / "docs" / "conformance"
HERE = Path(__file__).parent
EXIT_FAILED = 1
OTHER_CRDS = "other-crds-"


def main(arguments: Sequence[str]) -> int:
    """Return the exit status: 0 if no test failed."""
    chosen = _parser().parse_args(arguments)
    profiles = tuple(chosen.profiles.split(","))
    only = QUICK if chosen.quick else tuple(filter(None, chosen.tests.split(",")))
    try:
        with _cluster(chosen.cluster, own=chosen.own) as cluster:
            if not chosen.installed:
                _say("installing Gateway API and Penstock")
                install_crds(cluster, chosen.crds)
                install(cluster)
            options = Options(
                profiles=profiles,
                report=cluster.state / "report.yaml",
                only=only,
                keep=chosen.keep,
                crds_mismatch=_crds(cluster) != suite.VERSION,
            )
            return _run(cluster, options)
    except (ClusterError, MissingProgramError) as error:
        sys.stderr.write(f"conformance: {error}\n")
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m conformance")
    parser.add_argument("--profiles", default=",".join(SERVED), help=f"of {', '.join(CORE)}")
    parser.add_argument("--quick", action="store_true", help="a fixed set of core tests")
    parser.add_argument("--tests", default="", help="only these, by their names in the suite")
    parser.add_argument("--crds", default=suite.VERSION, help="version of the CRDs")
    parser.add_argument("--keep", action="store_true", help="leave the suite's base objects")
    parser.add_argument("--installed", action="store_true", help="Penstock is on the cluster")
    parser.add_argument("--cluster", default="", help="name of a cluster that runs")
    parser.add_argument("--own", action="store_true", help="on a new cluster in any case")
    return parser


@contextlib.contextmanager
def _cluster(name: str, *, own: bool) -> Generator[Cluster]:
    cluster = Cluster(Plan(name=name) if name else Plan())
    if not own and cluster.is_up():
        yield cluster
    elif name:
        raise ClusterError(f"there is no cluster {name}; `make cluster` starts one")
    else:
        with running(Plan(name="conf"), _say, own_images=True) as found:
            yield found


def _crds(cluster: Cluster) -> str:
    """Return the version of the CRDs that the cluster has."""
    name = "gatewayclasses.gateway.networking.k8s.io"
    annotations = cluster.get("crd", name)["metadata"]["annotations"]
    return str(annotations["gateway.networking.k8s.io/bundle-version"]).removeprefix("v")


def _run(cluster: Cluster, options: Options) -> int:
    began = time.monotonic()
    options.report.unlink(missing_ok=True)
    log = cluster.state / "suite.log"
    with log.open("w") as file:
        run = read(_told(suite.output(cluster, options), file))
    seconds = round(time.monotonic() - began)
    report = yaml.safe_load(options.report.read_text()) if options.report.exists() else {}
    found = [table.results_of(one, run.results) for one in profiles_of(report, options.profiles)]
    _tell_failures(run, log)
    every = {one.name: one for profile in found for one in profile.results}
    if not options.only and report:
        facts = _facts(cluster, seconds)
        if options.crds_mismatch:
            _keep_other(table.other_run(facts, every.values()))
        else:
            _keep(cluster, options, found, facts)
    count = Counter(one.outcome for one in every.values())
    _write(table.last_line(count))
    return (
        0 if run.complete and not count[Outcome.FAILED] and count[Outcome.PASSED] else EXIT_FAILED
    )


def _keep_other(run: OtherRun) -> None:
    """Write what is kept of a run against other CRDs; the next page of the suite's own has it."""
    DOCS.mkdir(exist_ok=True)
    file = DOCS / f"{OTHER_CRDS}{run.facts.crds}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
    _say(f"written: {file.relative_to(ROOT)}")


def _told(lines: Iterable[str], log: TextIO) -> Iterator[str]:
    """Yield *lines*; write them to *log*, and say what tests end."""
    for line in lines:
        log.write(line)
        log.flush()
        if line.startswith("    --- ") and not line.startswith("    --- SKIP"):
            _write(line.strip().removeprefix("--- "))
        yield line


def _tell_failures(run: Run, log: Path) -> None:
    for result in run.results:
        for part in result.failures if result.outcome is Outcome.FAILED else ():
            _write(f"\n{result.name}/{part.name}", *part.output)
    if not run.complete:
        last = log.read_text(errors="replace").splitlines()[-40:]
        _write("\nthe suite did not come to an end:", *last)


def _keep(
    cluster: Cluster, options: Options, found: Sequence[ProfileResults], facts: Facts
) -> None:
    """Write what is kept in docs."""
    DOCS.mkdir(exist_ok=True)
    for one in found:
        (DOCS / f"{one.profile.name.lower()}.json").write_bytes(table.as_json(facts, one))
    (DOCS / f"report-v{suite.VERSION}.yaml").write_text(options.report.read_text())
    explanations = Explanations.read(HERE / "explanations.yaml")
    others = [
        msgspec.json.decode(file.read_bytes(), type=OtherRun)
        for file in sorted(DOCS.glob(f"{OTHER_CRDS}*.json"))
    ]
    DOCS.with_suffix(".md").write_text(table.page(facts, found, explanations, others))
    _say(f"written: {DOCS.with_suffix('.md').relative_to(ROOT)}; log: {cluster.state}/suite.log")


def _facts(cluster: Cluster, seconds: int) -> Facts:
    said = yaml.safe_load(cluster.kubectl("version", "-o", "json"))
    version = next(one for one in suite.implementation() if one.startswith("--version="))
    return Facts(
        suite=f"v{suite.VERSION}",
        crds=f"v{_crds(cluster)}",
        penstock=version.removeprefix("--version="),
        kubernetes=said["serverVersion"]["gitVersion"],
        date=dt.datetime.now(tz=dt.UTC).date().isoformat(),
        seconds=seconds,
    )


def _say(text: str) -> None:
    sys.stderr.write(f"conformance: {text}\n")


def _write(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
