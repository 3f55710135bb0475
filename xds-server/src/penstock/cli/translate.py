"""`penstock translate`: the resources that a folder of YAML becomes; needs no right, no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import Message

from penstock.cli.columns import Item
from penstock.cli.compiled import compile_files
from penstock.cli.formats import Format
from penstock.cli.offline import items
from penstock.cli.output import complain, show_table, show_value
from penstock.compiler.kinds import STATUS_KINDS
from penstock.envoy.tls import redacted
from penstock.meta.errors import PenstockError
from penstock.pb.envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from penstock.xds import types
from penstock.xds.resource import Resource


def translate(folder: Path, form: Format, node: str = "") -> int:
    """Show what *folder* becomes for a node and return the exit status.

    Args:
        folder: or a single file.
        form: JSON or YAML for everything, a table for the names.
        node: "" is the only node there is.
    """
    compiled = compile_files([folder])
    for problem in compiled.loaded.problems:
        complain(str(problem))
    name = node or compiled.nodes[0]
    if name not in compiled.nodes:
        raise PenstockError(f"there is no node {name!r}; there are: {', '.join(compiled.nodes)}")
    resources = compiled.compiler.resources(name)
    if form in (Format.JSON, Format.YAML):
        show_value({"node": name, "resources": [as_json(one) for one in resources]}, form)
    else:
        show_table(
            ("TYPE", "NAME", "VERSION", "FROM"),
            [
                (types.short(one.type_url), one.name, one.version, ", ".join(map(str, one.origins)))
                for one in resources
            ],
        )
    return int(any(problem.is_error for problem in compiled.loaded.problems))


def statuses(folder: Path, form: Format) -> int:
    """Show the statuses that the objects in *folder* would have and return the exit status."""
    compiled = compile_files([folder], assume_classes=True)
    for problem in compiled.loaded.problems:
        complain(str(problem))
    for assumed in compiled.assumed:
        if assumed.users:
            complain(assumed.text)
    found = [item for item in items(compiled) if item.get("status") and _has_ours(item)]
    if form in (Format.JSON, Format.YAML):
        show_value({"items": [_status_alone(item) for item in found]}, form)
    else:
        rows = [row for item in found for row in _conditions(item)]
        show_table(("OBJECT", "AT", "CONDITION", "STATUS", "REASON", "MESSAGE"), rows)
    return int(any(problem.is_error for problem in compiled.loaded.problems))


def _has_ours(item: Item) -> bool:
    return item["kind"] in STATUS_KINDS


def _status_alone(item: Item) -> Item:
    names = ("namespace", "name", "generation")
    metadata = {name: item["metadata"][name] for name in names if item["metadata"].get(name)}
    head = {name: item[name] for name in ("apiVersion", "kind")}
    return {**head, "metadata": metadata, "status": item["status"]}


def _conditions(item: Item) -> Iterator[tuple[str, ...]]:
    """Yield a row for each condition of an object."""
    meta, status = item["metadata"], item["status"]
    name = "/".join(filter(None, (meta.get("namespace"), meta["name"])))
    about = f"{item['kind']} {name}"
    places = [("-", status)]
    places += [(str(one["parentRef"].get("name")), one) for one in status.get("parents") or ()]
    places += [(str(one["ancestorRef"].get("name")), one) for one in status.get("ancestors") or ()]
    places += [(str(one["name"]), one) for one in status.get("listeners") or ()]
    for place, holder in places:
        for one in holder.get("conditions") or ():
            yield about, place, one["type"], one["status"], one["reason"], one["message"] or "-"


def as_json(resource: Resource) -> dict[str, Any]:
    """Return a resource with its message as the proto3 JSON mapping writes it, keys sorted."""
    return {
        "type": types.short(resource.type_url),
        "name": resource.name,
        "version": resource.version,
        "origins": [str(origin) for origin in resource.origins],
        "needs": [str(need) for need in sorted(resource.needs)],
        "resource": _sorted(json_format.MessageToDict(shown(message_of(resource)))),
    }


def shown(message: Message) -> Message:
    """Return what people may see of a message: all but private keys."""
    return redacted(message) if isinstance(message, secret_pb2.Secret) else message


def message_of(resource: Resource) -> Message:
    """Return the message that a resource holds."""
    name = resource.type_url.rpartition("/")[2]
    descriptor = descriptor_pool.Default().FindMessageTypeByName(name)
    return message_factory.GetMessageClass(descriptor).FromString(resource.body)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_sorted(one) for one in value]
    return value
