"""What Penstock needs from a cluster: an API server, CRDs and rights."""

from __future__ import annotations

import re
from collections.abc import Iterator

from penstock.cli.checks.finding import Check, Finding, shorten
from penstock.cli.checks.observed import Cluster, Json, Review
from penstock.compiler.kinds import KINDS, STATUS_KINDS
from penstock.core.objects import Object
from penstock.gatewayapi.versions import OLDEST
from penstock.sources.kubernetes.requests import resource_of

API = Check("PC-API-001", "API server")
GATEWAY_API = Check("PC-CRD-001", "Gateway API CRDs")
POLICY_CRD = Check("PC-CRD-002", "CiliumNetworkPolicy CRD")
RIGHTS = Check("PC-RBA-001", "rights of our accounts")

OLDEST_KUBERNETES = (1, 30)
_GATEWAY_GROUP, _POLICY_GROUP = "gateway.networking.k8s.io", "cilium.io"
_NEEDED = ("gatewayclasses", "gateways", "httproutes", "referencegrants")
"""Without these there is nothing to serve."""
_WANTED = tuple(
    resource_of(kind.kind)
    for kind in KINDS
    if kind.api_versions[0].startswith(f"{_GATEWAY_GROUP}/")
    and resource_of(kind.kind) not in _NEEDED
)
"""Without one of these its kind is not served, and nothing else is missed."""
_GET_CRDS = (
    "install standard-install.yaml of a release of Gateway API: kubectl apply --server-side -f FILE"
)
_CHANNEL = f"{_GATEWAY_GROUP}/channel"
_BUNDLE = f"{_GATEWAY_GROUP}/bundle-version"


def _of_kind(kind: type[Object], verbs: tuple[str, ...], below: str = "") -> Iterator[Review]:
    group = kind.api_versions[0].rpartition("/")[0]
    for verb in verbs:
        yield Review("penstock-controller", verb, group, f"{resource_of(kind.kind)}{below}")


REVIEWS = (
    *(one for kind in KINDS for one in _of_kind(kind, ("list", "watch"))),
    *(
        one
        for kind in KINDS
        if kind.kind in STATUS_KINDS
        for one in (*_of_kind(kind, ("get",)), *_of_kind(kind, ("update",), "/status"))
    ),
    Review("penstock-controller", "create", "authentication.k8s.io", "tokenreviews"),
    Review("penstock-controller", "create", "coordination.k8s.io", "leases", own=True),
    Review("penstock-agent", "list", "", "pods"),
    Review("penstock-agent", "watch", "", "pods"),
    Review("penstock-agent", "list", "discovery.k8s.io", "endpointslices", own=True),
)
"""What our accounts must be allowed; the whole list is the chart's."""


def platform(cluster: Cluster) -> Iterator[Finding]:
    """Judge what is not ours."""
    yield _api(cluster)
    if cluster.unreachable:
        return
    yield _gateway_api(cluster)
    if cluster.is_installed:
        yield _policy_crd(cluster)
        yield _rights(cluster)


def _api(cluster: Cluster) -> Finding:
    if cluster.unreachable:
        return API.fail(
            f"{cluster.server}: {cluster.unreachable}",
            "look at the server and user of the kubeconfig, or name another with --kubeconfig",
        )
    found = f"{cluster.server} answers, Kubernetes {cluster.version or 'of unknown version'}"
    if cluster.version and version_of(cluster.version) < OLDEST_KUBERNETES:
        oldest = ".".join(map(str, OLDEST_KUBERNETES))
        return API.fail(found, f"Penstock needs Kubernetes {oldest} or newer")
    return API.ok(found)


def _gateway_api(cluster: Cluster) -> Finding:
    crds = cluster["crds"]
    if crds.refused:
        return GATEWAY_API.skip(f"CRDs cannot be read: {crds.refused}", "allow `list` on them")
    known = {one["spec"]["names"]["plural"]: one for one in crds.items if _is_gateway(one)}
    missing = [name for name in _NEEDED if name not in known]
    if missing:
        return GATEWAY_API.fail(f"missing: {', '.join(missing)}", _GET_CRDS)
    notes = known["gateways"]["metadata"].get("annotations") or {}
    bundle, channel = notes.get(_BUNDLE, ""), notes.get(_CHANNEL, "")
    found = f"{bundle or 'unknown version'}, {channel or 'unknown'} channel"
    versions = {
        (one["metadata"].get("annotations") or {}).get(_BUNDLE, "") for one in known.values()
    }
    if len(versions) > 1:
        return GATEWAY_API.warn(
            f"of several versions: {', '.join(sorted(versions))}",
            f"{_GET_CRDS}; all of one release",
        )
    return _of_one_release(bundle, found, [name for name in _WANTED if name not in known])


def _of_one_release(bundle: str, found: str, unserved: list[str]) -> Finding:
    if not bundle:
        return GATEWAY_API.warn(found, f"nobody says which release they are of; {_GET_CRDS}")
    if version_of(bundle) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return GATEWAY_API.fail(found, f"Penstock needs v{oldest} or newer; {_GET_CRDS}")
    if unserved:
        text = f"{found}; missing, so not served: {', '.join(unserved)}"
        return GATEWAY_API.warn(text, _GET_CRDS)
    return GATEWAY_API.ok(found)


def _is_gateway(crd: Json) -> bool:
    return bool(crd["spec"]["group"] == _GATEWAY_GROUP)


def _policy_crd(cluster: Cluster) -> Finding:
    crds = cluster["crds"]
    if crds.refused:
        return POLICY_CRD.skip(f"CRDs cannot be read: {crds.refused}", "allow `list` on them")
    for one in crds.items:
        if one["metadata"]["name"] == f"ciliumnetworkpolicies.{_POLICY_GROUP}":
            annotations = one["metadata"].get("annotations") or {}
            ours = annotations.get("helm.sh/resource-policy") == "keep"
            return POLICY_CRD.ok("installed by the chart" if ours else "installed by somebody else")
    return POLICY_CRD.fail(
        "missing; no policy can be written", "install the chart with policyCrd.install=true"
    )


def _rights(cluster: Cluster) -> Finding:
    if not cluster.rights:
        return RIGHTS.skip(
            "we may not ask", "run the check as somebody who may create subjectaccessreviews"
        )
    missing = sorted(right for right, allowed in cluster.rights.items() if not allowed)
    if missing:
        return RIGHTS.fail(
            f"not allowed: {shorten(missing)}",
            "install the chart's RBAC: helm upgrade; nothing is served before controllers may read",
            missing,
        )
    return RIGHTS.ok(f"{len(cluster.rights)} that are needed are there")


def version_of(text: str) -> tuple[int, ...]:
    """Return major and minor of "v1.37.2"; () if there are none."""
    found = re.match(r"v?(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else ()
