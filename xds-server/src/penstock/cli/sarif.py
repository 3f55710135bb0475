"""Problems in SARIF 2.1.0, which code hosts show beside the lines.

Source: OASIS sarif-v2.1.0, §3.13 sarifLog, §3.27 result.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.cli.lint import Finding

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_RULES = {
    "error": "Something is not in force as it is written.",
    "warning": "Something is probably not meant as it is written.",
}


def sarif(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return a sarifLog with one run."""
    driver = {
        "name": "penstock lint",
        **_version(),
        "rules": [
            {"id": f"penstock/{name}", "shortDescription": {"text": text}}
            for name, text in _RULES.items()
        ],
    }
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": [_result(one) for one in findings]}],
    }


def _version() -> dict[str, str]:
    try:
        return {"version": importlib.metadata.version("penstock")}
    except importlib.metadata.PackageNotFoundError:
        return {}  # run from its sources, not installed


def _result(finding: Finding) -> dict[str, Any]:
    path = f"{finding.path}: " if finding.path else ""
    hint = f"; {finding.hint}" if finding.hint else ""
    place = {
        "artifactLocation": {"uri": finding.file},
        "region": {"startLine": finding.line, "startColumn": finding.column},
    }
    logical = [{"fullyQualifiedName": f"{finding.object} {finding.path}".strip()}]
    return {
        "ruleId": f"penstock/{finding.severity}",
        "level": finding.severity,
        "message": {"text": f"{path}{finding.message}{hint}"},
        "locations": [{"physicalLocation": place, "logicalLocations": logical}],
    }
