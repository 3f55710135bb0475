"""The objects in one file: documents, `List`s taken apart, decoded, with what is wrong."""

from __future__ import annotations

import difflib
import hashlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from penstock.core import jsonpath
from penstock.core.decode import Decoded, examine
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Location, Problem, Severity
from penstock.sources.registry import Registry, group_of
from penstock.sources.source import SourceProblem
from penstock.sources.yaml import Text, parse

DEFAULT_NAMESPACE = "default"
_NEAR = 0.85
"""How much a name is like another that is meant. Source: difflib, the ratio of matches."""
_ANOTHER = frozenset({"BackendLBPolicy"})
"""Kinds that there are, and whose names are like those of others in their group."""
EPOCH = "1970-01-01T00:00:00Z"
"""creationTimestamp of objects that give none, so that ties are broken by name."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One object in a file."""

    ref: ObjectRef
    digest: str
    """Of everything in the object."""
    spec_digest: str
    """Of everything but metadata and status."""
    decoded: Decoded
    problems: tuple[Problem, ...]
    text: Text
    document: int
    """Position of the document in the file."""
    prefix: str
    """JSON path of the object in the document; "" unless it is an item of a List."""

    @property
    def nameless(self) -> bool:
        """Return whether the object is called after its content for want of a name."""
        return self.ref.name == _name_for(self.digest)

    def locate(self, path: str) -> Location:
        """Return the place of *path*, or of its nearest existing parent."""
        return self.text.locate(self.document, jsonpath.join(self.prefix, path))

    def report(self, problem: Problem, *, last_good: bool = False) -> SourceProblem:
        """Return *problem* with its place."""
        return SourceProblem(
            file=self.text.file,
            location=self.locate(problem.path),
            ref=self.ref,
            problem=problem,
            last_good=last_good,
        )


class Ignored(msgspec.Struct, frozen=True):
    """An object of a kind that is not supported."""

    api_version: str
    kind: str
    location: Location


