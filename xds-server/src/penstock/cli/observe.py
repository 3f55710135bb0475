"""`penstock observe`: one line for each request and each denied connection."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import msgspec

from penstock.cli import client
from penstock.cli.answers import FlowView, PeerView
from penstock.cli.client import ApiClient, NotRunningError
from penstock.cli.formats import Format
from penstock.cli.output import complain, say
from penstock.ir.policy import Reserved
from penstock.lab.state import read_state
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths
from penstock.meta.problems import Location

FOLLOW_LAST, LAST = 0, 20
_LONGEST_QUERY = 4096
_RESERVED = {one.value: one.name.lower().replace("_", "-") for one in Reserved if one}
_VERDICTS = {"FORWARDED": "ALLOWED", "REDIRECTED": "TO ENVOY"}
_KNOWN_VERDICTS = frozenset({"", "ALLOWED", "DENIED", "ERROR", "TO ENVOY", *_VERDICTS})


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which flows to show."""

    pod: str = ""
    """Name or beginning of the name of source or destination, or "namespace/name"."""
    verdict: str = ""
    """DENIED, ALLOWED, ERROR; "" is all but what the kernel hands to Envoy, which tells more."""

    def matches(self, flow: FlowView) -> bool:
        """Tell whether to show *flow*."""
        if self.verdict:
            shown = _VERDICTS.get(flow.verdict, flow.verdict)
            if self.verdict.upper() not in (shown, flow.verdict):
                return False
        elif flow.verdict == "REDIRECTED":
            return False
        ends = (flow.source, flow.destination)
        return not self.pod or any(_is_pod(end, self.pod) for end in ends)


class Places:
    """Where the objects that decided are written; asked for once each."""

    def __init__(self, controller: ApiClient) -> None:
        """Ask *controller*, which need not run."""
        self._controller = controller
        self._known: dict[str, Location | None] = {}

    def of(self, policy: str) -> Location | None:
        """Return the place of "Kind namespace/name path", None if it is in no file."""
        if policy not in self._known:
            self._known[policy] = self._ask(policy)
        return self._known[policy]

    def _ask(self, policy: str) -> Location | None:
        kind, _, rest = policy.partition(" ")
        name, _, path = rest.partition(" ")
        namespace, slash, short = name.rpartition("/")
        if not kind or not slash:
            return None
        query = {"kind": kind, "namespace": namespace, "name": short, "path": path}
        try:
            return self._controller.find("/v1/locate", Location, query)
        except PenstockError:
            return None


def observe(paths: RunPaths, wanted: Wanted, *, last: int, follow: bool, form: Format) -> int:
    """Show the last flows, then with *follow* each new one, until interrupted."""
    if wanted.verdict.upper() not in _KNOWN_VERDICTS:
        known = ", ".join(sorted(_KNOWN_VERDICTS - {""}))
        raise PenstockError(f"there is no verdict {wanted.verdict!r}; there are: {known}")
    places = Places(client.controller(paths))

    def show(flow: FlowView) -> None:
        say(as_json(flow, places) if form is Format.JSON else line(flow, places))

    found = past(paths, wanted, last)
    for flow in found:
        show(flow)
    if not found and (last or wanted.pod):
        complain(nothing(paths, wanted, follow=follow))
    if follow:
        try:
            for flow in _flows(paths, {"last": "0", "follow": "1"}):
                if wanted.matches(flow):
                    show(flow)
        except NotRunningError:
            raise PenstockError("the agent went away; `penstock status` tells more") from None
    return 0


def nothing(paths: RunPaths, wanted: Wanted, *, follow: bool) -> str:
    """Return what to say instead of flows, if there is none that is *wanted*.

    Raises:
        PenstockError: no pod of this lab is meant by its name, and none is waited for.
    """
    try:
        pods = [f"{one.namespace}/{one.name}" for one in read_state(paths).pods]
    except PenstockError:
        pods = []
    known = (
        full.startswith(wanted.pod) or full.partition("/")[2].startswith(wanted.pod)
        for full in pods
    )
    if wanted.pod and pods and not any(known):
        text = f"there is no pod {wanted.pod!r}; there are: {', '.join(sorted(pods))}"
        if not follow:
            raise PenstockError(text)
        return text
    whose = f" of pod {wanted.pod}" if wanted.pod else ""
    verdict = f" with verdict {wanted.verdict.upper()}" if wanted.verdict else ""
    return f"no flow{whose}{verdict} yet"


def past(paths: RunPaths, wanted: Wanted, count: int) -> list[FlowView]:
    """Return the last *count* flows that are *wanted*, oldest first."""
    if not count:
        return []
    flows = _flows(paths, {"last": str(_LONGEST_QUERY)})
    return [flow for flow in flows if wanted.matches(flow)][-count:]


def _flows(paths: RunPaths, query: dict[str, str]) -> Iterator[FlowView]:
    return client.agent(paths).lines("/v1/flows", FlowView, query, endless="follow" in query)


def line(flow: FlowView, places: Places) -> str:
    """Return a flow as one line."""
    when = dt.datetime.fromtimestamp(flow.time).astimezone()
    parts = [
        f"{when:%H:%M:%S}.{when.microsecond // 1000:03d}",
        f"{_end(flow.source)} → {_end(flow.destination, target=True)}",
        f"{_VERDICTS.get(flow.verdict, flow.verdict):<8}",
        _what(flow),
    ]
    decided = _decided(flow, places)
    if decided:
        parts.append("by " + ", ".join(decided))
    if flow.reason and flow.verdict in ("ERROR", "DENIED"):
        parts.append(f"({flow.reason})")
    return "  ".join(part for part in parts if part)


def as_json(flow: FlowView, places: Places) -> str:
    """Return a flow as one line of JSON, with the places of the policies."""
    content: dict[str, Any] = msgspec.to_builtins(flow)
    content["decided_by"] = [
        {"policy": policy, "location": str(place) if (place := places.of(policy)) else None}
        for policy in content.pop("policies")
    ]
    return msgspec.json.encode(content).decode()


def _what(flow: FlowView) -> str:
    if flow.method:
        return f"{flow.method} {flow.path} {flow.status or '-'}"
    return f"{flow.protocol} {flow.host}".rstrip()


def _decided(flow: FlowView, places: Places) -> list[str]:
    """Return the lines of YAML that decided.

    What is in no file, as that nothing enforces a direction, is told if there is nothing else.
    """
    written = [str(place) for one in flow.policies if (place := places.of(one)) is not None]
    return list(dict.fromkeys(written or flow.policies))


def _end(peer: PeerView, *, target: bool = False) -> str:
    port = f":{peer.port}" if target and peer.port else ""
    if peer.pod:
        return f"{peer.namespace}/{peer.pod}{port}"
    if peer.service:
        return f"{peer.service}{port}"
    known = _RESERVED.get(peer.identity, "")
    address = f"[{peer.address}]" if ":" in peer.address and port else peer.address
    return f"{known or 'unknown'}({address}{port})" if address else known or "unknown"


def _is_pod(peer: PeerView, name: str) -> bool:
    full = f"{peer.namespace}/{peer.pod}"
    return bool(peer.pod) and (peer.pod.startswith(name) or full.startswith(name))
