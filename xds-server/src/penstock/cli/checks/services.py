"""Who answers for Services: kube-proxy or Penstock, and where nobody does."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.cli.checks.finding import Check, Finding, shorten
from penstock.cli.checks.observed import Cluster, Json, name_of
from penstock.cli.checks.workloads import INSTALL, captures, pods_of
from penstock.gatewayapi.generated import PROXIED_BY

KUBE_PROXY = Check("PC-KPX-001", "kube-proxy")
SERVICES = Check("PC-SVC-001", "Services")


def services(cluster: Cluster) -> Iterator[Finding]:
    """Judge who answers for Services."""
    system = cluster["kube-system"]
    if system.refused:
        found = f"DaemonSets of kube-system cannot be read: {system.refused}"
        yield KUBE_PROXY.skip(found)
    elif any("kube-proxy" in one["metadata"]["name"] for one in system.items):
        yield KUBE_PROXY.warn(
            "runs; for pods that are captured Penstock answers for Services before it",
            "nothing to do; it can be removed once every node has an agent",
        )
    else:
        yield _without_kube_proxy(cluster)
        if cluster.is_installed:
            yield from _unserved(cluster)


def _without_kube_proxy(cluster: Cluster) -> Finding:
    elsewhere = cluster.elsewhere
    if not cluster.is_installed and elsewhere:
        return KUBE_PROXY.skip(f"does not run; Penstock is in {elsewhere}", f"-n {elsewhere}")
    pods = cluster["pods"]
    if pods.refused:
        return KUBE_PROXY.skip(f"does not run; whether agents do is not known: {pods.refused}")
    if any(map(captures, pods_of(cluster, "agent"))):
        return KUBE_PROXY.ok("does not run; Penstock serves Services")
    hint = (
        "PC-AGT-001 and PC-CNI-001 tell what to do"
        if cluster.is_installed
        else f"unless other programs do: {INSTALL} -n {cluster.namespace} --create-namespace"
    )
    return KUBE_PROXY.warn(
        "does not run, no agent of Penstock either: nobody serves Services yet", hint
    )


def _unserved(cluster: Cluster) -> Iterator[Finding]:
    """Tell of what only kube-proxy does."""
    listed = cluster["services"]
    if listed.refused:
        yield SERVICES.skip(f"Services cannot be read: {listed.refused}")
    bad = [f"{what} of {name_of(one)}" for one in listed.items for what in _places(one)]
    if bad:
        yield SERVICES.warn(
            f"Penstock does not answer at {shorten(bad)}",
            "for these kube-proxy is needed; or reach them by a Gateway or type LoadBalancer",
            bad,
        )


def _places(service: Json) -> Iterator[str]:
    """Yield where a Service is not served; its ClusterIP and addresses as LoadBalancer are."""
    if PROXIED_BY in (service["metadata"].get("labels") or {}):
        return  # Envoy listens at node ports of those of Gateways; others are not kube-proxy's
    spec = service["spec"]
    if spec.get("type") == "NodePort":
        for port in spec.get("ports") or []:
            yield f"node port {port.get('nodePort', '?')}"
    for address in spec.get("externalIPs") or []:
        yield f"external IP {address}"
