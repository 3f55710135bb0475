"""Why certificates are of no use; apart from `certificates`, whose library takes long to import."""

from __future__ import annotations

import msgspec

from penstock.core.objects import Broken

AUTHORITIES_KEY = "ca.crt"
"""Of a ConfigMap with certificates to trust."""


class CertificateFault(msgspec.Struct, frozen=True):
    """Why a Secret cannot serve."""

    message: str


def unreadable(thing: Broken) -> CertificateFault:
    """Return why nothing is taken from *thing*; what is wrong with one that was seen stays unsaid.

    That could tell what a Secret holds.
    """
    if thing.unseen:
        return CertificateFault("; ".join(map(str, thing.problems)))
    return CertificateFault("cannot be read")
