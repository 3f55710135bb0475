"""Every mistake is reported with its path and, where it can be guessed, its remedy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from typing_extensions import override

from penstock.core.decode import decode, examine
from penstock.core.diagnosis import MAX_PROBLEMS
from penstock.core.kinds import Service
from penstock.core.objects import ApiStruct, Broken, Object, names
from penstock.core.pods import IntOrString
from penstock.meta.problems import Problem, Severity


class Selector(ApiStruct, frozen=True, kw_only=True):
    match_labels: dict[str, str] = {}


class Rules(ApiStruct, frozen=True, kw_only=True):
    http: tuple[dict[str, str], ...] = ()


class PortProtocol(ApiStruct, frozen=True, kw_only=True):
    port: str
    protocol: Literal["TCP", "UDP"] = "TCP"
    end_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None

    @override
    def checks(self) -> Iterable[Problem]:
        if self.port == "0":
            yield Problem("port", "must not be 0")
        if self.port == "1":
            yield Problem("port", "is unusual", severity=Severity.WARNING)


class PortRule(ApiStruct, frozen=True, kw_only=True):
    ports: tuple[PortProtocol, ...] = ()
    rules: Rules | None = None


class Ingress(ApiStruct, frozen=True, kw_only=True):
    field_hints: ClassVar[dict[str, str]] = {"fromHost": "use fromEntities"}
    refuses_null: ClassVar[bool] = True

    from_endpoints: tuple[Selector, ...] | None = None
    to_ports: tuple[PortRule, ...] = ()


class Spec(ApiStruct, frozen=True, kw_only=True):
    known_unused: ClassVar[frozenset[str]] = names("description")

    endpoint_selector: Selector
    ingress: tuple[Ingress, ...] = ()
    peers: dict[str, Selector] = {}
    enabled: bool = True
    priority: int = 0
    target: IntOrString = 0


class Policy(Object, frozen=True, kw_only=True):
    api_versions: ClassVar[tuple[str, ...]] = ("test/v2", "test/v1")
    kind: ClassVar[str] = "Policy"

    spec: Spec


def policy(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "test/v2",
        "kind": "Policy",
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"endpointSelector": {}, **spec},
    }


def problems(raw: dict[str, Any]) -> list[str]:
    decoded = decode(Policy, raw)
    assert isinstance(decoded, Broken)
    assert decoded.raw == raw
    return [str(problem) for problem in decoded.problems]


def test_correct_object_decodes() -> None:
    decoded = decode(Policy, policy(ingress=[{"toPorts": [{"ports": [{"port": "80"}]}]}]))
    assert isinstance(decoded, Policy)
    assert decoded.spec.ingress[0].to_ports[0].ports[0].port == "80"
    assert str(decoded.ref) == "Policy ns/p"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            {"ingress": [{"rules": {"http": []}}]},
            "spec.ingress[0].rules: unknown field; belongs inside toPorts[]",
        ),
        (
            {"rules": {}},
            "spec.rules: unknown field; belongs inside ingress[].toPorts[]",
        ),
        (
            {"ingress": [{"toPorts": [{"ports": [{"port": "80", "rules": {}}]}]}]},
            (
                "spec.ingress[0].toPorts[0].ports[0].rules: unknown field; "
                "belongs further out, directly inside spec.ingress[0].toPorts[0]"
            ),
        ),
        (
            {"ingress": [{"toPorts": [{"matchLabels": {}}]}]},
            (
                "spec.ingress[0].toPorts[0].matchLabels: unknown field; "
                "belongs inside spec.ingress[0].fromEndpoints[]"
            ),
        ),
        (
            {"ingress": [{"toPort": []}]},
            "spec.ingress[0].toPort: unknown field; did you mean toPorts?",
        ),
        (
            {"ingress": [{"toports": []}]},
            "spec.ingress[0].toports: unknown field; did you mean toPorts?",
        ),
        (
            {"ingress": [{"fromHost": True}]},
            "spec.ingress[0].fromHost: unknown field; use fromEntities",
        ),
        ({"xyz": 1}, "spec.xyz: unknown field"),
        ({"a.b/c": 1}, 'spec["a.b/c"]: unknown field'),
        (
            {"ingress": {"toPorts": []}},
            "spec.ingress: must be a list, not a mapping; start it with `- `",
        ),
        (
            {"endpointSelector": {"matchLabels": {"app": 1}}},
            (
                "spec.endpointSelector.matchLabels.app: must be a string, not a number (1); "
                'put it in quotes: "1"'
            ),
        ),
        (
            {"endpointSelector": {"matchLabels": {"a.b/c": True}}},
            (
                'spec.endpointSelector.matchLabels["a.b/c"]: must be a '
                "string, not a boolean (true); "
                'put it in quotes: "true"'
            ),
        ),
        (
            {"peers": {"one": []}},
            "spec.peers.one: must be a mapping, not a list",
        ),
        (
            {"enabled": "yes"},
            (
                'spec.enabled: must be true or false, not a string ("yes"); '
                "write true or false without quotes"
            ),
        ),
        (
            {"priority": "5"},
            'spec.priority: must be a number, not a string ("5"); remove the quotes: 5',
        ),
        (
            {"target": True},
            (
                "spec.target: must be a number or a string, not a boolean (true); "
                'put it in quotes: "true"'
            ),
        ),
        (
            {"ingress": [{"toPorts": [{"ports": [{"port": "80", "protocol": "tcp"}]}]}]},
            (
                "spec.ingress[0].toPorts[0].ports[0].protocol: must be one of TCP, UDP, "
                'not a string ("tcp"); did you mean TCP?'
            ),
        ),
        (
            {"ingress": [{"toPorts": [{"ports": [{"port": "80", "endPort": 0}]}]}]},
            "spec.ingress[0].toPorts[0].ports[0].endPort: must be a number >= 1, not a number (0)",
        ),
        (
            {"ingress": [{"toPorts": [{"ports": [{}]}]}]},
            "spec.ingress[0].toPorts[0].ports[0].port: required field is missing",
        ),
        ({"endpointSelector": None}, "spec.endpointSelector: required field is missing"),
        ({"ingress": [None]}, "spec.ingress[0]: must be a mapping, not null"),
        (
            {"ingress": [{"fromEndpoints": None}]},
            "spec.ingress[0].fromEndpoints: must not be null; remove the field or write its value",
        ),
        (
            {"ingress": [{"toPorts": [{"ports": [{"port": "0"}]}]}]},
            "spec.ingress[0].toPorts[0].ports[0].port: must not be 0",
        ),
    ],
)
def test_mistake_is_named_with_path_and_remedy(spec: dict[str, Any], problem: str) -> None:
    assert problems(policy(**spec)) == [problem]


def test_all_problems_are_reported() -> None:
    raw = policy(ingress=[{"rules": {}, "toPorts": {}}], priority="x", typo=1)
    del raw["metadata"]["name"]
    assert {text.partition(":")[0] for text in problems(raw)} == {
        "metadata.name",
        "spec.typo",
        "spec.ingress[0].rules",
        "spec.ingress[0].toPorts",
        "spec.priority",
    }


def test_endless_problems_are_cut() -> None:
    found = problems(policy(**{f"unknown{number}": 1 for number in range(1000)}))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == f"more than {MAX_PROBLEMS} problems; the rest is hidden"


def test_unused_fields_of_kubernetes_are_accepted() -> None:
    raw = policy(description="x")
    raw["status"] = {"anything": 1}
    raw["metadata"] |= {"managedFields": [], "ownerReferences": [{"kind": "X"}]}
    assert isinstance(decode(Policy, raw), Policy)


def test_explicit_null_is_an_absent_field() -> None:
    raw = policy(ingress=None, peers=None)
    raw["metadata"] |= {"creationTimestamp": None, "labels": None}
    decoded = decode(Policy, raw)
    assert isinstance(decoded, Policy)
    assert decoded.spec.ingress == ()


def test_null_for_a_label_is_an_error() -> None:
    assert problems(policy(endpointSelector={"matchLabels": {"app": None}})) == [
        "spec.endpointSelector.matchLabels.app: must be a string, not null"
    ]


def test_unsupported_version_names_the_supported_ones() -> None:
    raw = policy() | {"apiVersion": "test/v9"}
    assert problems(raw) == ["apiVersion: 'test/v9' is not supported; write test/v2 or test/v1"]


def test_given_hint_wins() -> None:
    raw = policy(ingress=[{"rules": {}}])
    decoded = decode(Policy, raw, hints={"spec.ingress[].rules": "move it"})
    assert isinstance(decoded, Broken)
    assert decoded.problems[0].hint == "move it"


def test_warning_does_not_break_the_object() -> None:
    examined = examine(Policy, policy(ingress=[{"toPorts": [{"ports": [{"port": "1"}]}]}]))
    assert isinstance(examined.object, Policy)
    assert [problem.severity for problem in examined.problems] == [Severity.WARNING]


def test_broken_object_keeps_the_metadata_that_can_be_read() -> None:
    raw = policy(typo=1)
    raw["metadata"] |= {"labels": {"good": "1", "bad": 2}, "uid": 5}
    decoded = decode(Policy, raw)
    assert isinstance(decoded, Broken)
    assert decoded.metadata.name == "p"
    assert decoded.metadata.labels == {"good": "1"}
    assert decoded.metadata.uid == ""


@pytest.mark.parametrize("name", ["", "Upper", "a|b", "a/b", "-a", "a.", "x" * 254, "a\n", "ü"])
def test_name_that_no_api_server_takes_is_refused(name: str) -> None:
    raw = policy()
    raw["metadata"]["name"] = name
    assert problems(raw)[0].startswith("metadata.name: ")


@pytest.mark.parametrize(("key", "value"), [("a", "x y"), ("a", "x" * 64), ("a b", ""), ("/a", "")])
def test_label_that_no_api_server_takes_is_refused(key: str, value: str) -> None:
    raw = policy()
    raw["metadata"]["labels"] = {key: value}
    assert problems(raw)[0].startswith("metadata.labels")


def test_half_a_surrogate_pair_is_no_crash() -> None:
    raw = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": "\ud800"}
    assert isinstance(decode(Service, raw), Broken)
