"""What every kind has in common.

Source: Kubernetes API conventions, metav1.ObjectMeta.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import msgspec

from penstock.meta.names import NamespacedName, ObjectRef
from penstock.meta.problems import Problem


class ApiStruct(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Base of everything inside an object; fields are named in camelCase on the wire."""

    known_unused: ClassVar[frozenset[str]] = frozenset()
    """Names on the wire that Kubernetes knows here and Penstock accepts and ignores."""
    field_hints: ClassVar[Mapping[str, str]] = {}
    """What to say to a field that does not belong here, by its name on the wire."""

    def checks(self) -> Iterable[Problem]:
        """Return what is wrong although the types are right; paths are relative to this struct."""
        return ()


class ObjectMeta(ApiStruct, frozen=True, kw_only=True):
    """metav1.ObjectMeta, as far as it is used."""

    known_unused: ClassVar[frozenset[str]] = frozenset(
        {
            "clusterName",
            "deletionGracePeriodSeconds",
            "finalizers",
            "generateName",
            "managedFields",
            "ownerReferences",
            "selfLink",
        }
    )

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    """RFC 3339; sorts as text."""
    deletion_timestamp: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Object(ApiStruct, frozen=True, kw_only=True):
    """Base of every kind; subclasses set the class variables."""

    api_versions: ClassVar[tuple[str, ...]]
    """Accepted apiVersions, the preferred one first."""
    kind: ClassVar[str]
    namespaced: ClassVar[bool] = True

    metadata: ObjectMeta

    @property
    def key(self) -> NamespacedName:
        """Return namespace and name."""
        return NamespacedName(self.metadata.namespace, self.metadata.name)

    @property
    def ref(self) -> ObjectRef:
        """Return kind, namespace and name."""
        return ObjectRef(self.kind, self.metadata.namespace, self.metadata.name)


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """An object that did not decode: known to exist, not understood.

    Translators read from `raw` what is needed to fail closed (a policy's endpointSelector, a
    route's parentRefs and hostnames) and nothing else.
    """

    of_kind: str
    metadata: ObjectMeta
    raw: dict[str, Any]
    problems: tuple[Problem, ...]

    @property
    def key(self) -> NamespacedName:
        """Return namespace and name."""
        return NamespacedName(self.metadata.namespace, self.metadata.name)

    @property
    def ref(self) -> ObjectRef:
        """Return kind, namespace and name."""
        return ObjectRef(self.of_kind, self.metadata.namespace, self.metadata.name)
