"""Whether Ingresses are served as they are written; they have no conditions that would say so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from penstock.cli.checks.finding import Check, Finding, shorten
from penstock.cli.checks.observed import Cluster, Json, name_of
from penstock.cli.checks.workloads import nobody_serves
from penstock.core.decode import Decoded, examine
from penstock.core.objects import Broken, Object
from penstock.ingress.problems import problems
from penstock.ingress.resources import API_VERSIONS, Ingress, IngressClass, class_of
from penstock.meta.problems import Problem, Severity
from penstock.sources.kubernetes.messages import read_metadata, read_object

INGRESSES = Check("PC-ING-001", "Ingresses")
_HINT = "kubectl describe ingress tells more in its Events; penstock lint FILES tells it before"


def ingresses(cluster: Cluster) -> Iterator[Finding]:
    """Judge Ingresses by what they say, and by whether they have an address."""
    if not cluster.is_installed:
        return
    if nobody_serves(cluster):
        yield INGRESSES.unserved()
        return
    listed = [cluster[name] for name in ("ingresses", "ingressclasses")]
    refused = [one.refused for one in listed if one.refused]
    if refused:
        yield INGRESSES.skip(f"Ingresses cannot be read: {refused[0]}")
        return
    every, classes = ((item for item in one.items) for one in listed)
    known = {one.metadata.name: one for one in (_read(IngressClass, item) for item in classes)}
    bad: list[str] = []
    served = 0
    for item in every:
        complaint = _complaint(item, known)
        if complaint:
            bad.append(f"{name_of(item)}: {complaint}")
        served += complaint == ""
    if bad:
        yield INGRESSES.warn(shorten(bad), _HINT, bad)
    else:
        yield INGRESSES.ok(f"{served} served as written")


def _read(kind: type[Object], item: Json) -> Decoded:
    """Return an item of a list as controllers read it."""
    raw = msgspec.Raw(msgspec.json.encode(item))
    return examine(kind, read_object(kind, API_VERSIONS[0], raw, read_metadata(raw))).object


def _complaint(item: Json, classes: Mapping[str, Decoded]) -> str | None:
    """Return the worst of what is wrong with an Ingress, "" if nothing is; None if not ours."""
    ingress = _read(Ingress, item)
    ours = {name: one for name, one in classes.items() if isinstance(one, IngressClass)}
    if not isinstance(ingress, Ingress):
        named = (item.get("spec") or {}).get("ingressClassName")
        is_ours = named in ours and ours[named].is_ours
        return _worst(ingress.problems) if isinstance(ingress, Broken) and is_ours else None
    if class_of(ingress, ours) is None:
        return _why_nobodys(ingress, classes)
    has = ((item.get("status") or {}).get("loadBalancer") or {}).get("ingress")
    return _worst(problems(ingress)) or ("" if has else "it has no address")


def _why_nobodys(ingress: Ingress, classes: Mapping[str, Decoded]) -> str | None:
    """Return why nobody serves an Ingress that is not ours; None if others may."""
    name = ingress.class_name
    if name is not None:
        return None if name in classes else f"IngressClass {name} does not exist"
    defaults = [one for one in classes.values() if isinstance(one, IngressClass) and one.is_default]
    return None if defaults else "it names no class, and there is no default one"


def _worst(found: Iterable[Problem]) -> str:
    """Return the first error, else the first warning, and how many more there are."""
    ordered = sorted(found, key=lambda one: one.severity is not Severity.ERROR)
    if not ordered:
        return ""
    more = f" (and {len(ordered) - 1} more)" if len(ordered) > 1 else ""
    return f"{ordered[0].path}: {ordered[0].message}{more}"
