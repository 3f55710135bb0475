"""One line of `penstock check`."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

_SHOWN = 3


class Verdict(enum.StrEnum):
    """What a finding means."""

    OK = "ok"
    WARN = "warn"
    """It works, but not as it should, or not for long."""
    FAIL = "fail"
    """Something does not work because of it."""
    SKIP = "skip"
    """It could not be looked at."""


class Finding(msgspec.Struct, frozen=True):
    """What one check found."""

    id: str
    """Stays the same in all versions, as PC-KRN-001."""
    subject: str
    """What was looked at."""
    verdict: Verdict
    found: str
    hint: str = ""
    """The next step; "" if there is nothing to do."""
    every: tuple[str, ...] = ()
    """All of what `found` names the first few of; () if it names all."""


class Check(msgspec.Struct, frozen=True):
    """What all findings of one check have in common."""

    id: str
    subject: str

    def ok(self, found: str) -> Finding:
        """Return that all is well."""
        return Finding(self.id, self.subject, Verdict.OK, found)

    def warn(self, found: str, hint: str, every: Sequence[str] = ()) -> Finding:
        """Return that something is not as it should be; *every* is what *found* shortens."""
        return Finding(self.id, self.subject, Verdict.WARN, found, hint, _if_more(every))

    def fail(self, found: str, hint: str, every: Sequence[str] = ()) -> Finding:
        """Return that something does not work; *every* is what *found* shortens."""
        return Finding(self.id, self.subject, Verdict.FAIL, found, hint, _if_more(every))

    def unserved(self) -> Finding:
        """Return that no status of the subject says what is in force."""
        text = "no agent serves or enforces anything: statuses are as they were told before"
        return self.skip(text, "PC-AGT-001 tells what to do")

    def skip(self, found: str, hint: str = "") -> Finding:
        """Return that nothing is known."""
        return Finding(self.id, self.subject, Verdict.SKIP, found, hint)


def _if_more(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(texts) if len(texts) > _SHOWN else ()


def shorten(texts: Sequence[str]) -> str:
    """Return the first few, and how many there are beside them."""
    rest = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + rest
