"""The two listeners inside each pod; the ports stand in abi.h too."""

from __future__ import annotations

EGRESS_PORT = 15001
INGRESS_PORT = 15006

_KINDS = ("egress", "ingress")


def egress_name(uid: str) -> str:
    """Return the name of a pod's egress listener."""
    return f"{uid}/egress"


def ingress_name(uid: str) -> str:
    """Return the name of a pod's ingress listener."""
    return f"{uid}/ingress"


def pod_of(listener: str) -> str:
    """Return the uid of the pod that a listener is in; "" if it is in none."""
    uid, slash, kind = listener.partition("/")
    return uid if slash and kind in _KINDS else ""
