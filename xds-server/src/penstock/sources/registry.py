"""Which type decodes which apiVersion and kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from penstock.core.objects import Object

Registry = Mapping[tuple[str, str], type[Object]]
"""(apiVersion, kind) → type."""


def registry(*kinds: Iterable[type[Object]]) -> Registry:
    """Return the registry of all *kinds* in all their versions."""
    return {
        (version, kind.kind): kind
        for group in kinds
        for kind in group
        for version in kind.api_versions
    }


def group_of(api_version: str) -> str:
    """Return the group of an apiVersion, "" for the core group."""
    return api_version.rpartition("/")[0]
