"""`penstock exec` and `penstock logs`: which pod is meant, and what to do with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from penstock.lab.attach import exec_in_pod, read_logs
from penstock.lab.state import LabRecord, PodRecord, read_state
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths

_DEPLOYMENT_WORDS = ("deploy", "deployment", "deployments", "deployment.apps")
_POD_WORDS = ("pod", "pods", "po")


def resolve(record: LabRecord, word: str, namespace: str = "") -> PodRecord:
    """Return the pod that *word* means.

    Args:
        record: the running lab.
        word: a pod's name, the beginning of the name of one pod alone, "pod/NAME", or
            "deploy/NAME" for the first ready pod of a Deployment.
        namespace: "" looks in all.

    Raises:
        PenstockError: no pod, or several.
    """
    kind, slash, name = word.partition("/")
    inside = [pod for pod in record.pods if namespace in ("", pod.namespace)]
    if slash and kind in _DEPLOYMENT_WORDS:
        return _of_deployment(inside, name)
    if slash and kind not in _POD_WORDS:
        inside = [pod for pod in inside if pod.namespace == kind]
    name = name if slash else word
    found = [pod for pod in inside if pod.name == name] or [
        pod for pod in inside if pod.name.startswith(name)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise PenstockError(f"{word!r} can be {_names(found)}; write more of the name, or -n")
    raise PenstockError(f"there is no pod {word!r}; there are: {_names(record.pods)}")


def execute(
    paths: RunPaths, word: str, command: Sequence[str], *, namespace: str, container: str
) -> int:
    """Run a command in a pod and return its exit status."""
    pod = resolve(read_state(paths), word, namespace)
    return exec_in_pod(paths, pod.name, list(command), namespace=pod.namespace, container=container)


def logs(paths: RunPaths, word: str, *, namespace: str, container: str, follow: bool) -> int:
    """Print the log of a pod; with *follow* until the pod is gone."""
    pod = resolve(read_state(paths), word, namespace)
    pieces = read_logs(paths, pod.name, namespace=pod.namespace, container=container, follow=follow)
    for piece in pieces:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    return 0


def _of_deployment(pods: Sequence[PodRecord], name: str) -> PodRecord:
    """Return the first pod of a Deployment, ready ones first: "<name>-<hash>-<number>"."""
    found = [pod for pod in pods if pod.name.rsplit("-", 2)[0] == name]
    if not found:
        owners = sorted({pod.name.rsplit("-", 2)[0] for pod in pods})
        raise PenstockError(f"Deployment {name!r} has no pod; there are: {', '.join(owners)}")
    return min(found, key=lambda pod: (not pod.ready, pod.name))


def _names(pods: Sequence[PodRecord]) -> str:
    return ", ".join(sorted(f"{pod.namespace}/{pod.name}" for pod in pods)) or "none"
