"""Names of Kubernetes objects and of places inside them."""

from __future__ import annotations

import msgspec


class NamespacedName(msgspec.Struct, frozen=True, order=True):
    """Namespace and name; the namespace is "" for cluster-scoped objects."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Return "namespace/name", or "name" for cluster-scoped objects."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class ObjectRef(msgspec.Struct, frozen=True, order=True):
    """One object of the user: kind, namespace ("" if cluster-scoped) and name."""

    kind: str
    namespace: str
    name: str

    @property
    def key(self) -> NamespacedName:
        """Return namespace and name without the kind."""
        return NamespacedName(self.namespace, self.name)

    def __str__(self) -> str:
        """Return "Kind namespace/name"."""
        return f"{self.kind} {self.key}"


class Origin(msgspec.Struct, frozen=True, order=True):
    """Where a decision comes from: an object and a JSON path in it.

    The path is written as `spec.ingress[0].toPorts[1].rules.http[0]`; "" means the whole object.
    """

    object: ObjectRef
    path: str = ""

    def __str__(self) -> str:
        """Return "Kind namespace/name path"."""
        return f"{self.object} {self.path}".rstrip()

    @classmethod
    def of(cls, kind: str, key: NamespacedName) -> Origin:
        """Return an object as a whole as an origin."""
        return cls(ObjectRef(kind, key.namespace, key.name))

    def at(self, path: str) -> Origin:
        """Return the origin of something below this one."""
        joined = path if not self.path else self.path + (path if path[:1] == "[" else "." + path)
        return Origin(self.object, joined)
