"""What the annotations of an Ingress ask for: those of ingress.cilium.io and of ingress-nginx.

What is not served is told. What restricts who may ask, and is not served, closes the rules of the
Ingress instead of opening them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import msgspec

from penstock.core import jsonpath
from penstock.gatewayapi.rules import path_faults
from penstock.ingress.affinity import Affinity, affinity
from penstock.ingress.resources import Ingress
from penstock.meta.problems import Problem, Severity

CILIUM = "ingress.cilium.io/"
LEGACY_CILIUM = "io.cilium.ingress/"
NGINX = "nginx.ingress.kubernetes.io/"
_DURATION = re.compile(r"([0-9]{1,5}(h|ms|m|s)){1,4}\Z")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+\Z")
_ORIGIN = re.compile(r"[a-z]+://(\*|(\*\.)?[a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?\Z")
_TRUE = {"true", "enabled"}
_FALSE = {"false", "disabled"}

_RESTRICTING = (
    "whitelist-source-range", "allowlist-source-range", "denylist-source-range", "auth-",
    "configuration-snippet", "server-snippet", "satisfy", "enable-modsecurity", "modsecurity-",
    "enable-global-auth", "limit-", "global-rate-limit", "enable-opentelemetry-auth",
    "stream-snippet", "enable-owasp",
)  # fmt: skip
"""Beginnings of the names of annotations that keep clients out."""
_HINTS = {
    "proxy-body-size": "bodies of any size pass; let the application limit them",
    "proxy-connect-timeout": "connecting may take 2 s",
    "proxy-send-timeout": "",
}
_CILIUM_UNSERVED = {
    "loadbalancer-class", "service-type", "service-external-traffic-policy",
    "insecure-node-port", "secure-node-port", "host-listener-port",
}  # fmt: skip


CorsMethod = Literal[
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"
]
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
    protocol: str = "HTTP"
    closed: str = ""
    """Why nobody is let in, "" if somebody is."""
    problems: tuple[Problem, ...] = ()


def options(ingress: Ingress) -> Options:
    """Return what the annotations of *ingress* ask for."""
    reader = _Reader(ingress.metadata.annotations)
    asked = _of_nginx(reader, _of_cilium(reader))
    reader.rest()
    return msgspec.structs.replace(
        asked, closed="; ".join(reader.closing), problems=tuple(reader.told)
    )


class _Reader:
    """Annotations, which of them were read, and what is to be said about them."""

    def __init__(self, given: Mapping[str, str]) -> None:
        """Read *given*."""
        self.given = given
        self.read: set[str] = set()
        self.told: list[Problem] = []
        self.closing: list[str] = []

    def text(self, name: str) -> str | None:
        """Return the value of an annotation, None if it is not there."""
        self.read.add(name)
        return self.given.get(name)

    def cilium(self, name: str) -> tuple[str, str | None]:
        """Return name and value of an annotation of ingress.cilium.io or of its older name."""
        older = self.text(LEGACY_CILIUM + name)
        newer = self.text(CILIUM + name)
        return (LEGACY_CILIUM + name, older) if newer is None else (CILIUM + name, newer)

    def flag(self, name: str, value: str | None) -> bool | None:
        """Return an annotation that is true or false, None if it is not there or neither."""
        if value is None:
            return None
        if value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        self.tell(name, f"{value!r} is neither true nor false", "it is without effect")
        return None

    def number(self, name: str) -> int | None:
        """Return an annotation that is a number of at most nine digits, 0 or more."""
        value = self.text(name)
        if value is None or re.fullmatch(r"[0-9]{1,9}", value):
            return None if value is None else int(value)
        self.tell(name, f"{value!r} is not a number", "it is without effect")
        return None

    def tell(self, name: str, text: str, hint: str) -> None:
        """Note a warning about an annotation."""
        path = jsonpath.member("metadata.annotations", name)
        self.told.append(Problem(path, text, hint, Severity.WARNING))

    def close(self, name: str, text: str) -> None:
        """Note that an annotation closes the rules."""
        self.closing.append(f"{name}: {text}")
        path = jsonpath.member("metadata.annotations", name)
        hint = "every rule of this Ingress answers 500; remove the annotation to open them"
        self.told.append(Problem(path, text, hint))

    def rest(self) -> None:
        """Tell about all annotations that nobody read."""
        for name in sorted(set(self.given) - self.read):
            if name.startswith(NGINX):
                self._unserved(name, name.removeprefix(NGINX))
            elif name.startswith((CILIUM, LEGACY_CILIUM)):
                known = name.partition("/")[2] in _CILIUM_UNSERVED
                text = "is not served" if known else "is not known"
                self.tell(name, text, "it is without effect")

    def _unserved(self, name: str, short: str) -> None:
        if short.startswith(_RESTRICTING):
            self.close(name, "keeps clients out in a way that is not served")
            return
        hint = next((text for start, text in _HINTS.items() if short.startswith(start)), "")
        self.tell(name, "is not served", hint or "it is without effect")


def _of_cilium(reader: _Reader) -> Options:
    name, mode = reader.cilium("loadbalancer-mode")
    if mode not in (None, "shared", "dedicated"):
        reader.tell(name, f"{mode!r} is neither shared nor dedicated", "it is shared")
    name, given = reader.cilium("tls-passthrough")
    passthrough = bool(reader.flag(name, given))
    if passthrough:
        reader.close(name, "TLS is not passed through by an Ingress; use a TLSRoute")
    name, timeout = reader.cilium("request-timeout")
    if timeout is not None and not _DURATION.match(timeout):
        reader.tell(name, f"{timeout!r} is not a duration", "there is no limit; write 90s")
        timeout = None
    return Options(
        dedicated=mode == "dedicated", passthrough=passthrough, request_timeout=timeout or ""
    )


def _of_nginx(reader: _Reader, asked: Options) -> Options:
    read = _short(reader)
    protocol = (read("backend-protocol") or "HTTP").upper()
    if protocol not in ("HTTP", "GRPC"):
        text = f"{protocol} towards backends is not served by an annotation"
        reader.close(NGINX + "backend-protocol", f"{text}; use a BackendTLSPolicy")
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
        protocol=protocol,
    )


def _short(reader: _Reader) -> Callable[[str], str | None]:
    return lambda name: reader.text(NGINX + name)


def _redirect(reader: _Reader) -> bool | None:
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


def _cors(reader: _Reader) -> Cors | None:
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


def _canary(reader: _Reader) -> Canary | None:
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
