"""What annotations of ingress-nginx let requests pass before they are served.

`auth-url` names a Service of the cluster. What cannot be read closes the Ingress.
"""

from __future__ import annotations

import ipaddress
import re

from penstock.ingress.reader import NGINX, Reader
from penstock.ir.route import Guards, RateLimit, ServicePort, Subrequest
from penstock.meta.names import NamespacedName

HTTP_PORT = 80
DEFAULT_BURST = 5
_EVERYBODY = {"0.0.0.0/0", "::/0"}
"""cert-manager writes this to the Ingresses of its solvers."""
_URL = re.compile(
    r"http://(?P<name>[a-z0-9-]{1,63})\.(?P<namespace>[a-z0-9-]{1,63})"
    r"(\.svc(\.[a-z0-9.-]{1,180})?)?(:(?P<port>[0-9]{1,5}))?(?P<path>/[!#%-\[\]-~]*)?\Z"
)
_SIGNIN = re.compile(r"https?://[!#-\[\]-~]+\Z")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_]*)")
_VARIABLES = frozenset({"scheme", "host", "http_host", "request_uri", "escaped_request_uri"})
_RETURN = "$scheme://$http_host$escaped_request_uri"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "OPTIONS"})
_NAME = re.compile(r"[A-Za-z0-9-]+\Z")
_LIMIT = re.compile(r"-?[0-9]{1,9}\Z")
_SIZE = re.compile(r"(?P<number>[0-9]{1,9})(?P<unit>[kKmMgG]?)\Z")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def guards(reader: Reader) -> Guards:
    """Return what requests have to pass."""
    allowed = _networks(reader, "whitelist-source-range") or _networks(
        reader, "allowlist-source-range"
    )
    return Guards(
        sources=() if set(allowed) >= _EVERYBODY else allowed,
        denied_sources=_networks(reader, "denylist-source-range"),
        limits=_limits(reader),
        unlimited=_unlimited(reader),
        max_body=_max_body(reader),
        auth=_auth(reader),
    )


def _networks(reader: Reader, short: str) -> tuple[str, ...]:
    name = NGINX + short
    found: list[str] = []
    for one in _listed(reader.text(name)):
        network = _network(one)
        if network is None:
            reader.close(name, f"{one!r} is not a network")
        else:
            found.append(network)
    return tuple(dict.fromkeys(found))


def _limits(reader: Reader) -> tuple[RateLimit, ...]:
    """Return how often a client may ask."""
    times = reader.number(NGINX + "limit-burst-multiplier") or DEFAULT_BURST
    if _limit(reader, "limit-connections"):
        text = "requests under way are not counted by client; use limit-rps"
        reader.close(NGINX + "limit-connections", text)
    given = ((_limit(reader, "limit-rps"), 1), (_limit(reader, "limit-rpm"), 60))
    return tuple(
        RateLimit(requests=requests, seconds=seconds, burst=requests * times)
        for requests, seconds in given
        if requests
    )


def _limit(reader: Reader, short: str) -> int:
    """Return a limit, 0 if there is none; one that cannot be read closes."""
    given = reader.text(NGINX + short)
    if given is not None and not _LIMIT.match(given):
        reader.close(NGINX + short, f"{given!r} is not a number")
    return 0 if given is None or not _LIMIT.match(given) else max(0, int(given))


def _unlimited(reader: Reader) -> tuple[str, ...]:
    name = NGINX + "limit-whitelist"
    found: list[str] = []
    for one in _listed(reader.text(name)):
        network = _network(one)
        if network is None:
            reader.tell(name, f"{one!r} is not a network", "its clients are limited as others are")
        else:
            found.append(network)
    return tuple(dict.fromkeys(found))


def _listed(text: str | None) -> list[str]:
    return [one.strip() for one in (text or "").split(",") if one.strip()]


def _network(text: str) -> str | None:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return None


def _max_body(reader: Reader) -> int:
    name = NGINX + "proxy-body-size"
    given = reader.text(name)
    if given is None:
        return 0
    size = _SIZE.match(given)
    if size is None:
        reader.tell(name, f"{given!r} is not a size", "there is no limit; write 8m")
        return 0
    return int(size["number"]) * _UNITS[size["unit"].lower()]


def _auth(reader: Reader) -> Subrequest | None:
    url = reader.text(NGINX + "auth-url")
    if url is None:
        return None  # all else that begins with "auth-" closes
    found = _URL.match(url)
    port = int(found["port"] or HTTP_PORT) if found is not None else 0
    method = (reader.text(NGINX + "auth-method") or "GET").upper()
    if found is None or not 0 < port < 1 << 16:
        text = f"{url!r} is not served; write http://<service>.<namespace>.svc:<port>/<path>"
        reader.close(NGINX + "auth-url", text)
        return None
    if method not in _METHODS:
        reader.close(NGINX + "auth-method", f"{method!r} is not served")
    return Subrequest(
        target=ServicePort(NamespacedName(found["namespace"], found["name"]), port),
        host=url.removeprefix("http://").partition("/")[0],
        path=found["path"] or "/",
        method=method,
        signin=_signin(reader),
        response_headers=_copied(reader),
    )


def _signin(reader: Reader) -> str:
    name = NGINX + "auth-signin"
    back = reader.text(NGINX + "auth-signin-redirect-param") or "rd"
    given = reader.text(name)
    if given is None:
        return ""
    unknown = set(_VARIABLE.findall(given)) - _VARIABLES
    if unknown or "${" in given or not _SIGNIN.match(given) or not _NAME.match(back):
        reader.tell(name, f"{given!r} is not served", "clients are answered 401")
        return ""
    if f"{back}=" in given.partition("?")[2]:
        return given
    return f"{given}{'&' if '?' in given else '?'}{back}={_RETURN}"


def _copied(reader: Reader) -> tuple[str, ...]:
    name = NGINX + "auth-response-headers"
    found: list[str] = []
    for one in _listed(reader.text(name)):
        header = one.lower()
        if _NAME.match(header):
            found.append(header)
        else:
            reader.tell(name, f"{header!r} is not a name", "it is left out")
    return tuple(dict.fromkeys(found))
