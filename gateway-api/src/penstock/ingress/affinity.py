"""Sessions by cookie, as the annotations of ingress-nginx ask for them."""

from __future__ import annotations

import re

import msgspec

from penstock.gatewayapi.session_persistence import CookieConfig, Lifetime, SessionPersistence
from penstock.gatewayapi.sessions import COOKIE_PATH
from penstock.ingress.reader import NGINX, Reader
from penstock.ir.session import Session
from penstock.meta.problems import Problem

DEFAULT_NAME = "INGRESSCOOKIE"
LONGEST = 360_000_000
"""Seconds; what the hours of a duration can say is a little less."""
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+\Z")
_DOMAIN = re.compile(r"\.?[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?\Z")
_SAME_SITE = re.compile("(?i)none|lax|strict")
_EXPRESSION = frozenset("()|$[]*+?\\^{}")
"""Characters of paths that are expressions, where a cookie needs the path itself."""


class Affinity(msgspec.Struct, frozen=True, kw_only=True):
    """The cookie of the sessions of an Ingress."""

    name: str = DEFAULT_NAME
    seconds: int = 0
    """How long the cookie lives; 0 is as long as the browser."""
    path: str = ""
    """"" is the path of each rule."""
    domain: str = ""
    same_site: str = ""
    secure: bool | None = None

    def persistence(self, path: str) -> SessionPersistence:
        """Return what a rule for *path* says in an HTTPRoute."""
        is_plain = COOKIE_PATH.match(path) and not _EXPRESSION & set(path)
        lifetime: Lifetime = "Permanent" if self.seconds else "Session"
        return SessionPersistence(
            absolute_timeout=_duration(self.seconds) if self.seconds else None,
            cookie=CookieConfig(
                name=self.name,
                path=self.path or (path if is_plain else "/"),
                lifetime_type=lifetime,
            ),
        )

    def applied(self, session: Session) -> Session:
        """Return *session* of a rule with what an HTTPRoute cannot say."""
        return msgspec.structs.replace(
            session, same_site=self.same_site, secure=self.secure, domain=self.domain
        )

    @property
    def beyond(self) -> tuple[str, ...]:
        """Return the names of the annotations that an HTTPRoute cannot say."""
        given = {
            "samesite": self.same_site,
            "secure": self.secure is not None,
            "domain": self.domain,
        }
        return tuple(f"session-cookie-{name}" for name, value in given.items() if value)


def affinity(reader: Reader) -> Affinity | None:
    """Return the sessions that annotations ask for, None without any."""
    kind = reader.text(NGINX + "affinity")
    reader.text(NGINX + "affinity-mode")
    reader.text(NGINX + "session-cookie-change-on-failure")
    if reader.text(NGINX + "affinity-canary-behavior") == "legacy":
        name = NGINX + "affinity-canary-behavior"
        reader.tell(name, "legacy is not served", "sessions stay where they are, canary or not")
    name = _read(reader, "name", _NAME, "is not a name") or DEFAULT_NAME
    path = _read(reader, "path", COOKIE_PATH, "is not a path")
    domain = _read(reader, "domain", _DOMAIN, "is not a domain")
    site = _read(reader, "samesite", _SAME_SITE, "is none of its values")
    secure = reader.flag(_cookie("secure"), reader.text(_cookie("secure")))
    age, expires = reader.number(_cookie("max-age")), reader.number(_cookie("expires"))
    if kind is None:
        return None
    if kind != "cookie":
        reader.tell(NGINX + "affinity", f"{kind!r} is not cookie", "it is without effect")
        return None
    return Affinity(
        name=name,
        seconds=min(age or expires or 0, LONGEST - 1),
        path=path,
        domain=domain,
        same_site=site.capitalize(),
        secure=secure,
    )


def lost(found: Affinity) -> Problem | None:
    """Return what of the cookie an HTTPRoute cannot say, None if it can say all."""
    if not found.beyond:
        return None
    text = f"{', '.join(found.beyond)} have no equal"
    hint = "the cookie is SameSite=Strict, of the host that is asked, and Secure on HTTPS"
    return Problem("metadata.annotations", text, hint)


def _cookie(name: str) -> str:
    return f"{NGINX}session-cookie-{name}"


def _read(reader: Reader, name: str, pattern: re.Pattern[str], fault: str) -> str:
    """Return an annotation of the cookie, "" if it is not there or cannot be one."""
    value = reader.text(_cookie(name))
    if not value:
        return ""
    if not pattern.fullmatch(value):
        reader.tell(_cookie(name), f"{value!r} {fault}", "it is without effect")
        return ""
    return value


def _duration(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    parts = ((hours, "h"), (rest // 60, "m"), (rest % 60, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count)
