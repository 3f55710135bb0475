"""How commands show what they found: values of -o."""

from __future__ import annotations

import enum


class Format(enum.StrEnum):
    """Of objects, resources and states."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    WIDE = "wide"


class Target(enum.StrEnum):
    """What YAML is translated to."""

    XDS = "xds"
    STATUS = "status"


class LintFormat(enum.StrEnum):
    """Of problems."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
