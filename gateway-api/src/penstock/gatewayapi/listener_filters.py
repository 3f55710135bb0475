"""Filters of listeners: who is asked about every request before a route is chosen.

Source: Gateway API v1.7, ListenerFilters; GEP-5224.
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.gatewayapi.backends import References
from penstock.gatewayapi.effects import AuthFilter
from penstock.gatewayapi.external_auth import external_auth
from penstock.gatewayapi.filters import ListenerFilter
from penstock.gatewayapi.listener_tls import REF_NOT_PERMITTED
from penstock.gatewayapi.resources import Listener
from penstock.ir.route import ExternalAuth, InvalidBackend
from penstock.meta.names import ObjectRef, Origin

INVALID_LISTENER_FILTER_REF = "InvalidListenerFilterRef"

Asked = tuple[ExternalAuth | InvalidBackend, ...]
"""Who is asked about the requests to a listener, in order; an InvalidBackend lets nothing pass."""


def filters_of(listener: Listener) -> tuple[ListenerFilter, ...]:
    """Return the filters of *listener*, in order."""
    return listener.filters.requests if listener.filters is not None else ()


def unsupported_filter(listener: Listener) -> str:
    """Return which filter of *listener* is not served, and why; "" if all are."""
    for index, one in enumerate(filters_of(listener)):
        if one.external_auth is None:
            return f"{_path(index)}: {_unsupported(one)}"
    return ""


def asked_before_routing(listener: Listener, holder: ObjectRef, references: References) -> Asked:
    """Return who is asked about the requests to a listener, for each of its filters somebody.

    Args:
        listener: the listener.
        holder: whose it is; it refers to the servers.
        references: how these are found.
    """
    here = Origin(holder)
    return tuple(
        InvalidBackend(
            reason=INVALID_LISTENER_FILTER_REF,
            message=_unsupported(one),
            origin=here.at(f"{_path(index)}.extensionRef"),
        )
        if one.external_auth is None
        else external_auth(AuthFilter(one.external_auth, _path(index)), here, references)
        for index, one in enumerate(filters_of(listener))
    )


def _path(index: int) -> str:
    return f"filters.requests[{index}]"


def _unsupported(one: ListenerFilter) -> str:
    ref = one.extension_ref
    named = "" if ref is None else f" {ref.group}/{ref.kind} {ref.name}"
    return f"{one.type}{named} is not supported; use ExternalAuth"


def unresolved(asked: Asked) -> tuple[InvalidBackend, ...]:
    """Return those of *asked* that are not known."""
    return tuple(one for one in asked if isinstance(one, InvalidBackend))


def reason_of(invalid: InvalidBackend) -> str:
    """Return the reason of the condition ResolvedRefs because of a filter."""
    refused = invalid.reason == REF_NOT_PERMITTED
    return REF_NOT_PERMITTED if refused else INVALID_LISTENER_FILTER_REF


def described(found: Iterable[InvalidBackend]) -> str:
    """Return what is wrong with filters, each with its path below the listener."""
    return "; ".join(f"{one.origin.path}: {one.message}" for one in found)
