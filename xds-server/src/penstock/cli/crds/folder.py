"""Objects in files against the CustomResourceDefinitions in a folder."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from penstock.cli.crds.schema import Schema, problems, with_defaults
from penstock.core import jsonpath
from penstock.meta.errors import PenstockError
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Location, Problem
from penstock.sources.manifests import DEFAULT_NAMESPACE, expand
from penstock.sources.reading import UnreadableError, list_files, read_text
from penstock.sources.source import SourceProblem
from penstock.sources.yaml import Text, parse

Kind = tuple[str, str]
"""apiVersion and kind."""
RuleProblems = Callable[[Any, Schema, str], Iterator[Problem]]
_NOT_JUDGED = frozenset({"apiVersion", "kind", "metadata", "status"})


class Definition(msgspec.Struct, frozen=True):
    """A version of a kind, as its CustomResourceDefinition says."""

    schema: Schema
    namespaced: bool


class _Document(msgspec.Struct, frozen=True):
    """An object in a file."""

    text: Text
    number: int
    """Of the YAML document."""
    prefix: str
    """Path of the object in it."""
    value: Any

    def locate(self, path: str) -> Location:
        return self.text.locate(self.number, jsonpath.join(self.prefix, path))


def definitions_in(folder: Path) -> Mapping[Kind, Definition]:
    """Return each version that is served of each kind that *folder* defines.

    Raises:
        PenstockError: there is none, or a file cannot be read.
    """
    found: dict[Kind, Definition] = {}
    for one in _documents([folder]):
        if isinstance(one.value, dict) and one.value.get("kind") == "CustomResourceDefinition":
            found.update(_definitions_of(one.value))
    if not found:
        raise PenstockError(f"{folder}: no CustomResourceDefinition; name a folder that has some")
    return found


def judged(
    files: Iterable[Path], definitions: Mapping[Kind, Definition]
) -> Iterator[SourceProblem]:
    """Yield what an API server would say to the objects in *files*.

    Objects of kinds without a definition are passed over, and so are files that cannot be read:
    others say so.

    Raises:
        PenstockError: the package that evaluates rules is not installed.
    """
    rules = _rule_problems()
    for one in _documents(files, strict=False):
        known = _definition_of(one.value, definitions)
        if known is None:
            continue
        ref = _ref(one.value, namespaced=known.namespaced)
        for problem in _problems(one.value, known.schema, rules):
            place = one.locate(problem.path)
            yield SourceProblem(file=one.text.file, location=place, ref=ref, problem=problem)


def _problems(value: dict[str, Any], schema: Schema, rules: RuleProblems) -> list[Problem]:
    """Return what is wrong; rules are asked only where everything has its form."""
    open_ = {**schema, "x-kubernetes-preserve-unknown-fields": True, "required": []}
    body = {name: one for name, one in value.items() if name not in _NOT_JUDGED}
    required = [name for name in schema.get("required") or () if name not in _NOT_JUDGED]
    filled = with_defaults(body, schema)
    found = list(problems(filled, {**schema, "required": required}, ""))
    if found:
        return found
    head = {name: value[name] for name in ("apiVersion", "kind", "metadata") if name in value}
    return list(rules({**head, **filled}, open_, ""))


def _rule_problems() -> RuleProblems:
    try:
        rules = importlib.import_module("penstock.cli.crds.rules")
    except ImportError:
        raise PenstockError(
            "rules of CRDs need a package that is not installed: pip install 'penstock[crds]'"
        ) from None
    found: RuleProblems = rules.rule_problems
    return found


def _documents(paths: Iterable[Path], *, strict: bool = True) -> Iterator[_Document]:
    for path in sorted(list_files(tuple(paths)).files):
        try:
            text = Text(path, read_text(path)[0])
            documents = parse(text.text, path)
        except UnreadableError:
            if strict:
                raise
            continue
        for number, value in enumerate(documents):
            for prefix, one in expand(value, ""):
                yield _Document(text, number, prefix, one)


def _definitions_of(raw: dict[str, Any]) -> Iterator[tuple[Kind, Definition]]:
    spec = raw.get("spec") or {}
    kind = (spec.get("names") or {}).get("kind", "")
    namespaced = spec.get("scope") == "Namespaced"
    for version in spec.get("versions") or ():
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if version.get("served") and schema:
            yield (
                (f"{spec.get('group')}/{version.get('name')}", kind),
                Definition(schema, namespaced),
            )


def _definition_of(value: Any, definitions: Mapping[Kind, Definition]) -> Definition | None:
    if not isinstance(value, dict):
        return None
    return definitions.get((str(value.get("apiVersion")), str(value.get("kind"))))


def _ref(value: Mapping[str, Any], *, namespaced: bool) -> ObjectRef:
    given = value.get("metadata")
    metadata = given if isinstance(given, dict) else {}
    namespace = str(metadata.get("namespace") or DEFAULT_NAMESPACE) if namespaced else ""
    return ObjectRef(str(value.get("kind")), namespace, str(metadata.get("name") or ""))
