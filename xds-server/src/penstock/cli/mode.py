"""Whether the whole mesh can run here, or Gateways only."""

from __future__ import annotations

import msgspec

from penstock.bpf.capabilities import missing_capabilities
from penstock.lab.rights import missing_rights


class Mode(msgspec.Struct, frozen=True):
    """What `up` runs."""

    full: bool
    missing: tuple[str, ...] = ()
    """What the whole mesh needs and this machine or user has not."""

    @property
    def name(self) -> str:
        """Return the mode in one word."""
        return "full" if self.full else "gateways"

    @property
    def reason(self) -> str:
        """Return what is missing, in one line."""
        return "; ".join(self.missing) or "asked for by --only-gateways"


def mode_here(*, only_gateways: bool) -> Mode:
    """Return what can run here.

    Args:
        only_gateways: whether the user wants no more than that.
    """
    if only_gateways:
        return Mode(full=False)
    missing = tuple(missing_rights()) or tuple(missing_capabilities())
    return Mode(full=not missing, missing=missing)
