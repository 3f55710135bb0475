"""Whatever is in a folder: only declared errors, the same result twice and after any edits."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.decode import Decoded, decode
from penstock.core.events import EventType
from penstock.core.kinds import BUILTIN_KINDS, Service
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from penstock.sources.contents import SETTLE_SECONDS, Contents
from penstock.sources.file import load
from penstock.sources.reading import UnreadableError, decode_text, list_files, read_text
from penstock.sources.registry import registry
from penstock.sources.yaml import Text, parse
from support.source_suite import config_map, deployment, service

KINDS = registry(BUILTIN_KINDS)

scalars = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(max_size=8)
json_values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)
field_names = st.sampled_from(
    ["metadata", "spec", "name", "labels", "ports", "containers", "selector", "template", "x"]
)
near_objects = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(field_names, inner, max_size=5),
    max_leaves=20,
)
yaml_like = st.text(alphabet="ab:-[]{}&*!'\"|> \n\t#%@0.~<?", max_size=60)


def parsed(content: bytes, file: str) -> tuple[str, tuple[Any, ...]] | UnreadableError:
    try:
        text = decode_text(content, file)
        return text, parse(text, file)
    except UnreadableError as error:
        return error


@given(st.binary(max_size=80) | yaml_like.map(str.encode), st.sampled_from(["f.yaml", "f.json"]))
def test_any_bytes_are_read_or_refused_with_a_place(content: bytes, file: str) -> None:
    outcome = parsed(content, file)
    if isinstance(outcome, UnreadableError):
        assert outcome.location.file == file
        assert outcome.location.line >= 1
        return
    text, documents = outcome
    msgspec.json.encode(documents)
    assert Text(file, text).locate(len(documents), "a.b[0]").file == file


@given(json_values)
def test_json_means_the_same_as_json_and_as_yaml(value: Any) -> None:
    content = json.dumps(value).encode()
    for file in ("f.json", "f.yaml"):
        outcome = parsed(content, file)
        if isinstance(outcome, UnreadableError):
            assert any(word in str(outcome) for word in ("NUL", "surrogate", "is not YAML"))
        else:
            assert outcome[1] == (value,)


@given(st.sampled_from(BUILTIN_KINDS), st.dictionaries(field_names, near_objects))
def test_any_json_is_an_object_or_broken_with_problems(
    kind: type[Object], fields: dict[str, Any]
) -> None:
    raw = {"apiVersion": kind.api_versions[0], "kind": kind.kind, **fields}
    decoded = decode(kind, raw)
    if isinstance(decoded, Broken):
        assert decoded.problems
        assert decoded.of_kind == kind.kind
    else:
        assert isinstance(decoded, kind)


def _objects() -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from("abcd")
    addresses = st.sampled_from(["", "10.96.0.9", "10.96.0.10", "None"])
    return (
        st.builds(config_map, names, x=st.sampled_from("12"))
        | st.builds(service, names, clusterIP=addresses)
        | st.builds(deployment, names, replicas=st.integers(-1, 2))
    )


texts = st.lists(_objects(), max_size=4).map(
    lambda objects: "# objects\n" + "\n---\n".join(json.dumps(one) for one in objects)
)
junk = st.sampled_from(["", "a: [", "x", "kind: X", "\0", "# only a comment"])
file_names = st.sampled_from(["a.yaml", "b.yml", "sub/c.yaml"])
edits = st.lists(st.tuples(file_names, st.none() | texts | junk), max_size=12)


def without_generation(objects: tuple[Decoded, ...]) -> list[Decoded]:
    """Generation counts changes, so that it differs with the history."""
    return [
        msgspec.structs.replace(one, metadata=msgspec.structs.replace(one.metadata, generation=0))
        for one in objects
    ]


def edit(folder: Path, name: str, text: str | None) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if text is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(text)


@given(edits, st.dictionaries(file_names, texts))
def test_any_edits_end_in_what_loading_the_last_state_gives(
    history: list[tuple[str, str | None]], final: dict[str, str]
) -> None:
    """The last state decodes except where no good version was ever seen."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contents = Contents(KINDS)
        mirror: dict[ObjectRef, Decoded] = {}
        now = 0.0
        last: list[tuple[str, str | None]] = [
            *history,
            *((file, None) for file, _ in history),
            *final.items(),
        ]
        for file, text in last:
            edit(folder, file, text)
            now += SETTLE_SECONDS
            for event in contents.apply(list_files([folder]), read_text, now):
                ref = event.object.ref
                assert (ref in mirror) is (event.type is not EventType.ADDED)
                if event.type is EventType.DELETED:
                    assert mirror.pop(ref) == event.object
                else:
                    mirror[ref] = event.object
            assert tuple(mirror[ref] for ref in sorted(mirror)) == contents.objects()
            contents.problems()
        fresh = load([folder], KINDS)
        assert load([folder], KINDS).objects == fresh.objects
        if not any(isinstance(one, Broken) for one in fresh.objects):
            assert without_generation(contents.objects()) == without_generation(fresh.objects)
            assert contents.problems() == fresh.problems


@given(st.lists(_objects(), max_size=12))
def test_addresses_of_services_are_distinct(objects: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        edit(Path(name), "a.yaml", "\n---\n".join(json.dumps(one) for one in objects))
        found = load([Path(name)], KINDS).objects
    addresses = [one for each in found if isinstance(each, Service) for one in each.addresses]
    assert len(addresses) == len(set(addresses))
