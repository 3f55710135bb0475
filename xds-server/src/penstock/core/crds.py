"""The kind CustomResourceDefinition, of which only the metadata is read: the rest is large.

Source: Kubernetes, apiextensions.k8s.io/v1.
"""

from __future__ import annotations

from typing import ClassVar

from penstock.core.objects import Object, names


class CustomResourceDefinition(Object, frozen=True, kw_only=True):
    """That a kind exists, and what its author noted about it."""

    api_versions: ClassVar[tuple[str, ...]] = ("apiextensions.k8s.io/v1",)
    kind: ClassVar[str] = "CustomResourceDefinition"
    namespaced: ClassVar[bool] = False
    metadata_only: ClassVar[bool] = True
    known_unused: ClassVar[frozenset[str]] = names("spec status")

    @property
    def group(self) -> str:
        """Return the group of the kind: the name is "plural.group"."""
        return self.metadata.name.partition(".")[2]
