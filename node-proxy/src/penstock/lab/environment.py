"""Environment variables of a container, and $(VAR) in its command.

Pure. Source: Kubernetes, Container.env, envFrom, and the expansion of `command` and `args`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from penstock.core.kinds import ConfigMap, Secret
from penstock.core.pods import Container, EnvVar, EnvVarSource, KeySelector
from penstock.lab.addressing import NODE_ADDRESSES
from penstock.lab.cluster import NODE_NAME, Desired, PodPlan
from penstock.meta.errors import PenstockError
from penstock.meta.names import NamespacedName

_REFERENCE = re.compile(r"\$\$|\$\(([^()\s]+)\)")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]\Z")


class MissingReferenceError(PenstockError):
    """A container refers to a ConfigMap, Secret, key or field that is not there."""


def environment(
    container: Container, plan: PodPlan, want: Desired, base: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables of *container*; later ones win, and may refer to earlier ones.

    Args:
        container: one of the pod's.
        plan: the pod.
        want: holds ConfigMaps and Secrets.
        base: what every container has: PATH, HOME, HOSTNAME.

    Raises:
        MissingReferenceError: something that is not optional is missing.
    """
    values = dict(base)
    namespace = plan.pod.metadata.namespace
    for source in container.env_from:
        for held, reference in (
            (want.config_maps, source.config_map_ref),
            (want.secrets, source.secret_ref),
        ):
            if reference is not None:
                key = NamespacedName(namespace, reference.name)
                files = _files(held, key, optional=reference.optional) or {}
                values |= {source.prefix + name: _text(text) for name, text in files.items()}
    for variable in container.env:
        value = _value(variable, plan, want, values)
        if value is not None:
            values[variable.name] = value
    return values


def expand(text: str, values: Mapping[str, str]) -> str:
    """Return *text* with $(NAME) replaced; unknown ones stay as they are, $$ is one dollar."""

    def replacement(match: re.Match[str]) -> str:
        name = match[1]
        return "$" if name is None else values.get(name, match[0])

    return _REFERENCE.sub(replacement, text)


def expand_all(words: Iterable[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """Return *words*, each expanded."""
    return tuple(expand(word, values) for word in words)


def field_of(plan: PodPlan, path: str) -> str:
    """Return the pod's field at *path*.

    Raises:
        MissingReferenceError: the field is none of those that Kubernetes allows here.
    """
    meta, spec = plan.pod.metadata, plan.pod.spec
    subscript = _SUBSCRIPT.match(path)
    if subscript:
        return (meta.labels if subscript[1] == "labels" else meta.annotations).get(subscript[2], "")
    getters: dict[str, Callable[[], str]] = {
        "metadata.name": lambda: meta.name,
        "metadata.namespace": lambda: meta.namespace,
        "metadata.uid": lambda: meta.uid,
        "spec.nodeName": lambda: NODE_NAME,
        "spec.serviceAccountName": lambda: spec.service_account_name,
        "status.hostIP": lambda: NODE_ADDRESSES[0],
        "status.hostIPs": lambda: ",".join(NODE_ADDRESSES),
        "status.podIP": lambda: plan.addresses.ipv4,
        "status.podIPs": lambda: f"{plan.addresses.ipv4},{plan.addresses.ipv6}",
    }
    if path not in getters:
        raise MissingReferenceError(
            f"Pod {plan.key}: fieldRef {path!r} is none of {sorted(getters)}"
        )
    return getters[path]()


def _value(variable: EnvVar, plan: PodPlan, want: Desired, values: Mapping[str, str]) -> str | None:
    if variable.value_from is None:
        return expand(variable.value, values)
    return _from_source(variable.value_from, plan, want)


def _from_source(source: EnvVarSource, plan: PodPlan, want: Desired) -> str | None:
    if source.field_ref is not None:
        return field_of(plan, source.field_ref.field_path)
    namespace = plan.pod.metadata.namespace
    if source.config_map_key_ref is not None:
        return _key(want.config_maps, namespace, source.config_map_key_ref)
    if source.secret_key_ref is not None:
        return _key(want.secrets, namespace, source.secret_key_ref)
    raise MissingReferenceError(
        f"Pod {plan.key}: an env entry with valueFrom that the lab does not know; "
        "use fieldRef, configMapKeyRef or secretKeyRef"
    )


def _key(
    held: Mapping[NamespacedName, ConfigMap] | Mapping[NamespacedName, Secret],
    namespace: str,
    selector: KeySelector,
) -> str | None:
    key = NamespacedName(namespace, selector.name)
    files = _files(held, key, optional=selector.optional)
    if files is not None and selector.key in files:
        return _text(files[selector.key])
    if selector.optional:
        return None
    raise MissingReferenceError(f"{key} has no key {selector.key!r}; add it, or set optional: true")


def _files(
    held: Mapping[NamespacedName, ConfigMap] | Mapping[NamespacedName, Secret],
    key: NamespacedName,
    *,
    optional: bool,
) -> dict[str, bytes] | None:
    found = held.get(key)
    if found is not None:
        return found.files()
    if optional:
        return None
    raise MissingReferenceError(
        f"ConfigMap or Secret {key} does not exist; add it to the folder, or set optional: true"
    )


def _text(value: bytes) -> str:
    """Return a value as an environment holds it: bytes that are no UTF-8 survive exec."""
    return value.decode("utf-8", "surrogateescape")
