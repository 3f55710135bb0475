"""Annotations of an Ingress, which of them were read, and what is to be said about them.

What is not served is told. What restricts who may ask, and is not served, closes the rules of the
Ingress instead of opening them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from penstock.core import jsonpath
from penstock.meta.problems import Problem, Severity

CILIUM = "ingress.cilium.io/"
LEGACY_CILIUM = "io.cilium.ingress/"
NGINX = "nginx.ingress.kubernetes.io/"
PREFIXES = (CILIUM, LEGACY_CILIUM, NGINX)
"""Of the annotations that are read."""
_TRUE = {"true", "enabled"}
_FALSE = {"false", "disabled"}

_RESTRICTING = (
    "auth-", "configuration-snippet", "server-snippet", "satisfy", "enable-modsecurity",
    "modsecurity-",
    "enable-global-auth", "global-rate-limit", "enable-opentelemetry-auth",
    "stream-snippet", "enable-owasp",
)  # fmt: skip
"""Beginnings of the names of annotations that keep clients out."""
_HINTS = {
    "proxy-connect-timeout": "connecting may take 2 s",
    "proxy-send-timeout": "",
}


class Reader:
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
                self.tell(name, "is not known", "it is without effect")

    def _unserved(self, name: str, short: str) -> None:
        if short.startswith(_RESTRICTING):
            self.close(name, "keeps clients out in a way that is not served")
            return
        hint = next((text for start, text in _HINTS.items() if short.startswith(start)), "")
        self.tell(name, "is not served", hint or "it is without effect")
