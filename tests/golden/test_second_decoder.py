"""An independent implementation of protobuf reads the same fields in what we send."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.xds import types
from penstock.xds.resource import Resource
from support import golden
from support.second_decoder import by_betterproto, by_upb

SENT = {
    types.RUNTIME,
    types.SECRET,
    types.CLUSTER,
    types.ENDPOINTS,
    types.EXTENSION,
    types.SCOPE,
    types.LISTENER,
}
NEWER = {"lua.9": "shared_vm_id", "customtag.7": "value_type"}
"""Fields that the other's snapshot of the API does not have yet."""
NEWER_TYPES = {"type.googleapis.com/envoy.extensions.filters.http.body_size_limit.v3.BodySizeLimit"}
"""Messages that it does not have."""


def _for_envoy(name: str) -> list[Resource]:
    return [one for one in golden.compiled(name).resources if one.type_url in types.ENVOY_TYPES]


@pytest.mark.parametrize("name", golden.case_names())
def test_both_decoders_see_the_same_fields(name: str) -> None:
    for resource in _for_envoy(name):
        theirs, unknown = by_betterproto(resource.type_url, resource.body)
        assert set(unknown) <= {*NEWER, *NEWER_TYPES}
        assert _without_newer(by_upb(resource.type_url, resource.body)) == theirs


def _without_newer(value: Any) -> Any:
    if isinstance(value, dict) and value.get("@type") in NEWER_TYPES:
        return {"@type": value["@type"]}
    if isinstance(value, dict):
        kept = {name: one for name, one in value.items() if name not in NEWER.values()}
        return {name: _without_newer(one) for name, one in kept.items()}
    return [_without_newer(one) for one in value] if isinstance(value, list) else value


def test_every_type_that_we_send_is_among_the_cases() -> None:
    assert {one.type_url for name in golden.case_names() for one in _for_envoy(name)} == SENT
