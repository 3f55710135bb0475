"""How an Ingress with an entry to itself wants the Service to be by which a cloud reaches it.

Source: Cilium, annotations `ingress.cilium.io/service-type` and others beside it.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from penstock.gatewayapi.generated import Exposed
from penstock.ingress.reader import Reader

_CLASS = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}\w)?\Z", re.ASCII
)
_PORTS = {"insecure-node-port": 80, "secure-node-port": 443}
_MOST = (1 << 16) - 1


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, and by which annotations."""

    exposed: Exposed = Exposed()
    by: tuple[str, ...] = ()
    host_port: int = 0
    """Port at the nodes, where they share their addresses; 0 is 80 and 443."""
    host_port_by: str = ""


def asked(reader: Reader, *, dedicated: bool) -> Asked:
    """Return how the Service is to be.

    Args:
        reader: the annotations.
        dedicated: whether the Ingress has an entry to itself; others share their Service.
    """
    _without_effect(reader)
    kind, class_ = reader.cilium("service-type"), reader.cilium("loadbalancer-class")
    ports = {port: reader.cilium(short) for short, port in _PORTS.items()}
    host = reader.cilium("host-listener-port")
    given = tuple(name for name, value in (kind, class_, *ports.values()) if value is not None)
    alone = (*given, *([host[0]] if host[1] is not None else []))
    if alone and not dedicated:
        for name in alone:
            hint = "it is without effect; write loadbalancer-mode: dedicated"
            reader.tell(name, "is for an Ingress with an address to itself", hint)
        return Asked()
    exposed = Exposed(
        type=_type(reader, *kind),
        load_balancer_class=_class(reader, *class_),
        node_ports=_node_ports(reader, ports),
    )
    port = _port(reader, *host)
    return Asked(exposed=exposed, by=given, host_port=port, host_port_by=host[0] if port else "")


def _without_effect(reader: Reader) -> None:
    name, value = reader.cilium("service-external-traffic-policy")
    if value not in (None, "Cluster"):
        text = f"{value} is not served: every node serves by itself, none hands on"
        reader.tell(name, text, "it is without effect; servers see the address of Envoy")


def _port(reader: Reader, name: str, value: str | None) -> int:
    """Return the port that an annotation says; 0 if it says none."""
    number = int(value) if value and re.fullmatch(r"[0-9]{1,5}", value) else 0
    if value is not None and not 0 < number <= _MOST:
        reader.tell(name, f"{value!r} is not a port", "it is without effect")
        return 0
    return number


def _type(reader: Reader, name: str, value: str | None) -> Literal["LoadBalancer", "NodePort"]:
    if value == "NodePort":
        return "NodePort"
    if value not in (None, "LoadBalancer"):
        text = f"{value!r} is neither LoadBalancer nor NodePort"
        reader.tell(name, text, "it is LoadBalancer")
    return "LoadBalancer"


def _class(reader: Reader, name: str, value: str | None) -> str:
    if value and not _CLASS.match(value):
        reader.tell(name, f"{value!r} is not a class", "it is without effect")
        return ""
    return value or ""


def _node_ports(
    reader: Reader, given: dict[int, tuple[str, str | None]]
) -> tuple[tuple[int, int], ...]:
    found: dict[int, int] = {}
    for port, (name, value) in given.items():
        number = _port(reader, name, value)
        if number in found.values():
            reader.tell(name, f"{number} is the other port already", "it is without effect")
        elif number:
            found[port] = number
    return tuple(found.items())
