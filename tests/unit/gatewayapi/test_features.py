"""What GatewayClass.status.supportedFeatures says."""

from __future__ import annotations

from penstock.gatewayapi.features import CORE, SUPPORTED_FEATURES

MOST = 64
"""The CRD's limit."""


def test_features_are_in_alphabetical_order_and_each_is_named_once() -> None:
    assert list(SUPPORTED_FEATURES) == sorted(set(SUPPORTED_FEATURES))
    assert set(CORE) <= set(SUPPORTED_FEATURES)
    assert len(SUPPORTED_FEATURES) <= MOST
