"""What the annotations of an Ingress ask for: those of ingress.cilium.io and of ingress-nginx.

What is not served is told. What restricts who may ask, and is not served, closes the rules of the
Ingress instead of opening them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Literal, get_args

import msgspec

from penstock.gatewayapi.rules import path_faults
from penstock.ingress.affinity import Affinity, affinity
from penstock.ingress.exposed import Asked
from penstock.ingress.exposed import asked as exposing
from penstock.ingress.guards import guards
from penstock.ingress.reader import NGINX, PREFIXES, Reader
from penstock.ingress.resources import Ingress
from penstock.ingress.upstream import upstream
from penstock.ir.route import NO_GUARDS, Guards
from penstock.ir.upstream import Upstream
from penstock.meta.problems import Problem

_DURATION = re.compile(r"([0-9]{1,5}(h|ms|m|s)){1,4}\Z")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+\Z")
_ORIGIN = re.compile(r"[a-z]+://(\*|(\*\.)?[a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?\Z")
CorsMethod = Literal[
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"
]
_SOURCES = ("whitelist-source-range", "allowlist-source-range", "denylist-source-range")
_LIMITS = ("limit-rps", "limit-rpm")
_METHODS: tuple[CorsMethod, ...] = get_args(CorsMethod)


class Cors(msgspec.Struct, frozen=True, kw_only=True):
    """Which pages of other origins may use the answers."""

    origins: tuple[str, ...] = ("*",)
    methods: tuple[CorsMethod, ...] = ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")
    headers: tuple[str, ...] = (
        "DNT", "Keep-Alive", "User-Agent", "X-Requested-With", "If-Modified-Since",
        "Cache-Control", "Content-Type", "Range", "Authorization",
    )  # fmt: skip
    exposed: tuple[str, ...] = ()
    credentials: bool = True
    max_age: int = 1728000


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests go to this Ingress' backends instead of those of another one."""

    header: str = ""
    value: str = ""
    """"" stands for "always"."""
    cookie: str = ""
    weight: int = 0
    total: int = 100


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the annotations of one Ingress come to."""

    dedicated: bool = False
    exposing: Asked = Asked()
    """How clouds are to reach it."""
    passthrough: bool = False
    redirect: bool | None = None
    """Whether HTTP is redirected to HTTPS; None: where there is a certificate."""
    request_timeout: str = ""
    """Of the whole exchange, as "90s"; "" is none."""
    idle_timeout_ms: int = 0
    """Longest silence of an exchange; 0 is the default."""
    rewrite: str = ""
    regex: bool = False
    cors: Cors | None = None
    canary: Canary | None = None
    affinity: Affinity | None = None
    upstream: Upstream | None = None
    """How endpoints are met; None is as their Service says."""
    guards: Guards = NO_GUARDS
    """What requests have to pass."""
    closed: str = ""
    """Why nobody is let in, "" if somebody is."""
    problems: tuple[Problem, ...] = ()


def options(ingress: Ingress) -> Options:
    """Return what the annotations of *ingress* ask for."""
    given = ingress.metadata.annotations.items()
    read = tuple(sorted(one for one in given if one[0].startswith(PREFIXES)))
    return _options(ingress.metadata.namespace, read)


@functools.lru_cache(maxsize=8192)
def _options(namespace: str, given: tuple[tuple[str, str], ...]) -> Options:
    """Read annotations; a namespace is looked at again whenever one of its Ingresses changes."""
    reader = Reader(dict(given))
    asked = _of_nginx(reader, _of_cilium(reader), namespace)
    if asked.passthrough:
        _unseen(reader, asked)
    reader.rest()
    return msgspec.structs.replace(
        asked, closed="; ".join(reader.closing), problems=tuple(reader.told)
    )


def _unseen(reader: Reader, asked: Options) -> None:
    """Tell what cannot be done with requests that nobody sees, and close what keeps them out."""
    guards = asked.guards
    sources = bool(guards.sources or guards.denied_sources)
    keeping = {
        **dict.fromkeys(_SOURCES, sources),
        **dict.fromkeys(_LIMITS, bool(guards.limits)),
        "auth-url": guards.auth is not None,
        "canary": asked.canary is not None,
    }
    acting = {
        "rewrite-target": bool(asked.rewrite),
        "enable-cors": asked.cors is not None,
        "affinity": asked.affinity is not None,
        "proxy-body-size": bool(guards.max_body),
        "proxy-read-timeout": bool(asked.idle_timeout_ms),
    }
    for short, given in (keeping | acting).items():
        name = NGINX + short
        if given and name in reader.given and short in keeping:
            reader.close(name, "TLS is passed on, and requests are not seen")
        elif given and name in reader.given:
            reader.tell(name, "TLS is passed on as it is", "it is without effect")
    if asked.request_timeout:
        name, _ = reader.cilium("request-timeout")
        reader.tell(name, "TLS is passed on as it is", "it is without effect")


def _of_cilium(reader: Reader) -> Options:
    name, mode = reader.cilium("loadbalancer-mode")
    if mode not in (None, "shared", "dedicated"):
        reader.tell(name, f"{mode!r} is neither shared nor dedicated", "it is shared")
    name, given = reader.cilium("tls-passthrough")
    of_cilium = reader.flag(name, given)
    of_nginx = reader.flag(NGINX + "ssl-passthrough", reader.text(NGINX + "ssl-passthrough"))
    passthrough = bool(of_nginx if of_cilium is None else of_cilium)
    name, timeout = reader.cilium("request-timeout")
    if timeout is not None and not _DURATION.match(timeout):
        reader.tell(name, f"{timeout!r} is not a duration", "there is no limit; write 90s")
        timeout = None
    dedicated = mode == "dedicated"
    return Options(
        dedicated=dedicated,
        exposing=exposing(reader, dedicated=dedicated),
        passthrough=passthrough,
        request_timeout=timeout or "",
    )


def _of_nginx(reader: Reader, asked: Options, namespace: str) -> Options:
    read = _short(reader)
    idle = max((reader.number(f"{NGINX}proxy-{one}-timeout") or 0) for one in ("read", "send"))
    rewrite = read("rewrite-target") or ""
    for fault in list(path_faults(rewrite))[:1] if rewrite else ():
        reader.close(NGINX + "rewrite-target", f"{rewrite!r} {fault}")
    return msgspec.structs.replace(
        asked,
        redirect=_redirect(reader),
        idle_timeout_ms=idle * 1000,
        rewrite=rewrite,
        regex=bool(reader.flag(NGINX + "use-regex", read("use-regex"))),
        cors=_cors(reader),
        canary=_canary(reader),
        affinity=affinity(reader),
        upstream=upstream(reader, namespace),
        guards=guards(reader),
    )


def _short(reader: Reader) -> Callable[[str], str | None]:
    return lambda name: reader.text(NGINX + name)


def _redirect(reader: Reader) -> bool | None:
    read = _short(reader)
    name, value = reader.cilium("force-https")
    of_cilium = reader.flag(name, value)
    plain = reader.flag(NGINX + "ssl-redirect", read("ssl-redirect"))
    forced = reader.flag(NGINX + "force-ssl-redirect", read("force-ssl-redirect"))
    if forced:
        return True
    if of_cilium is not None:
        # Of hosts with a certificate only, as without the annotation.
        return None if of_cilium else False
    return False if plain is False else None


def _cors(reader: Reader) -> Cors | None:
    read = _short(reader)
    names = ("origin", "methods", "headers", "credentials")
    values = {one: read(f"cors-allow-{one}") for one in names}
    exposed, age = read("cors-expose-headers"), reader.number(NGINX + "cors-max-age")
    if not reader.flag(NGINX + "enable-cors", read("enable-cors")):
        return None
    plain = Cors()
    asked = _listed(values["methods"])
    methods: tuple[CorsMethod, ...] = tuple(one for one in _METHODS if one in asked)
    credentials = reader.flag(NGINX + "cors-allow-credentials", values["credentials"])
    found = Cors(
        origins=_listed(values["origin"]) or plain.origins,
        methods=methods or plain.methods,
        headers=_listed(values["headers"]) or plain.headers,
        exposed=_listed(exposed),
        credentials=plain.credentials if credentials is None else credentials,
        max_age=age or plain.max_age,
    )
    wrong = [one for one in asked if one not in _METHODS]
    wrong += [one for one in (*found.headers, *found.exposed) if not _TOKEN.match(one)]
    wrong += [one for one in found.origins if one != "*" and not _ORIGIN.match(one)]
    if wrong:
        reader.tell(NGINX + "enable-cors", f"{wrong[0]!r} cannot be read", "no CORS is served")
        return None
    return found


def _canary(reader: Reader) -> Canary | None:
    read = _short(reader)
    header, value, cookie = (
        read(f"canary-by-{one}") for one in ("header", "header-value", "cookie")
    )
    weight = reader.number(NGINX + "canary-weight") or 0
    total = reader.number(NGINX + "canary-weight-total") or 100
    if not reader.flag(NGINX + "canary", read("canary")):
        return None
    for name, given in (("canary-by-header", header), ("canary-by-cookie", cookie)):
        if given is not None and not _TOKEN.match(given):
            reader.close(NGINX + name, f"{given!r} is not a name")
    return Canary(
        header=header or "",
        value=value or "",
        cookie=cookie or "",
        weight=min(weight, total),
        total=total,
    )


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(one.strip() for one in (text or "").split(",") if one.strip())
