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


def auth_filters(listener: Listener) -> tuple[AuthFilter, ...]:
    """Return the filters of *listener* that ask, in order, with their paths below it."""
    return tuple(
        AuthFilter(one.external_auth, f"filters.requests[{index}]")
        for index, one in enumerate(_given(listener))
        if one.external_auth is not None
    )


def unsupported_filter(listener: Listener) -> str:
    """Return which filter of *listener* is not served, and why; "" if all are."""
    for index, one in enumerate(_given(listener)):
        if one.extension_ref is not None:
            ref = one.extension_ref
            text = f"ExtensionRef to {ref.kind} {ref.name} of group {ref.group!r} is not supported"
            return f"filters.requests[{index}]: {text}; use ExternalAuth"
    return ""


def _given(listener: Listener) -> tuple[ListenerFilter, ...]:
    return listener.filters.requests if listener.filters is not None else ()


def asked_before_routing(listener: Listener, holder: ObjectRef, references: References) -> Asked:
    """Return who is asked about the requests to a listener.

    Args:
        listener: the listener.
        holder: whose it is; it refers to the servers.
        references: how these are found.
    """
    here = Origin(holder)
    return tuple(external_auth(one, here, references) for one in auth_filters(listener))


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
