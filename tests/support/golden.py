"""Golden cases: folders of objects, compiled, as data that people can read and compare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from penstock.cli.compiled import compile_files
from penstock.cli.translate import as_json
from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Reach, Settings
from penstock.compiler.statuses import status_of
from penstock.controlplane.kinds import known_kinds
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.sources.file import load
from penstock.xds.resource import Resource

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "golden"
EXAMPLES = {"shop": ROOT / "examples" / "shop"}
"""Cases whose objects are an example; its pods are simulated as `penstock translate` does."""
_OF_CLUSTER = Settings(
    reach=Reach.CLUSTER, gateway_pool="172.31.0.128/26", system_namespace="penstock-system"
)
SETTINGS = {
    "cluster-addresses": _OF_CLUSTER,
    "cluster-inside": _OF_CLUSTER,
    "traffic-policies": _OF_CLUSTER,
}
"""Of cases that are not a lab's."""


class Case(msgspec.Struct, frozen=True):
    """One case, compiled."""

    compiler: Compiler
    objects: tuple[Object | Broken, ...]

    @property
    def resources(self) -> tuple[Resource, ...]:
        """All resources of all nodes, each once."""
        every = {one.key: one for node in self.nodes for one in self.compiler.resources(node)}
        return tuple(every[key] for key in sorted(every))

    @property
    def nodes(self) -> tuple[str, ...]:
        return ("", *self.compiler.nodes)


def case_names() -> list[str]:
    return sorted([*EXAMPLES, *(folder.parent.name for folder in CASES.glob("*/in"))])


def compiled(name: str, settings: Settings | None = None) -> Case:
    """Compile a case; mistakes of users are part of it, ours are not."""
    if name in EXAMPLES:
        made = compile_files([EXAMPLES[name]], settings)
        return Case(made.compiler, made.loaded.objects)
    objects = load([CASES / name / "in"], known_kinds()).objects
    compiler = Compiler(settings or SETTINGS.get(name))
    compiler.apply([Event(EventType.ADDED, one) for one in objects])
    assert compiler.failures == {}
    return Case(compiler, objects)


def resources_as_data(case: Case) -> dict[str, Any]:
    """Return node → resources, those of every node under "every node"; no versions."""
    compiler = case.compiler
    common = {one.key for one in compiler.resources("")}
    return {
        node or "every node": [
            _readable(one) for one in compiler.resources(node) if not node or one.key not in common
        ]
        for node in case.nodes
    }


def statuses_as_data(case: Case) -> list[dict[str, Any]]:
    """Return the status of each object that has one, as nodes would have said nothing of it.

    What is the same for every GatewayClass, supportedFeatures, is left out.
    """
    return list(_statuses(case))


def _statuses(case: Case) -> Iterator[dict[str, Any]]:
    for thing in sorted(case.objects, key=lambda one: one.ref):
        status = status_of(case.compiler.db, thing, lambda _ref: None)
        if status is not None:
            status.pop("supportedFeatures", None)
            yield {"object": str(thing.ref), "status": status}


def _readable(resource: Resource) -> dict[str, Any]:
    shown = as_json(resource)
    order = ("type", "name", "origins", "needs", "resource")
    return {key: shown[key] for key in order if shown[key] != []}


class _Dumper(yaml.SafeDumper):
    """Writes equal parts out in full."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def as_text(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
