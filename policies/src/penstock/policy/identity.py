"""Identity of workloads: the labels that policies see, and the number that the kernel sees.

Source: spec A.7, H.3 and design §7; reliability B-4 (crafted labels must not win).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping

from penstock.ir.policy import Reserved
from penstock.policy.selector import (
    CLUSTER_LABEL,
    K8S,
    NAMESPACE_LABEL,
    NAMESPACE_LABELS_PREFIX,
    RESERVED,
    SERVICE_ACCOUNT_LABEL,
)

FIRST_IDENTITY = 65536
LAST_IDENTITY = 2**31 - 1

PER_POD_LABELS = frozenset(
    {
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-completion-index",
        "controller-revision-hash",
        "controller-uid",
        "pod-template-generation",
        "pod-template-hash",
        "statefulset.kubernetes.io/pod-name",
    }
)
"""Labels that tell pods of one workload apart; they are no part of its identity."""

_OURS = ("io.kubernetes.", "io.cilium.")
"""Prefixes of labels that only the cluster may set; on a pod they are ignored."""

RESERVED_LABELS: Mapping[int, Mapping[str, str]] = {
    number: {f"{RESERVED}:{number.name.lower().replace('_', '-')}": ""}
    for number in Reserved
    if number is not Reserved.ANY
}
"""Labels of the identities that are not computed, for selectors as `reserved:ingress`."""


def identity_labels(
    *,
    namespace: str,
    pod_labels: Mapping[str, str],
    namespace_labels: Mapping[str, str],
    service_account: str,
    cluster: str,
) -> dict[str, str]:
    """Return the labels of a pod's identity, named with their source, in sorted order.

    Namespace, service account and cluster are facts of the cluster: pod labels of these names,
    or of any name that could be taken for one, are left out.
    """
    labels = {f"{K8S}:{key}": value for key, value in pod_labels.items() if is_identity_label(key)}
    for key, value in namespace_labels.items():
        labels[f"{K8S}:{NAMESPACE_LABELS_PREFIX}{key}"] = value
    labels[f"{K8S}:{NAMESPACE_LABEL}"] = namespace
    labels[f"{K8S}:{SERVICE_ACCOUNT_LABEL}"] = service_account
    labels[f"{K8S}:{CLUSTER_LABEL}"] = cluster
    return dict(sorted(labels.items()))


def is_identity_label(key: str) -> bool:
    """Return whether a pod's label *key* counts for its identity."""
    return key not in PER_POD_LABELS and ":" not in key and not key.startswith(_OURS)


def canonical(labels: Mapping[str, str]) -> str:
    """Return identity labels as text: equal labels, equal text, and no two ways to read it."""
    return json.dumps(sorted(labels.items()), separators=(",", ":"), ensure_ascii=False)


def candidates(text: str) -> Iterator[int]:
    """Yield numbers for the identity with canonical *text*, endlessly, the preferred one first.

    The numbers lie in [FIRST_IDENTITY, LAST_IDENTITY]. Whoever allocates takes the first that is
    free, in sorted order of the texts, so that replicas agree.
    """
    span = LAST_IDENTITY - FIRST_IDENTITY + 1
    attempt = 0
    while True:
        digest = hashlib.sha256(f"{attempt}:{text}".encode()).digest()
        yield FIRST_IDENTITY + int.from_bytes(digest[:8], "big") % span
        attempt += 1
