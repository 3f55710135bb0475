"""The runtime layer that carries the weights of routes."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.pb.envoy.service.runtime.v3 import rtds_pb2

LAYER = "penstock"
"""Name of the layer in the bootstrap and of its one resource."""


def runtime(keys: Mapping[str, int]) -> rtds_pb2.Runtime:
    """Build the layer. All keys of a route go together: Envoy adds up what it finds."""
    result = rtds_pb2.Runtime(name=LAYER)
    result.layer.SetInParent()
    for name in sorted(keys):
        result.layer.fields[name].number_value = keys[name]
    return result
