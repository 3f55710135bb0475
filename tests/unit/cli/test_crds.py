"""Objects judged by CRDs: defaults, forms and rules; lint says it with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.cli.crds.folder import definitions_in
from penstock.cli.crds.rules import rule_problems
from penstock.cli.crds.schema import problems, with_defaults
from penstock.cli.formats import LintFormat
from penstock.cli.lint import lint
from penstock.meta.errors import PenstockError
from penstock.meta.problems import Severity

Json = dict[str, Any]


def told(value: Any, schema: Json) -> list[str]:
    return [str(one) for one in problems(value, schema, "spec")]


def of(**properties: Json) -> Json:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("value", "schema", "said"),
    [
        ("x", {"type": "integer"}, "spec: must be of type integer, and is string"),
        (True, {"type": "integer"}, "spec: must be of type integer, and is boolean"),
        (None, {"type": "string"}, "spec: must be of type string, and is null"),
        (1.5, {"x-kubernetes-int-or-string": True}, "spec: must be a whole number or a string"),
        ("c", {"type": "string", "enum": ["a", "b"]}, "spec: 'c' is not one of a, b"),
        ("ab", {"type": "string", "maxLength": 1},
         "spec: is 2 characters long; at most 1 are allowed"),
        ("", {"type": "string", "minLength": 1},
         "spec: is 0 characters long; at least 1 are needed"),
        ("B", {"type": "string", "pattern": "^[a-z]$"}, "spec: 'B' does not match ^[a-z]$"),
        ("1.2.3", {"type": "string", "format": "ipv4"}, "spec: '1.2.3' is no ipv4"),
        (0, {"type": "integer", "minimum": 1}, "spec: 0 is too small; 1 is the least"),
        (9, {"type": "integer", "maximum": 8}, "spec: 9 is too large; 8 is the most"),
        (1 << 31, {"type": "integer", "format": "int32"}, "spec: 2147483648 is no int32"),
        ({}, {"type": "object", "required": ["a"]}, "spec.a: required field is missing"),
        ({"b": 1}, of(a={"type": "integer"}),
         "spec.b: unknown field; the API server leaves it out, and kubectl refuses it"),
        ([1, 1], {"type": "array", "x-kubernetes-list-type": "set"}, "spec[1]: is there already"),
        ([{"a": 1, "b": 1}, {"a": 1, "b": 2}],
         {"type": "array", "items": of(a={}, b={}), "x-kubernetes-list-type": "map",
          "x-kubernetes-list-map-keys": ["a"]},
         "spec[1]: is there already (by a)"),
        ([], {"type": "array", "minItems": 1}, "spec: has 0 elements; at least 1 are needed"),
        (5, {"anyOf": [{"type": "string"}, {"maximum": 4}]},
         "spec: must be as one of 2 forms say, and is as 0"),
        (5, {"allOf": [{"maximum": 4}]}, "spec: 5 is too large; 4 is the most"),
        (5, {"not": {"minimum": 5}}, "spec: is of a form that is not allowed"),
    ],
)  # fmt: skip
def test_what_has_not_the_form_is_told_with_its_path(value: Any, schema: Json, said: str) -> None:
    assert told(value, schema) == [said]


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ("80", {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}]}),
        (None, {"type": "string", "nullable": True}),
        ({"any": 1}, {"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
        ({"any": 1}, {"type": "object", "additionalProperties": {"type": "integer"}}),
        (1, {"oneOf": [{"maximum": 1}, {"minimum": 2}]}),
    ],
)
def test_what_has_the_form_is_right(value: Any, schema: Json) -> None:
    assert told(value, schema) == []


def test_defaults_are_filled_in_at_every_depth_and_for_a_null() -> None:
    item = of(weight={"type": "integer", "default": 1}, name={"type": "string"})
    schema = of(items={"type": "array", "items": item}, kind={"type": "string", "default": "S"})
    value = {"items": [{"name": "a"}, {"name": "b", "weight": 3}], "kind": None}
    assert with_defaults(value, schema) == {
        "items": [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}],
        "kind": "S",
    }
    assert value["kind"] is None


def rules(*texts: str, **more: str) -> Json:
    return {"x-kubernetes-validations": [{"rule": one, **more} for one in texts]}


def test_a_rule_that_is_not_kept_says_its_message_at_its_place() -> None:
    schema = of(ports=rules("self.size() < 2", message="too many", fieldPath=".list"))
    (found,) = rule_problems({"ports": [1, 2]}, schema, "spec")
    assert str(found) == "spec.ports.list: too many"
    assert list(rule_problems({"ports": [1]}, schema, "spec")) == []


def test_a_rule_about_changes_is_not_asked() -> None:
    assert list(rule_problems(1, rules("self == oldSelf"), "spec")) == []


def test_a_rule_with_what_we_do_not_know_is_a_warning_and_not_passed_over() -> None:
    (found,) = rule_problems("1", rules("quantity(self).isGreaterThan(quantity('2'))"), "spec")
    assert found.severity is Severity.WARNING
    assert found.message.startswith('not checked: rule "quantity(self)')


def test_a_rule_that_fails_says_why() -> None:
    (found,) = rule_problems({}, rules("self.x == 1"), "spec")
    assert "cannot be evaluated" in found.message
    assert found.severity is Severity.ERROR


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ("!format.dns1123Subdomain().validate(self).hasValue()", "a.test", "A"),
        ("!format.qualifiedName().validate(self).hasValue()", "a.test/b_C", "a_b/c"),
        ("isIP(self)", "10.0.0.1", "10.0.0.01"),
        ("isIP(self)", "fd00::1", "::ffff:10.0.0.1"),
        ("isIP(self)", "::", "fe80::1%eth0"),
        ("self.split('/')[0] == 'a'", "a/b", "b/a"),
        ("self.matches('^a+$')", "aa", "ab"),
        ("duration(self) < duration('1s')", "10ms", "2s"),
    ],
)
def test_what_kubernetes_adds_to_the_language_is_there(text: str, good: str, bad: str) -> None:
    assert list(rule_problems(good, rules(text), "")) == []
    assert len(list(rule_problems(bad, rules(text), ""))) == 1


def crd(folder: Path) -> Path:
    spec = of(size={"type": "integer", "maximum": 3}) | rules("self.size != 2", message="not two")
    version = {
        "name": "v1", "served": True, "storage": True,
        "schema": {"openAPIV3Schema": of(spec=spec)},
    }  # fmt: skip
    folder.mkdir()
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.x.test"},
        "spec": {"group": "x.test", "scope": "Namespaced", "names": {"kind": "Thing"},
                 "versions": [version]},
    }  # fmt: skip
    (folder / "crd.yaml").write_text(yaml.safe_dump(body))
    return folder


def test_lint_judges_kinds_that_only_their_crd_knows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    things = [
        {"apiVersion": "x.test/v1", "kind": "Thing", "metadata": {"name": f"t{size}"},
         "spec": {"size": size}}
        for size in (1, 2, 9)
    ]  # fmt: skip
    file = tmp_path / "things.yaml"
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": things}))
    assert lint([file], LintFormat.TEXT, crd(tmp_path / "crds")) == 1
    said = capsys.readouterr().out
    assert "error: Thing default/t2: spec: not two" in said
    assert "error: Thing default/t9: spec.size: 9 is too large; 3 is the most" in said
    assert "t1" not in said


def test_a_folder_without_crds_is_named(tmp_path: Path) -> None:
    with pytest.raises(PenstockError, match="no CustomResourceDefinition"):
        definitions_in(tmp_path)
