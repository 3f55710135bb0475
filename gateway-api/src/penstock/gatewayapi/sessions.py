"""What the member `sessionPersistence` comes to.

Source: Gateway API v1.7, SessionPersistence; GEP-1619. Cookies are as closed as the GEP asks for:
HttpOnly, SameSite=Strict, and Secure where clients come by HTTPS.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import msgspec

from penstock.gatewayapi.durations import milliseconds
from penstock.gatewayapi.faults import Fault
from penstock.gatewayapi.modifiers import HOP_BY_HOP, HOST, RESERVED_PREFIX
from penstock.gatewayapi.session_persistence import SessionPersistence
from penstock.ir.http import TOKEN
from penstock.ir.session import Session, SessionKind
from penstock.meta.names import Origin

_NAME = re.compile(TOKEN + r"\Z")
COOKIE_PATH = re.compile(r"/[!-:<-~]*\Z")
_SPOKEN_FOR = HOP_BY_HOP | {HOST, "cookie", "set-cookie", "date", "location", "content-type"}
"""Headers that mean something else."""
_SECOND = 1000


class Kept(msgspec.Struct, frozen=True):
    """The session of a rule, or why it has none."""

    session: Session | None = None
    faults: tuple[Fault, ...] = ()


def kept_session(given: SessionPersistence | None, name: str | None, rule: Origin) -> Kept:
    """Return the session of a rule.

    Args:
        given: its member `sessionPersistence`.
        name: of the rule.
        rule: the rule itself; one that has a name may move without its sessions being lost.
    """
    if given is None:
        return Kept()
    place = f"{rule.object} {name or rule.path}"
    found = session(given, f"{rule.path}.sessionPersistence", place)
    return Kept(session=found) if isinstance(found, Session) else Kept(faults=found)


def session(given: SessionPersistence, path: str, owner: str) -> Session | tuple[Fault, ...]:
    """Return the session that *given* asks for, or why it cannot be served.

    Args:
        given: the member.
        path: where it is, as "spec.rules[0].sessionPersistence".
        owner: whose session it is; names without one are made of it, the same ever after.
    """
    faults = tuple(_faults(given, path))
    if faults:
        return faults
    is_header = given.type == "Header"
    name = given.name or generated_name(owner)
    timeout = given.absolute_timeout
    return Session(
        kind=SessionKind(given.type),
        name=name.lower() if is_header else name,
        lifetime_ms=0 if timeout is None else milliseconds(timeout),
        permanent=given.permanent,
        path=given.cookie.path if given.cookie is not None else "/",
    )


def generated_name(owner: str) -> str:
    """Return the name of the cookie or header of *owner*'s session."""
    return f"penstock-{hashlib.blake2b(owner.encode(), digest_size=6).hexdigest()}"


def _faults(given: SessionPersistence, path: str) -> Iterator[Fault]:
    if given.name and not _NAME.match(given.name):
        text = f"{given.name!r} is not a name of a {given.type.lower()}"
        yield Fault(f"{path}.{given.name_path}", text)
    reserved = given.name.lower() in _SPOKEN_FOR or given.name.lower().startswith(RESERVED_PREFIX)
    if given.type == "Header" and reserved:
        yield Fault(f"{path}.{given.name_path}", f"the header {given.name} cannot be a session's")
    if given.cookie is not None and not COOKIE_PATH.match(given.cookie.path):
        text = "must start with '/' and hold neither ';' nor spaces"
        yield Fault(f"{path}.cookie.path", text)
    timeout = given.absolute_timeout
    if timeout is None:
        return
    if milliseconds(timeout) == 0:
        yield Fault(f"{path}.absoluteTimeout", "must be longer than 0s")
    elif given.permanent and milliseconds(timeout) % _SECOND:
        yield Fault(f"{path}.absoluteTimeout", "of a Permanent cookie must be in whole seconds")
