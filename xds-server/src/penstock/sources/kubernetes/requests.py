"""What a reflector asks for next."""

from __future__ import annotations

from urllib.parse import urlencode

import msgspec

from penstock.meta.back_off import BackOff
from penstock.meta.names import NamespacedName


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes and times; all times in seconds."""

    page_size: int = 2500
    stream_snapshots: bool = True
    """Whether to ask for a snapshot as a watch, of which the server keeps no more than an event."""
    first_as_list: bool = False
    """Whether the first snapshot is a list all the same, in one piece."""
    watch_shortest: float = 300.0
    watch_longest: float = 600.0
    """A watch is asked to last a random time between these."""
    margin: float = 10.0
    """How much longer than asked a watch may last before it counts as stalled."""
    quiet: float = 150.0
    """Longest silence of a server that has ever sent a bookmark: it sends one each minute, but of a
    kind that nobody changes the first one may come after two."""
    answer: float = 60.0
    """Longest silence before and within any other answer."""
    back_off: BackOff = BackOff()
    between_snapshots: float = 30.0
    """Snapshots of one kind are on average so far apart,"""
    snapshots_in_a_row: int = 3
    """except for a few."""
    absent: float = 5.0
    """A kind that the server does not know is asked for again after once to twice so long."""
    vanished: float = 30.0
    """How long a kind must be unknown to the server before its known objects count as gone."""
    denied: float = 5.0
    """Pause after a refusal that only people can change."""


DEFAULT_PACE = Pace()


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Which objects of a kind are asked for."""

    namespace: str = ""
    """ "" for all."""
    fields: str = ""
    """Field selector, as "spec.nodeName=n1"."""
    labels: str = ""
    """Label selector, as "app=web"."""

    @property
    def query(self) -> dict[str, str]:
        """Return the selectors as they stand in a URL."""
        selectors = {"fieldSelector": self.fields, "labelSelector": self.labels}
        return {name: text for name, text in selectors.items() if text}


EVERYTHING = Scope()


class Pause(msgspec.Struct, frozen=True):
    """Nothing, for a while."""

    seconds: float


class ListRequest(msgspec.Struct, frozen=True):
    """One page of a list, or with a limit of 1 the version that the server is at."""

    api_version: str
    resource: str
    limit: int
    """0 for everything at once."""
    continue_: str = ""
    scope: Scope = EVERYTHING

    @property
    def target(self) -> str:
        """Return path and query."""
        query = {"limit": str(self.limit)} if self.limit else {}
        if self.continue_:
            query["continue"] = self.continue_
        return _target(self.api_version, self.resource, query, self.scope)


class WatchRequest(msgspec.Struct, frozen=True):
    """Changes after a version, or if that is "" the present state and then its changes."""

    api_version: str
    resource: str
    resource_version: str
    timeout_seconds: int
    scope: Scope = EVERYTHING

    @property
    def target(self) -> str:
        """Return path and query."""
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self.timeout_seconds),
        }
        if self.resource_version:
            query["resourceVersion"] = self.resource_version
        else:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        return _target(self.api_version, self.resource, query, self.scope)


Request = ListRequest | WatchRequest


def resource_of(kind: str) -> str:
    """Return the name of a kind in URLs, as "httproutes" for "HTTPRoute"."""
    name = kind.lower()
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith(("s", "x", "ch", "sh")) else f"{name}s"


def object_target(api_version: str, kind: str, name: NamespacedName) -> str:
    """Return the path of one object; *name* has no namespace if the kind has none."""
    scope = Scope(namespace=name.namespace)
    return _target(api_version, f"{resource_of(kind)}/{name.name}", {}, scope)


def _target(api_version: str, resource: str, query: dict[str, str], scope: Scope) -> str:
    root = "apis" if "/" in api_version else "api"
    place = f"namespaces/{scope.namespace}/" if scope.namespace else ""
    path = f"/{root}/{api_version}/{place}{resource}"
    query |= scope.query
    return f"{path}?{urlencode(query)}" if query else path
