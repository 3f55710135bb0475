"""Whether what the chart installs runs: controllers, agents, Envoys, their versions and keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509

from penstock.cli.checks.finding import Check, Finding, shorten
from penstock.cli.checks.observed import Cluster, Json

CONTROLLERS = Check("PC-CTL-001", "controllers")
SPREAD = Check("PC-CTL-002", "controllers' nodes")
WRITER = Check("PC-CTL-003", "writer of statuses")
AGENTS = Check("PC-AGT-001", "agents")
ENVOYS = Check("PC-ENV-001", "Envoy")
CNI = Check("PC-CNI-001", "CNI plugin")
VERSIONS = Check("PC-VER-001", "versions")
AUTHORITY = Check("PC-CRT-001", "certificate authority")

COMPONENT = "app.kubernetes.io/component"
NAME = "app.kubernetes.io/name"
VERSION = "app.kubernetes.io/version"
SOON = timedelta(days=30)
_LEASE_SECONDS = 60
_REPLICAS = 2
"""As the chart has it."""
INSTALL = "install the chart: helm install penstock deploy/helm/penstock"


def workloads(cluster: Cluster, own_version: str, now: datetime) -> Iterator[Finding]:
    """Judge what the chart installs.

    Args:
        cluster: as it was seen.
        own_version: of this command.
        now: with a time zone.
    """
    if not cluster.is_installed:
        yield _not_installed(cluster)
        return
    yield from _controllers(cluster)
    yield _writer(cluster, now)
    yield _on_every_node(cluster, AGENTS, "agent")
    yield _on_every_node(cluster, ENVOYS, "envoy")
    yield _cni(cluster)
    yield _versions(cluster, own_version)
    yield _authority(cluster, now)


def pods_of(cluster: Cluster, component: str) -> list[Json]:
    """Return the pods of one of our workloads, those that end left out."""
    return [
        one
        for one in cluster["pods"].items
        if (one["metadata"].get("labels") or {}).get(COMPONENT) == component
        and "deletionTimestamp" not in one["metadata"]
    ]


def is_ready(pod: Json) -> bool:
    """Return whether the condition Ready is True."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def why_not_ready(pod: Json) -> str:
    """Return "name: reason", from the first container that says something."""
    phase = (pod.get("status") or {}).get("phase", "Unknown")
    return f"{pod['metadata']['name']}: {_reason(pod) or f'{phase}, not ready'}"


def _reason(pod: Json) -> str:
    """Return why a container of a pod does not run; "" if none says so."""
    status = pod.get("status") or {}
    every = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    states = (state for one in every for state in (one.get("state") or {}).values())
    found = (state["reason"] for state in states if state.get("reason"))
    return next((str(one) for one in found if one != "Completed"), "")


def _next_step(cluster: Cluster, pod: Json) -> str:
    """Return the command that tells why a pod is not ready: of one that never ran, no log does."""
    name, reason = pod["metadata"]["name"], _reason(pod)
    if reason in ("CrashLoopBackOff", "Error"):
        return f"{_logs(cluster, name)} --previous"
    if (pod.get("status") or {}).get("phase") == "Running" and not reason:
        return _logs(cluster, name)
    return f"kubectl -n {cluster.namespace} describe pod {name}"


def leaves(agent: Json) -> bool:
    """Return whether an agent's pod takes away what agents left on its node."""
    words: list[str] = agent["spec"]["containers"][0].get("args") or []
    return words[:1] == ["leave"]


def nobody_serves(cluster: Cluster) -> bool:
    """Return whether no agent is there that would enforce or serve anything."""
    if cluster["pods"].refused:
        return False
    return all(leaves(one) for one in pods_of(cluster, "agent"))


def _not_installed(cluster: Cluster) -> Finding:
    found = f"Penstock is not installed in {cluster.namespace}"
    if cluster.elsewhere:
        return CONTROLLERS.fail(found, f"it is in {cluster.elsewhere}: -n {cluster.elsewhere}")
    hint = f"{INSTALL} -n {cluster.namespace} --create-namespace"
    return CONTROLLERS.fail(found, hint)


