"""What is done about an object that we generate, after a look at how it is.

Objects are applied by the server (server-side apply), so that what others add stays. A hash of all
that we said last is written with it: then what is equal is not written again, and what we do not
say any more is noticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from penstock.gatewayapi.generated import GENERATED_FOR, Generated

APPLIED = "penstock.dev/applied"
"""Annotation with the hash."""
MANAGER = "penstock"
"""Field manager of what we apply."""
Json = dict[str, Any]


class Keep(msgspec.Struct, frozen=True):
    """It is as it should be, or not ours to touch."""

    foreign: bool = False
    """Whether somebody else has the name."""


class Create(msgspec.Struct, frozen=True):
    """It is not there: apply it, but not over one that came meanwhile."""

    body: Json


class Apply(msgspec.Struct, frozen=True):
    """It is ours and different."""

    body: Json
    """With uid and resourceVersion of what was read."""


class Mend(msgspec.Struct, frozen=True):
    """Others added what must not be there, which applying does not remove."""

    patch: Json
    """A JSON merge patch."""


class Delete(msgspec.Struct, frozen=True):
    """It is ours and not wanted any more."""

    options: Json
    """DeleteOptions: nothing but what was read is deleted."""


Step = Keep | Create | Apply | Mend | Delete


def step(live: Json | None, wanted: Generated | None) -> Step:
    """Return what is to be done.

    Args:
        live: the object as the server has it; None if it is not there.
        wanted: as it should be; None for not at all.
    """
    if live is None:
        return Keep() if wanted is None else Create(_marked(wanted))
    if live["metadata"].get("deletionTimestamp"):
        return Keep()
    return _unwanted(live["metadata"]) if wanted is None else _changed(live, wanted)


def _unwanted(metadata: Json) -> Step:
    if GENERATED_FOR not in (metadata.get("labels") or {}) or not _is_applied(metadata):
        return Keep(foreign=True)
    known = {name: metadata.get(name) for name in ("uid", "resourceVersion")}
    return Delete({"preconditions": known})


def _is_applied(metadata: Json) -> bool:
    """Return whether we applied it: a copy that somebody made has the label, too."""
    fields = metadata.get("managedFields") or ()
    return any((one.get("manager"), one.get("operation")) == (MANAGER, "Apply") for one in fields)


def _changed(live: Json, wanted: Generated) -> Step:
    metadata = live["metadata"]
    if not _is_ours(metadata, wanted):
        return Keep(foreign=True)
    body = _marked(wanted)
    read = {name: metadata.get(name, "") for name in ("uid", "resourceVersion")}
    if not _holds(body, live):
        return Apply(body | {"metadata": body["metadata"] | read})
    surplus = _surplus(live, wanted)
    return Mend(surplus | {"metadata": read}) if surplus else Keep()


def _is_ours(metadata: Json, wanted: Generated) -> bool:
    """Return whether we made it for the same purpose, even if somebody took the label away."""
    value = wanted.body["metadata"]["labels"][GENERATED_FOR]
    if (metadata.get("labels") or {}).get(GENERATED_FOR) == value:
        return True
    owners = metadata.get("ownerReferences") or ()
    return bool(wanted.owner) and any(one.get("uid") == wanted.owner for one in owners)


def _marked(wanted: Generated) -> Json:
    """Return a copy of what we say, with its hash."""
    text = msgspec.json.encode(wanted.body, order="deterministic")
    digest = hashlib.sha256(text).hexdigest()[:16]
    metadata = wanted.body["metadata"]
    annotations = metadata.get("annotations", {}) | {APPLIED: digest}
    return wanted.body | {"metadata": metadata | {"annotations": annotations}}


def _holds(said: Any, live: Any) -> bool:
    """Return whether everything that we say is so; lists of ports and owners may have more."""
    if isinstance(said, dict):
        return isinstance(live, dict) and all(
            name in live and _holds(value, live[name]) for name, value in said.items()
        )
    if isinstance(said, list):
        return isinstance(live, list) and all(_among(one, live) for one in said)
    return bool(said == live)


def _among(one: Any, live: Iterable[Any]) -> bool:
    return any(_holds(one, other) for other in live)


def _surplus(live: Json, wanted: Generated) -> Json:
    """Return a merge patch that takes away what would lead elsewhere; {} for nothing."""
    if wanted.body["kind"] != "Service":
        lists = [name for name in ("endpoints", "ports") if _longer(live, wanted.body, name)]
        return {name: wanted.body[name] for name in lists}
    spec: Json = {}
    if live["spec"].get("selector"):
        spec["selector"] = None
    if _longer(live["spec"], wanted.body["spec"], "ports"):
        wanted_ports = wanted.body["spec"]["ports"]
        spec["ports"] = [
            one for one in live["spec"]["ports"] if any(_holds(port, one) for port in wanted_ports)
        ]
    return {"spec": spec} if spec else {}


def _longer(live: Json, said: Json, name: str) -> bool:
    return len(live.get(name) or ()) > len(said[name])
