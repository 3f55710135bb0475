"""The member `sessionPersistence` of rules, policies and backends, as an object.

Source: Gateway API v1.7 CRDs, experimental channel, SessionPersistence; and v1.6, which has
`sessionName` and `cookieConfig` instead of `cookie` and `header`. Both are read: the storage of a
cluster may hold either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta
from typing_extensions import override

from penstock.core.objects import ApiStruct
from penstock.gatewayapi.fields import Duration, HeaderName, ShortText
from penstock.meta.problems import Problem

Lifetime = Literal["Permanent", "Session"]


class CookieConfig(ApiStruct, frozen=True, kw_only=True):
    """The cookie of a session."""

    name: HeaderName | None = None
    path: ShortText = "/"
    lifetime_type: Lifetime = "Session"


class HeaderConfig(ApiStruct, frozen=True, kw_only=True):
    """The header of a session."""

    name: HeaderName


class OlderCookieConfig(ApiStruct, frozen=True, kw_only=True):
    """The cookie of a session in v1.6."""

    lifetime_type: Lifetime = "Session"


class SessionPersistence(ApiStruct, frozen=True, kw_only=True):
    """Requests of one session go to one endpoint."""

    type: Literal["Cookie", "Header"] = "Cookie"
    absolute_timeout: Duration | None = None
    cookie: CookieConfig | None = None
    header: HeaderConfig | None = None
    session_name: Annotated[str, Meta(max_length=128)] | None = None
    """v1.6: the name of the cookie or header."""
    cookie_config: OlderCookieConfig | None = None
    """v1.6."""

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow.

        v1.7 wants `cookie` or `header`; v1.6 knows neither, so nothing is said if both are absent.
        """
        members: dict[str, tuple[object | None, str]] = {
            "cookie": (self.cookie, "Cookie"),
            "cookieConfig": (self.cookie_config, "Cookie"),
            "header": (self.header, "Header"),
        }
        for name, (value, wanted) in members.items():
            if value is not None and self.type != wanted:
                yield Problem(name, f"must not be given: type is {self.type}")
        if self.permanent and self.absolute_timeout is None:
            yield Problem("absoluteTimeout", "required field is missing: the cookie is Permanent")

    @property
    def permanent(self) -> bool:
        """Return whether the cookie outlives the browser."""
        given = self.cookie or self.cookie_config
        return given is not None and given.lifetime_type == "Permanent"

    @property
    def name(self) -> str:
        """Return the name of the cookie or header; "" if it is left to us."""
        given = self.cookie or self.header
        return (given.name if given is not None else None) or self.session_name or ""

    @property
    def name_path(self) -> str:
        """Return where the name is written."""
        given = self.cookie or self.header
        if given is not None and given.name:
            return "cookie.name" if self.type == "Cookie" else "header.name"
        return "sessionName"