def _controllers(cluster: Cluster) -> Iterator[Finding]:
    pods = cluster["pods"]
    if pods.refused:
        yield CONTROLLERS.skip(f"pods of {cluster.namespace} cannot be read: {pods.refused}")
        return
    found = pods_of(cluster, "controller")
    deployment = _deployment(cluster)
    wanted = len(found) if deployment is None else deployment["spec"].get("replicas", 1)
    if not found or not wanted:
        yield _no_controllers(cluster, deployment, wanted)
        return
    ready = [one for one in found if is_ready(one)]
    lame = [one for one in found if not is_ready(one)]
    waiting = [why_not_ready(one) for one in lame]
    hint = _next_step(cluster, (lame or found)[0])
    if deployment is not None and wanted > len(found):
        name = deployment["metadata"]["name"]
        waiting.append(f"Deployment {name} lacks {wanted - len(found)} of its pods")
        hint = f"kubectl -n {cluster.namespace} describe deploy/{name}"
    text = f"{len(ready)} of {max(wanted, len(found))} ready"
    if waiting:
        judge = CONTROLLERS.warn if ready else CONTROLLERS.fail
        yield judge(f"{text}; {shorten(waiting)}", hint, waiting)
    else:
        yield CONTROLLERS.ok(text)
    yield _spread(cluster, ready)


def _deployment(cluster: Cluster) -> Json | None:
    """Return the Deployment that is labelled as the chart does it."""
    for one in cluster["deployments"].items:
        if (one["metadata"].get("labels") or {}).get(NAME) == "penstock-controller":
            return one
    return None


def _no_controllers(cluster: Cluster, deployment: Json | None, wanted: int) -> Finding:
    place = cluster.namespace
    if deployment is None:
        hint = f"{INSTALL} -n {place}, or name its namespace with -n"
        return CONTROLLERS.fail(f"none in {place}", hint)
    name = deployment["metadata"]["name"]
    text = f"Deployment {name} in {place} has"
    if not wanted:
        hint = f"kubectl -n {place} scale deploy/{name} --replicas={_REPLICAS}"
        return CONTROLLERS.fail(f"{text} 0 replicas", hint)
    hint = f"kubectl -n {place} describe deploy/{name}"
    return CONTROLLERS.fail(f"{text} none of the {wanted} pods that it wants", hint)


def _spread(cluster: Cluster, ready: Sequence[Json]) -> Finding:
    nodes = {one["spec"].get("nodeName", "") for one in ready}
    if len(ready) > 1 and len(nodes) == 1:
        return SPREAD.warn(
            f"all on {next(iter(nodes))}; while it is away nothing changes",
            "when a second node has room, delete one of them: "
            f"kubectl -n {cluster.namespace} delete pod {ready[0]['metadata']['name']}",
        )
    if len(ready) < 2:  # noqa: PLR2004  # one and several differ
        return SPREAD.warn(
            f"{len(ready)} ready: while it is away nothing changes",
            "set controller.replicas to 2 or more",
        )
    return SPREAD.ok(", ".join(sorted(nodes)))


def _writer(cluster: Cluster, now: datetime) -> Finding:
    leases = cluster["leases"]
    if leases.refused:
        return WRITER.skip(f"leases cannot be read: {leases.refused}")
    lease = _named(leases.items, "penstock-status")
    spec = (lease or {}).get("spec") or {}
    holder, renewed = spec.get("holderIdentity") or "", spec.get("renewTime") or ""
    if not holder:
        return WRITER.fail(
            "nobody holds the Lease penstock-status",
            _logs(cluster, "deployment/penstock-controller"),
        )
    age = (now - datetime.fromisoformat(renewed)).total_seconds() if renewed else 0.0
    if age > _LEASE_SECONDS:
        return WRITER.warn(
            f"{holder} renewed its Lease {age:.0f} s ago",
            _logs(cluster, "deployment/penstock-controller"),
        )
    return WRITER.ok(holder)


def _on_every_node(cluster: Cluster, check: Check, component: str) -> Finding:
    if cluster["pods"].refused or cluster["nodes"].refused:
        return check.skip(cluster["pods"].refused or cluster["nodes"].refused)
    nodes = {one["metadata"]["name"] for one in cluster["nodes"].items}
    found = {one["spec"].get("nodeName", ""): one for one in pods_of(cluster, component)}
    leaving = sorted(name for name, one in found.items() if leaves(one))
    if leaving:
        text = f"nothing is enforced or served on {shorten(leaving)}: agents leave"
        hint = "helm upgrade with agent.leave=false, or helm uninstall"
        return check.fail(text, hint, leaving)
    lame = [one for one in found.values() if not is_ready(one)]
    bad = [why_not_ready(one) for one in lame]
    bad += [f"{name}: no pod" for name in sorted(nodes - set(found))]
    text = f"ready on {len(nodes) - len(bad)} of {len(nodes)} nodes"
    if not bad:
        return check.ok(text)
    hint = f"kubectl -n {cluster.namespace} describe daemonset/penstock-{component}"
    if lame:
        hint = _next_step(cluster, lame[0])
        if not _reason(lame[0]):  # it runs, so that it can be asked
            hint = f"{hint}; on the node: {on_node(cluster)}"
    return check.fail(f"{text}; {shorten(bad)}", hint, bad)


