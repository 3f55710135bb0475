"""Strict YAML: the 1.2 core schema on libyaml's events, without what surprises.

Duplicate keys are errors. `no`, `on`, `12:30:45` and dates are strings. A number that YAML 1.1 and
1.2 read differently (`0644`, `0o17`, `1_000`) is a string, so that it cannot silently mean another
number than it does for kubectl. Aliases are bounded; merge keys and foreign tags are errors.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

import yaml
from yaml._yaml import CParser

from penstock.core import jsonpath
from penstock.meta.problems import Location
from penstock.sources.reading import UnreadableError

MAX_DEPTH = 64
MAX_ALIASES = 1_000
MAX_ALIASED_NODES = 100_000
"""How many nodes all aliases of a file may stand for together."""
MAX_INTEGER = 2**63 - 1

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER_STARTS = frozenset("0123456789-+.")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_JSON = re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z")
_TAGS = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": float,
    "tag:yaml.org,2002:bool": bool,
    "tag:yaml.org,2002:null": type(None),
    "tag:yaml.org,2002:seq": list,
    "tag:yaml.org,2002:map": dict,
}
_SURROGATE = re.compile("[\ud800-\udfff]")

Positions = dict[str, tuple[int, int]]
"""JSON path → line and column, both from 1; "" is the start of the document."""


class Text:
    """The text of one file, whose positions are looked up only when somebody asks for one."""

    def __init__(self, file: str, text: str) -> None:
        """Keep *text* as it was read from *file*."""
        self.file = file
        self.text = text

    @cached_property
    def positions(self) -> tuple[Positions, ...]:
        """Return the positions of each document."""
        found: list[Positions] = []
        try:
            _Builder(self.file, self.text, found).documents()
        except UnreadableError:
            return tuple(found)  # JSON that is not YAML, as a surrogate pair in a string
        return tuple(found)

    def locate(self, document: int, path: str) -> Location:
        """Return the place of *path*, or of the nearest thing around it that exists."""
        if document >= len(self.positions):
            return Location(self.file, 1)
        positions = self.positions[document]
        steps = list(jsonpath.steps(path))
        while jsonpath.build(steps) not in positions and steps:
            steps.pop()
        line, column = positions.get(jsonpath.build(steps), (1, 1))
        return Location(self.file, line, column)


def parse(text: str, file: str) -> tuple[Any, ...]:
    """Return the documents of *text* as dicts, lists and scalars; an empty one is None.

    Args:
        text: YAML, or JSON if *file* ends in `.json`.
        file: the name that errors carry.

    Raises:
        UnreadableError: not YAML, or YAML that this module refuses.
    """
    if file.endswith(".json"):
        return (_parse_json(text, file),) if text.strip() else ()
    return tuple(_Builder(file, text, None).documents())


class _Builder:
    """Turns the events of one file into values, and into positions if asked for."""

    def __init__(self, file: str, text: str, positions: list[Positions] | None) -> None:
        self._file = file
        self._text = text
        self._next: Callable[[], Any] = CParser(text).get_event
        self._positions = positions
        self._here: Positions = {}
        self._anchors: dict[str, tuple[Any, int, int] | None] = {}
        self._aliases = 0
        self._aliased = 0
        self._nodes = 0
        self._height = 0
        """Of the node that was built last; a scalar has 0."""

    def documents(self) -> list[Any]:
        """Return the value of each document."""
        values: list[Any] = []
        try:
            while not isinstance(event := self._next(), yaml.StreamEndEvent):
                if isinstance(event, yaml.DocumentStartEvent):
                    values.append(self._document(event))
        except yaml.YAMLError as error:
            raise _syntax_error(self._file, self._text, error) from error
        return values

    def _document(self, start: Any) -> Any:
        if start.tags:
            raise self._refuse(start, "%TAG directives are not supported", "remove the line")
        self._anchors = {}
        event = self._next()
        if self._positions is not None:
            self._here = {"": (event.start_mark.line + 1, event.start_mark.column + 1)}
            self._positions.append(self._here)
            return self._node(event, 0, "")
        return self._node(event, 0, None)

    def _node(self, event: Any, depth: int, path: str | None) -> Any:
        """Return the value that starts with *event*; *path* is None if positions are not wanted."""
        self._nodes += 1
        kind = type(event)
        if kind is yaml.AliasEvent:
            return self._alias(event, depth)
        anchor, before = event.anchor, self._nodes
        if anchor is not None:
            self._anchors[anchor] = None
        if kind is yaml.ScalarEvent:
            self._height = 0
            value = self._scalar(event)
        elif depth >= MAX_DEPTH:
            raise self._refuse(event, f"is nested deeper than {MAX_DEPTH} levels", "flatten it")
        elif kind is yaml.MappingStartEvent:
            self._check_collection_tag(event, dict)
            value = self._mapping(depth, path)
        else:
            self._check_collection_tag(event, list)
            value = self._sequence(depth, path)
        if anchor is not None:
            self._anchors[anchor] = (value, self._nodes - before + 1, self._height)
        return value

    def _mapping(self, depth: int, path: str | None) -> dict[str, Any]:
        value: dict[str, Any] = {}
        height = 0
        while type(event := self._next()) is not yaml.MappingEndEvent:
            key = self._key(event)
            if key in value:
                remedy = "keep one of the two; if they are list items, start each with `- `"
                raise self._refuse(event, f"the key {key!r} is there twice", remedy)
            below = None
            if path is not None:
                below = jsonpath.member(path, key)
                self._here[below] = (event.start_mark.line + 1, event.start_mark.column + 1)
            value[key] = self._node(self._next(), depth + 1, below)
            height = max(height, self._height + 1)
        self._height = height
        return value

    def _sequence(self, depth: int, path: str | None) -> list[Any]:
        value: list[Any] = []
        height = 0
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            below = None
            if path is not None:
                below = jsonpath.item(path, len(value))
                self._here[below] = (event.start_mark.line + 1, event.start_mark.column + 1)
            value.append(self._node(event, depth + 1, below))
            height = max(height, self._height + 1)
        self._height = height
        return value

    def _key(self, event: Any) -> str:
        """Return a key as text: numbers and booleans become strings, as in Kubernetes."""
        if type(event) is not yaml.ScalarEvent:
            raise self._refuse(event, "a key must be plain text", "write the key as one word")
        key: str = event.value
        if event.anchor is not None:
            self._anchors[event.anchor] = (key, 1, 0)
        if event.implicit[0]:
            if key == "<<":
                remedy = "write the fields out, or use an alias for the whole value"
                raise self._refuse(event, "merge keys (<<) are not part of YAML 1.2", remedy)
            if _WORDS.get(key, key) is None:
                remedy = "write a key, or put the value on the line of its key"
                raise self._refuse(event, "the key is empty", remedy)
        elif event.tag is not None:
            self._tagged(event)
        self._check_text(event, key)
        return key

    def _alias(self, event: Any, depth: int) -> Any:
        known = self._anchors.get(event.anchor)
        if known is None:
            cause = f"the alias *{event.anchor} is inside its own anchor"
            if event.anchor not in self._anchors:
                cause = f"the alias *{event.anchor} has no anchor before it"
            remedy = f"write &{event.anchor} before a value further up in the same document"
            raise self._refuse(event, cause, remedy)
        value, nodes, height = known
        self._aliases += 1
        self._aliased += nodes
        self._nodes += nodes
        self._height = height
        if self._aliases > MAX_ALIASES or self._aliased > MAX_ALIASED_NODES:
            cause = f"aliases stand for more than {MAX_ALIASED_NODES:,} values"
            if self._aliases > MAX_ALIASES:
                cause = f"has more than {MAX_ALIASES:,} aliases"
            raise self._refuse(event, cause, "write the values out in several files")
        if depth + height > MAX_DEPTH:
            raise self._refuse(event, f"is nested deeper than {MAX_DEPTH} levels", "flatten it")
        return value

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.implicit[0] and event.tag is None:
            if text in _WORDS:
                return _WORDS[text]
            if text[0] in _NUMBER_STARTS:
                return self._number(event, text)
        elif event.tag is not None:
            return self._tagged(event)
        self._check_text(event, text)
        return text

    def _number(self, event: Any, text: str) -> int | float | str:
        if _INTEGER.match(text):
            number = int(text, 16) if text[:2] == "0x" else _decimal(text)
            if abs(number) > MAX_INTEGER:
                raise self._refuse(event, f"the number {text[:40]} is too large", "quote it")
            return number
        if _FLOAT.match(text):
            real = float(text)
            if not math.isfinite(real):
                raise self._refuse(event, f"the number {text[:40]} is too large", "quote it")
            return real
        if _NOT_JSON.match(text):
            raise self._refuse(event, f"{text} is not a number in JSON", "write a finite number")
        self._check_text(event, text)
        return text

    def _tagged(self, event: Any) -> Any:
        text: str = event.value
        wanted = str if event.tag == "!" else _TAGS.get(event.tag)
        if wanted is str:
            self._check_text(event, text)
            return text
        if wanted is None:
            raise self._refuse(event, f"the tag {event.tag} is not supported", "remove the tag")
        value = _WORDS[text] if text in _WORDS else self._number(event, text)
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if type(value) is not wanted:
            raise self._refuse(event, f"{text[:40]!r} is not a {event.tag}", "remove the tag")
        return value

    def _check_text(self, event: Any, text: str) -> None:
        if "\0" in text:
            raise self._refuse(event, "holds a NUL character", "remove the \\0")

    def _check_collection_tag(self, event: Any, wanted: type) -> None:
        if event.tag is not None and event.tag != "!" and _TAGS.get(event.tag) is not wanted:
            raise self._refuse(event, f"the tag {event.tag} is not supported", "remove the tag")

    def _refuse(self, event: Any, cause: str, remedy: str) -> UnreadableError:
        mark = event.start_mark
        return UnreadableError(Location(self._file, mark.line + 1, mark.column + 1), cause, remedy)


def _decimal(text: str) -> int:
    return int(text) if len(text) <= len(str(MAX_INTEGER)) + 1 else MAX_INTEGER + 1


def _syntax_error(file: str, text: str, error: yaml.YAMLError) -> UnreadableError:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = Location(file, mark.line + 1, mark.column + 1) if mark else Location(file, 1)
        cause = ", ".join(part for part in (error.context, error.problem) if part)
        line = [*text.split("\n"), ""][place.line - 1]
        if "\t" in line[: len(line) - len(line.lstrip())]:
            cause, remedy = "the line is indented with a tab", "indent with spaces"
            return UnreadableError(place, f"is not YAML: {cause}", remedy)
        return UnreadableError(place, f"is not YAML: {cause}", _remedy(cause))
    reason = str(getattr(error, "reason", "") or error)
    return UnreadableError(Location(file, 1), f"is not YAML: {reason}", "remove the character")


def _remedy(cause: str) -> str:
    remedies = {
        "mapping values are not allowed": "indent the line, or put the value with `: ` in quotes",
        "could not find expected ':'": "write `key: value`, and close every quote",
        "did not find expected key": "give lines of one level the same indentation",
        "block collection": "give lines of one level the same indentation",
        "quoted scalar": "close the quote",
        "flow": "close the bracket",
        "end of the stream": "complete the file",
        "cannot start any token": "put the value in quotes",
        "undefined tag handle": "remove the tag",
    }
    for words, remedy in remedies.items():
        if words in cause:
            return remedy
    return "correct the line"


def _parse_json(text: str, file: str) -> Any:
    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise _json_error(file, text, f"the key {twice!r} is there twice", "keep one")
        return value

    def constant(name: str) -> Any:
        raise _json_error(file, text, f"{name} is not JSON", "write a finite number")

    def integer(digits: str) -> int:
        number = _decimal(digits)
        if abs(number) > MAX_INTEGER:
            raise _json_error(file, text, f"the number {digits[:40]} is too large", "quote it")
        return number

    def real(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else constant(digits[:40])

    try:
        value = json.loads(
            text,
            object_pairs_hook=members,
            parse_constant=constant,
            parse_int=integer,
            parse_float=real,
        )
    except json.JSONDecodeError as error:
        place = Location(file, error.lineno, error.colno)
        raise UnreadableError(place, f"is not JSON: {error.msg}", "correct the line") from error
    except RecursionError as error:
        cause = f"is nested deeper than {MAX_DEPTH} levels"
        raise UnreadableError(Location(file, 1), cause, "flatten it") from error
    _check_json(value, file, text, 0)
    return value


def _json_error(file: str, text: str, cause: str, remedy: str) -> UnreadableError:
    """Return an error with the place that reading the same text as YAML finds, if it finds one."""
    try:
        _Builder(file, text, None).documents()
    except UnreadableError as error:
        return UnreadableError(error.location, cause, remedy)
    return UnreadableError(Location(file, 1), cause, remedy)


def _check_json(value: Any, file: str, text: str, depth: int) -> None:
    """Refuse what JSON allows and YAML does not: deep nesting, NUL, half surrogate pairs."""
    if depth > MAX_DEPTH:
        cause = f"is nested deeper than {MAX_DEPTH} levels"
        raise _json_error(file, text, cause, "flatten it")
    if isinstance(value, str):
        if "\0" in value or _SURROGATE.search(value):
            cause = "holds a NUL character or half a surrogate pair"
            raise _json_error(file, text, cause, "remove the character")
    elif isinstance(value, dict):
        for name, one in value.items():
            _check_json(name, file, text, depth)
            _check_json(one, file, text, depth + 1)
    elif isinstance(value, list):
        for one in value:
            _check_json(one, file, text, depth + 1)