class FileContent(msgspec.Struct, frozen=True):
    """Everything that a file says."""

    manifests: tuple[Manifest, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    problems: tuple[SourceProblem, ...] = ()
    """Documents of which not even the kind is known."""

    @property
    def unidentified(self) -> tuple[SourceProblem, ...]:
        """Return what keeps documents and objects from being told apart from others."""
        nameless = (manifest for manifest in self.manifests if manifest.nameless)
        return self.problems + tuple(
            manifest.report(problem) for manifest in nameless for problem in manifest.problems
        )


class _Place(msgspec.Struct, frozen=True):
    """Where a raw object was found."""

    text: Text
    document: int
    prefix: str

    def locate(self, path: str) -> Location:
        return self.text.locate(self.document, jsonpath.join(self.prefix, path))

    def refuse(self, path: str, message: str, hint: str) -> SourceProblem:
        problem = Problem(jsonpath.join(self.prefix, path), message, hint)
        return SourceProblem(file=self.text.file, location=self.locate(path), problem=problem)


def read_manifests(
    text: Text, registry: Registry, known: Mapping[tuple[ObjectRef, str], Manifest]
) -> FileContent:
    """Return the content of one file.

    Args:
        text: of the file.
        registry: the kinds to decode.
        known: manifests of the previous version by ref and digest; what did not change is not
            decoded again.

    Raises:
        UnreadableError: the file is not YAML or JSON.
    """
    manifests: list[Manifest] = []
    ignored: list[Ignored] = []
    problems: list[SourceProblem] = []
    for document, value in enumerate(parse(text.text, text.file)):
        if value is None:
            continue
        for prefix, raw in expand(value, ""):
            match _read(raw, _Place(text, document, prefix), registry, known):
                case Manifest() as manifest:
                    manifests.append(manifest)
                case Ignored() as one:
                    ignored.append(one)
                case SourceProblem() as problem:
                    problems.append(problem)
    return FileContent(tuple(manifests), tuple(ignored), tuple(problems))


def expand(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield (path, object); the items of a List take its kind if they have none."""
    kind = value.get("kind") if isinstance(value, dict) else None
    items = value.get("items") if isinstance(value, dict) else None
    if not (isinstance(kind, str) and kind.endswith("List") and isinstance(items, list)):
        yield prefix, value
        return
    inherited = {"apiVersion": value.get("apiVersion"), "kind": kind.removesuffix("List")}
    for index, one in enumerate(items):
        place = jsonpath.item(jsonpath.member(prefix, "items"), index)
        if isinstance(one, dict) and "kind" not in one and inherited["kind"]:
            yield place, {**inherited, **one}
        else:
            yield from expand(one, place)


def _read(
    raw: Any,
    place: _Place,
    registry: Registry,
    known: Mapping[tuple[ObjectRef, str], Manifest],
) -> Manifest | Ignored | SourceProblem:
    if not isinstance(raw, dict):
        hint = "write apiVersion, kind, metadata and spec"
        return place.refuse("", "is not a Kubernetes object, which is a mapping", hint)
    for field in ("apiVersion", "kind"):
        if not (isinstance(raw.get(field), str) and raw[field]):
            hint = f"write {field}, or move the file out of the folder if it is something else"
            return place.refuse(field, "is missing, so this is not a Kubernetes object", hint)
    kind = _kind_of(raw["apiVersion"], raw["kind"], registry)
    if kind is None:
        return Ignored(raw["apiVersion"], raw["kind"], place.locate("kind"))
    return _decode(kind, raw, place, known)


def _kind_of(api_version: str, kind: str, registry: Registry) -> type[Object] | None:
    """Return the type of a kind, or of the one that is meant.

    Another version of a known group counts as the known one, and so does what is nearly the name
    of a kind of the same group: it is an object with a mistake, and not another object, which
    would leave open what it closes.
    """
    exact = registry.get((api_version, kind))
    if exact is not None or kind in _ANOTHER:
        return exact
    group = group_of(api_version)
    of_group = {
        known_kind.casefold(): found
        for (known_version, known_kind), found in registry.items()
        if group_of(known_version) == group
    }
    near = difflib.get_close_matches(kind.casefold(), of_group, n=1, cutoff=_NEAR)
    return of_group[near[0]] if near else None


def _decode(
    kind: type[Object],
    raw: dict[str, Any],
    place: _Place,
    known: Mapping[tuple[ObjectRef, str], Manifest],
) -> Manifest:
    spec_digest = _digest(
        {name: value for name, value in raw.items() if name not in ("metadata", "status")}
    )
    digest = _digest([spec_digest, raw.get("metadata"), raw.get("status")])
    ref = _ref(kind, raw.get("metadata"), digest)
    same = known.get((ref, digest))
    if same is not None:
        return msgspec.structs.replace(
            same, text=place.text, document=place.document, prefix=place.prefix
        )
    examined = examine(kind, {**raw, "metadata": _metadata(raw.get("metadata"), ref, digest)})
    decoded = examined.object
    if isinstance(decoded, Broken) and decoded.ref != ref:
        metadata = msgspec.structs.replace(
            decoded.metadata,
            name=ref.name,
            namespace=ref.namespace,
            uid=decoded.metadata.uid or uid_of(ref),
            resource_version=digest[:16],
        )
        decoded = msgspec.structs.replace(decoded, metadata=metadata)
    return Manifest(
        ref=ref,
        digest=digest,
        spec_digest=spec_digest,
        decoded=decoded,
        problems=examined.problems,
        text=place.text,
        document=place.document,
        prefix=place.prefix,
    )


def _ref(kind: type[Object], metadata: Any, digest: str) -> ObjectRef:
    """Return the name of an object; one without a usable name is called after its content."""
    given = metadata if isinstance(metadata, dict) else {}
    name, namespace = given.get("name"), given.get("namespace")
    if not (isinstance(name, str) and name):
        name = _name_for(digest)
    if not (isinstance(namespace, str) and namespace):
        namespace = DEFAULT_NAMESPACE
    return ObjectRef(kind.kind, namespace if kind.namespaced else "", name)


def _name_for(digest: str) -> str:
    return f"unnamed-{digest[:8]}"


def _metadata(given: Any, ref: ObjectRef, digest: str) -> Any:
    """Return metadata as an API server completes it; what is wrong stays for decoding to see."""
    if not isinstance(given, dict):
        return given
    metadata = {**given, "resourceVersion": digest[:16], "generation": 1}
    if not metadata.get("namespace") or not ref.namespace:
        metadata["namespace"] = ref.namespace
    if not metadata.get("uid"):
        metadata["uid"] = uid_of(ref)
    if not metadata.get("creationTimestamp"):
        metadata["creationTimestamp"] = EPOCH
    return metadata


def uid_of(ref: ObjectRef) -> str:
    """Return the uid of an object that was given none: the same in every file and process."""
    digest = hashlib.sha256(f"{ref.kind}/{ref.namespace}/{ref.name}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def unsupported(ignored: Ignored, registry: Registry) -> SourceProblem:
    """Return what to say about a kind that is not supported, once for all its objects."""
    kinds = sorted({kind for _, kind in registry})
    close = difflib.get_close_matches(ignored.kind, kinds, n=1, cutoff=_NEAR)
    hint = f"did you mean {close[0]}?" if close else "the object is ignored"
    if close == [ignored.kind]:
        versions = (version for version, kind in registry if kind == ignored.kind)
        hint = f"write apiVersion {' or '.join(versions)}"
    return SourceProblem(
        file=ignored.location.file,
        location=ignored.location,
        problem=Problem(
            "kind",
            f"{ignored.kind} of {ignored.api_version} is not supported",
            hint,
            Severity.ERROR if close else Severity.WARNING,
        ),
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
