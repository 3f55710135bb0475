"""What goes wrong with a cluster, in words that say what to do."""

from __future__ import annotations


class ClusterError(Exception):
    """A cluster cannot be started, or does not do what it should."""
