"""`penstock migrate ingress`: Ingresses as YAML of the Gateway API."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from penstock.cli.compiled import compile_files
from penstock.cli.output import complain, say
from penstock.core.objects import Object, ObjectMeta
from penstock.ingress.derived import derived
from penstock.ingress.migrate import migrate, written
from penstock.ingress.resources import CONTROLLER_NAME, Ingress, IngressClass, IngressClassSpec


def migrate_ingress(files: Iterable[Path]) -> int:
    """Write the equal of all Ingresses in *files*, whatever their class.

    Returns 1 if something has no equal, else 0; each is told on standard error.
    """
    files = tuple(files)
    loaded = compile_files(files)
    ingresses = [one for one in loaded.loaded.objects if isinstance(one, Ingress)]
    names = {one.class_name or "" for one in ingresses}
    spec = IngressClassSpec(controller=CONTROLLER_NAME)
    classes = {
        one: IngressClass(
            metadata=ObjectMeta(
                name=one or "default",
                annotations={} if one else {"ingressclass.kubernetes.io/is-default-class": "true"},
            ),
            spec=spec,
        )
        for one in names
    }
    service = loaded.compiler.db.services.get
    namespaces = {one.metadata.namespace for one in ingresses}
    found = [
        meant
        for namespace in sorted(namespaces)
        for meant in derived(
            [one for one in ingresses if one.metadata.namespace == namespace], classes, service
        ).values()
    ]
    made = migrate(found)
    if made.objects:
        say("---\n".join(_document(one, made.remarks.get(one.ref, ())) for one in made.objects))
    if not ingresses:
        complain(f"no Ingress in {', '.join(map(str, files))}")
    for ref, problem in made.lost:
        place = loaded.loaded.locate(ref, problem.path)
        complain(f"{f'{place}: ' if place is not None else ''}{ref}: {problem}")
    for one in loaded.loaded.problems:
        complain(str(one))
    return 1 if made.lost or loaded.loaded.problems else 0


def _document(thing: Object, remarks: Iterable[str]) -> str:
    """Return an object as YAML, with comments before it."""
    lines = (line for remark in remarks for line in remark.splitlines())
    comments = "".join(f"# {line}\n" for line in lines)
    return comments + yaml.safe_dump(written(thing), sort_keys=False)
