"""What every kind has in common.

Source: Kubernetes API conventions, metav1.ObjectMeta.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import msgspec
from typing_extensions import override

from penstock.core import jsonpath
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.meta.problems import Problem

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation in which `kubectl apply` repeats the whole object."""
_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
)
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_NAME_RULE = "use lower-case letters, digits and `-`, with a letter or digit at both ends"
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_LABEL_RULE = "use at most 63 letters, digits, `-`, `_` and `.`, with letter or digit at both ends"


def names(text: str) -> frozenset[str]:
    """Return the names that *text* lists, separated by spaces."""
    return frozenset(text.split())


class ApiStruct(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Base of everything inside an object; fields are named in camelCase on the wire."""

    known_unused: ClassVar[frozenset[str]] = frozenset()
    """Names on the wire that Kubernetes knows here and Penstock accepts and ignores."""
    field_hints: ClassVar[Mapping[str, str]] = {}
    """What to say to a field that does not belong here, by its name on the wire."""
    refuses_null: ClassVar[bool] = False
    """Whether an explicit null is an error; elsewhere it counts as absent, as in Kubernetes."""
    alike: ClassVar[bool] = False
    """Whether many objects have equal ones, so that what was found of one is remembered.

    Only for structs that can be hashed.
    """
    sensitive: ClassVar[frozenset[str]] = frozenset()
    """Names on the wire of fields whose values no message may show."""

    def checks(self) -> Iterable[Problem]:
        """Return what is wrong although the types are right; paths are relative to this struct."""
        return ()


class ObjectMeta(ApiStruct, frozen=True, kw_only=True):
    """metav1.ObjectMeta, as far as it is used."""

    known_unused: ClassVar[frozenset[str]] = names(
        "clusterName deletionGracePeriodSeconds finalizers generateName managedFields "
        "ownerReferences selfLink"
    )

    name_pattern: ClassVar[re.Pattern[str]] = _NAME

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

    @override
    def checks(self) -> Iterable[Problem]:
        """Return problems about names and labels that an API server would refuse."""
        if not self.name_pattern.match(self.name):
            yield Problem("name", f"{self.name[:80]!r} is not a name", _NAME_RULE)
        if self.namespace and not _NAMESPACE.match(self.namespace):
            yield Problem("namespace", f"{self.namespace[:80]!r} is not a name", _NAME_RULE)
        for key, value in self.labels.items():
            if not (_LABEL_KEY.match(key) and _LABEL_VALUE.match(value)):
                place = jsonpath.member("labels", key)
                yield Problem(place, f"{key[:80]!r}: {value[:80]!r} is not a label", _LABEL_RULE)


class SignedMeta(ObjectMeta, frozen=True, kw_only=True):
    """Of kinds whose names begin with that of a signer, as "example.com:signer:name"."""

    name_pattern: ClassVar[re.Pattern[str]] = re.compile(r"[^/%]{1,253}\Z")


class Object(ApiStruct, frozen=True, kw_only=True):
    """Base of every kind; subclasses set the class variables."""

    api_versions: ClassVar[tuple[str, ...]]
    """Accepted apiVersions, the preferred one first."""
    kind: ClassVar[str]
    namespaced: ClassVar[bool] = True
    metadata_only: ClassVar[bool] = False
    """Whether an API server is asked for the metadata alone."""

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
    unseen: bool = False
    """Whether nothing of it was shown to us, who may not read it; it may not be there at all."""

    @property
    def key(self) -> NamespacedName:
        """Return namespace and name."""
        return NamespacedName(self.metadata.namespace, self.metadata.name)

    @property
    def kind(self) -> str:
        """Return what it was meant to be, as any object does."""
        return self.of_kind

    @property
    def ref(self) -> ObjectRef:
        """Return kind, namespace and name."""
        return ObjectRef(self.of_kind, self.metadata.namespace, self.metadata.name)