def _cni(cluster: Cluster) -> Finding:
    """Judge by readiness: an agent is not ready before the plugin is where it belongs."""
    agents = pods_of(cluster, "agent")
    if not agents:
        return CNI.skip("there are no agents")
    keeping = [one for one in agents if captures(one)]
    if not keeping:
        return CNI.warn(
            "taken away (agent.leave=true): no pod is captured",
            "helm upgrade with agent.leave=false, or helm uninstall",
        )
    bad = sorted(str(one["spec"].get("nodeName", "?")) for one in keeping if not is_ready(one))
    if bad:
        return CNI.warn(f"not known of {shorten(bad)}", f"on the node: {on_node(cluster)}", bad)
    return CNI.ok(f"kept installed on {len(keeping)} nodes")


def captures(agent: Json) -> bool:
    """Return whether an agent's pod keeps the CNI plugin, which ones that leave do not."""
    words = agent["spec"]["containers"][0].get("args") or []
    return any(str(word).startswith("--cni-conf-dir") for word in words)


def _versions(cluster: Cluster, own_version: str) -> Finding:
    running: dict[str, set[str]] = {}
    for component in ("controller", "agent"):
        for pod in pods_of(cluster, component):
            labels = pod["metadata"].get("labels") or {}
            image = pod["spec"]["containers"][0].get("image", "")
            running.setdefault(f"{labels.get(VERSION, '?')} ({image})", set()).add(component)
    if not running:
        return VERSIONS.skip("nothing of ours runs")
    if len(running) > 1:
        text = "; ".join(f"{'+'.join(sorted(who))} {what}" for what, who in sorted(running.items()))
        return VERSIONS.warn(
            text, "finish the upgrade: kubectl rollout status; controllers first, then agents"
        )
    only = next(iter(running))
    if not only.startswith(f"{own_version} "):
        return VERSIONS.warn(
            f"{only}, this command {own_version}", "use the command of the version that runs"
        )
    return VERSIONS.ok(only)


def _authority(cluster: Cluster, now: datetime) -> Finding:
    maps = cluster["configmaps"]
    if maps.refused:
        return AUTHORITY.skip(f"ConfigMaps cannot be read: {maps.refused}")
    held = _named(maps.items, "penstock-ca")
    if held is None:
        return AUTHORITY.fail(
            "ConfigMap penstock-ca is missing: no agent can join",
            "a controller makes it when it starts: "
            + _logs(cluster, "deployment/penstock-controller"),
        )
    try:
        pem = str((held.get("data") or {}).get("ca.crt", "")).encode()
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        return AUTHORITY.fail(f"ca.crt of ConfigMap penstock-ca: {error}", _CA_AGAIN)
    newest = max(one.not_valid_after_utc for one in certificates)
    left = newest - now.astimezone(UTC)
    text = f"{len(certificates)} certificate(s), good until {newest:%Y-%m-%d}"
    if left <= timedelta():
        return AUTHORITY.fail(f"{text}: nobody trusts anybody any more", _CA_AGAIN)
    if left < SOON:
        return AUTHORITY.warn(f"{text}: {left.days} days left", _CA_AGAIN)
    return AUTHORITY.ok(text)


_CA_AGAIN = (
    "controllers replace it by themselves; if they did not, their logs say why:"
    " kubectl logs deployment/penstock-controller"
)


def _named(items: Sequence[Json], name: str) -> Json | None:
    return next((one for one in items if one["metadata"]["name"] == name), None)


def _logs(cluster: Cluster, what: str) -> str:
    return f"kubectl -n {cluster.namespace} logs {what}"


def on_node(cluster: Cluster) -> str:
    """Return the command that looks at one node."""
    return f"kubectl -n {cluster.namespace} exec PENSTOCK-AGENT-POD -- penstock check --node"
