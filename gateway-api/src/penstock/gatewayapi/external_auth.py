"""Translate the filter ExternalAuth: who is asked whether a request may pass.

Source: Gateway API v1.7, HTTPExternalAuthFilter; GEP-1494.
"""

from __future__ import annotations

from penstock.gatewayapi.backends import References, Unresolved, invalid, referrer_of, resolve_port
from penstock.gatewayapi.effects import AuthFilter
from penstock.gatewayapi.filters import GRPCAuthConfig, HTTPAuthConfig
from penstock.ir.route import ExternalAuth, InvalidBackend
from penstock.meta.names import Origin


def external_auth(
    filter_: AuthFilter, origin: Origin, references: References
) -> ExternalAuth | InvalidBackend:
    """Return whom a filter asks, and what it shows.

    Args:
        filter_: the filter.
        origin: its rule.
        references: how backends are found.
    """
    given = filter_.given
    found = resolve_port(given.backend_ref, referrer_of(origin), references)
    if isinstance(found, Unresolved):
        here = Origin(origin.object, f"{filter_.path}.externalAuth.backendRef")
        return invalid(found, here, 0)
    body = given.forward_body
    by_grpc, by_http = given.grpc or GRPCAuthConfig(), given.http or HTTPAuthConfig()
    grpc = given.protocol == "GRPC"
    shown = by_grpc.allowed_headers if grpc else by_http.allowed_headers
    return ExternalAuth(
        target=found,
        grpc=grpc,
        path=(by_http.path or "").rstrip("/"),
        headers=_names(shown),
        response_headers=_names(by_http.allowed_response_headers),
        max_body=0 if body is None else body.max_size or 0,
    )


def _names(headers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({name.lower() for name in headers}))
