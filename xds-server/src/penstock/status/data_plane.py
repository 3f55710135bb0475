"""Names in the condition by which nodes say what they have of an object."""

from __future__ import annotations

DATA_PLANE_ACKED = "DataPlaneAcked"
NOT_SERVED = "NotServed"
"""Reason of a route at a parent where no listener is open for it, whatever nodes have of it."""
