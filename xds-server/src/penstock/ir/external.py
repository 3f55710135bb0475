"""Backends that are no Services: places outside of the cluster, and pods by their labels.

Source: Gateway API, XBackend.
"""

from __future__ import annotations

import enum

import msgspec

from penstock.ir.backend_tls import BackendTls
from penstock.ir.route import ServicePort
from penstock.ir.session import Session
from penstock.meta.names import NamespacedName, Origin

_MARK = "~"
"""Before the name of an XBackend where a Service could stand; no Service is named like that."""


class Spoken(enum.Enum):
    """What a place is spoken to in."""

    ANY = "any"
    """What the route is about: calls of gRPC are HTTP/2, other requests HTTP/1.1."""
    HTTP1 = "HTTP/1.1"
    HTTP2 = "HTTP/2"
    BYTES = "TCP"
    """Connections as they are; no requests."""


class External(msgspec.Struct, frozen=True, kw_only=True):
    """A name in DNS, and what is spoken there."""

    hostname: str
    port: int
    spoken: Spoken = Spoken.ANY
    tls: BackendTls | None = None
    origin: Origin


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """The ready pods of a namespace with certain labels, and what is spoken to them."""

    namespace: str
    labels: tuple[tuple[str, str], ...]
    """What a pod must have, at least one, sorted."""
    port: int
    spoken: Spoken = Spoken.ANY
    tls: BackendTls | None = None
    session: Session | None = None
    origin: Origin


Place = External | Selected


def shows_certificate(place: Place) -> bool:
    """Return whether *place* is shown a certificate: from where its key may be, so at Gateways."""
    return place.tls is not None and place.tls.certificate is not None


def target_of_xbackend(name: NamespacedName) -> ServicePort:
    """Return what stands for the pods of an XBackend where a port of a Service could.

    It is the same whichever port they are asked on, so that their clusters are, too.
    """
    return ServicePort(NamespacedName(name.namespace, _MARK + name.name), 0)


def xbackend_of(service: NamespacedName) -> NamespacedName | None:
    """Return the XBackend that stands in the place of a Service; None if that is one."""
    if not service.name.startswith(_MARK):
        return None
    return NamespacedName(service.namespace, service.name.removeprefix(_MARK))
