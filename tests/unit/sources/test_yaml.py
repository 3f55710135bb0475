"""YAML means what YAML 1.2 and kubectl agree on; everything else is an error with its place."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.meta.problems import Location
from penstock.sources.reading import UnreadableError
from penstock.sources.yaml import MAX_ALIASES, MAX_DEPTH, Text, parse


def value(text: str, file: str = "f.yaml") -> Any:
    (document,) = parse(text, file)
    return document


def refusal(text: str, file: str = "f.yaml") -> str:
    with pytest.raises(UnreadableError) as caught:
        parse(text, file)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("12:30:45", "12:30:45"),
        ("0644", "0644"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("+", "+"),
        ("1.2.3", "1.2.3"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 1", "1"),
        ("! 1", "1"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("7", 7),
        ("-7", -7),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("!!int 7", 7),
        ("!!float 7", 7.0),
    ],
)
def test_scalar_has_the_type_that_both_versions_give_it(text: str, expected: Any) -> None:
    found = value(f"key: {text}")["key"]
    assert found == expected
    assert type(found) is type(expected)


def test_keys_are_text_as_in_kubernetes() -> None:
    assert value("1: a\ntrue: b\non: c\n'': d") == {"1": "a", "true": "b", "on": "c", "": "d"}


def test_many_documents_keep_their_order() -> None:
    assert parse("a: 1\n---\n---\nb: 2\n...\n---\n- c\n", "f.yaml") == (
        {"a": 1},
        None,
        {"b": 2},
        ["c"],
    )


def test_alias_stands_for_its_value() -> None:
    assert value("a: &x {b: [1]}\nc: *x") == {"a": {"b": [1]}, "c": {"b": [1]}}


def test_byte_order_mark_is_no_content() -> None:
    assert value("\ufeffa: 1") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", "f.yaml:4:3: the key 'c' is there twice; keep one"),
        ("a: 1\n'a': 2", "f.yaml:2:1: the key 'a' is there twice"),
        ("a:\n\tb: 1", "f.yaml:2:1: is not YAML: the line is indented with a tab; indent with s"),
        ("a: b: c", "f.yaml:1:5: is not YAML: mapping values are not allowed"),
        ("a: [1, 2", "close the bracket"),
        ("a: 'x", "close the quote"),
        ("a:\n  b: 1\n c: 2", "f.yaml:3:2: is not YAML"),
        ("a: @x", "f.yaml:1:4: is not YAML"),
        ("a: \x01", "f.yaml:1:1: is not YAML: control characters are not allowed"),
        ('a: "\\0"', "f.yaml:1:4: holds a NUL character"),
        ("a: .inf", "f.yaml:1:4: .inf is not a number in JSON"),
        ("a: .NaN", "f.yaml:1:4: .NaN is not a number in JSON"),
        ("a: 1e999", "f.yaml:1:4: the number 1e999 is too large"),
        ("a: 9223372036854775808", "f.yaml:1:4: the number 9223372036854775808 is too large"),
        ("a: " + "9" * 5000, "is too large"),
        ("<<: {a: 1}", "f.yaml:1:1: merge keys (<<) are not part of YAML 1.2"),
        ("a: !!python/object:os.system x", "f.yaml:1:4: the tag tag:yaml.org,2002:python/object"),
        ("a: !custom x", "f.yaml:1:4: the tag !custom is not supported"),
        ("!!set {a}", "f.yaml:1:1: the tag tag:yaml.org,2002:set is not supported"),
        ("a: !!int x", "f.yaml:1:4: 'x' is not a tag:yaml.org,2002:int"),
        ("%TAG ! tag:x,2000:\n---\n!a b", "%TAG directives are not supported"),
        ("? [a]\n: b", "f.yaml:1:3: a key must be plain text"),
        ("~: b", "f.yaml:1:1: the key is empty"),
        ("a: *x", "f.yaml:1:4: the alias *x has no anchor before it"),
        ("a: &x [*x]", "f.yaml:1:8: the alias *x is inside its own anchor"),
        ("&x a: 1\n---\nb: *x", "f.yaml:3:4: the alias *x has no anchor before it"),
        ("- " * (MAX_DEPTH + 1) + "a", f"is nested deeper than {MAX_DEPTH} levels"),
        ("[" * 50_000, "is not YAML"),
        ("a: &x 1\nb: [" + "*x," * (MAX_ALIASES + 1) + "]", "has more than 1,000 aliases"),
    ],
)
def test_error_names_place_cause_and_next_step(text: str, message: str) -> None:
    assert message in refusal(text)
    assert "; " in refusal(text)


def test_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "aliases stand for more than 100,000 values" in refusal("\n".join(lines))


def test_deep_aliases_are_refused() -> None:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, MAX_DEPTH + 1)]
    assert f"is nested deeper than {MAX_DEPTH} levels" in refusal("\n".join(lines))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "a": 2}', "f.json:2:2: the key 'a' is there twice"),
        ("{", "f.json:1:2: is not JSON"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1e999}', "1e999 is not JSON"),
        ('{"a": "\\u0000"}', "f.json:1:7: holds a NUL character"),
        ('{"a": "\\ud800"}', "half a surrogate pair"),
        ("9" * 5000, "is too large"),
        ("[" * 100_000, "is nested deeper"),
        ("[" * 80 + "]" * 80, "is nested deeper"),
        ("a: 1", "f.json:1:1: is not JSON"),
    ],
)
def test_json_is_as_strict(text: str, message: str) -> None:
    assert message in refusal(text, "f.json")


def test_json_may_hold_what_yaml_cannot() -> None:
    assert value('{"a": "\\ud83d\\ude00", "b": 1E2}', "f.json") == {"a": "😀", "b": 100.0}
    assert parse(" ", "f.json") == ()


def test_path_is_found_with_line_and_column() -> None:
    text = Text("f.yaml", "a: 1\n---\nspec:\n  ports:\n  - name: x\n    port: 80\n  - {port: 81}\n")
    assert text.locate(0, "a") == Location("f.yaml", 1, 1)
    assert text.locate(1, "spec.ports[0].port") == Location("f.yaml", 6, 5)
    assert text.locate(1, "spec.ports[1]") == Location("f.yaml", 7, 5)
    assert text.locate(1, "") == Location("f.yaml", 3, 1)


def test_absent_path_is_found_at_its_nearest_parent() -> None:
    text = Text("f.yaml", "spec:\n  ports:\n  - name: x\n")
    assert text.locate(0, "spec.ports[0].targetPort.x[7]") == Location("f.yaml", 3, 5)
    assert text.locate(0, "spec.ports[9]") == Location("f.yaml", 2, 3)
    assert text.locate(0, "nothing") == Location("f.yaml", 1, 1)


def test_path_behind_an_alias_is_found_at_the_alias() -> None:
    text = Text("f.yaml", "a: &x {b: 1}\nc: *x\n")
    assert text.locate(0, "c.b") == Location("f.yaml", 2, 1)


def test_json_that_is_no_yaml_has_its_file_as_place() -> None:
    text = Text("f.json", '{"a":\n "\\ud83d\\ude00"}')
    assert text.locate(0, "a").file == "f.json"
