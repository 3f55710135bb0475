"""How annotations of ingress-nginx have endpoints met: HTTP/2, and TLS.

ingress-nginx believes any certificate unless `proxy-ssl-verify` is on; so does this, and tells it.
What is asked for and cannot be kept closes.
"""

from __future__ import annotations

import re

from penstock.ingress.reader import NGINX, Reader
from penstock.ir.upstream import Upstream, UpstreamTls
from penstock.meta.names import NamespacedName

_PROTOCOLS = ("HTTP", "HTTPS", "GRPC", "GRPCS")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
_ON, _OFF = {"on", "true"}, {"off", "false", ""}


def upstream(reader: Reader, namespace: str) -> Upstream | None:
    """Return how endpoints are met, None if as their Service says.

    Args:
        reader: the annotations.
        namespace: of the Ingress.
    """
    protocol = (reader.text(NGINX + "backend-protocol") or "HTTP").upper()
    tls = _tls(reader, namespace)
    if protocol not in _PROTOCOLS:
        text = f"{protocol} is not spoken to backends; use one of {', '.join(_PROTOCOLS)}"
        reader.close(NGINX + "backend-protocol", text)
        return None
    if protocol == "HTTP":
        return None
    secured = protocol in ("HTTPS", "GRPCS")
    if secured and not tls.verified:
        text = "certificates of backends are not looked at: whoever answers is believed"
        hint = "so it is with ingress-nginx; use proxy-ssl-verify, or a BackendTLSPolicy"
        reader.tell(NGINX + "backend-protocol", text, hint)
    return Upstream(http2=protocol.startswith("GRPC"), tls=tls if secured else None)


def _tls(reader: Reader, namespace: str) -> UpstreamTls:
    secret = _secret(reader, namespace)
    verified = _switch(reader, "proxy-ssl-verify")
    if verified and secret is None:
        text = "without proxy-ssl-secret there is nobody to believe"
        reader.close(NGINX + "proxy-ssl-verify", text)
    name = (reader.text(NGINX + "proxy-ssl-name") or "").lower()
    if name and not _NAME.match(name):
        reader.close(NGINX + "proxy-ssl-name", f"{name!r} is not a hostname")
    return UpstreamTls(
        verified=verified,
        name=name,
        tells_name=_switch(reader, "proxy-ssl-server-name"),
        secret=secret,
    )


def _secret(reader: Reader, namespace: str) -> NamespacedName | None:
    given = reader.text(NGINX + "proxy-ssl-secret")
    if not given:
        return None
    where, _, name = given.partition("/")
    if where != namespace or not _NAME.match(name):
        text = f"{given!r} is not the name of a Secret here; write {namespace}/<name>"
        reader.close(NGINX + "proxy-ssl-secret", text)
        return None
    return NamespacedName(namespace, name)


def _switch(reader: Reader, short: str) -> bool:
    """Return whether an annotation is on; one that is neither on nor off closes."""
    given = (reader.text(NGINX + short) or "").lower()
    if given not in _ON | _OFF:
        reader.close(NGINX + short, f"{given!r} is neither on nor off")
    return given in _ON
