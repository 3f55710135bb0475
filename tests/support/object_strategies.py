"""Objects as hypothesis makes them: most fields fit, a few do not."""

from __future__ import annotations

import enum
import functools
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st

from penstock.core.objects import Object
from penstock.core.plan import ChoiceShape, Leaf, ListShape, MapShape, Shape, StructShape, plan_of
from penstock.gatewayapi.filters import (
    FilterType,
    HTTPPathModifier,
    HTTPRouteFilter,
    ListenerFilter,
)
from penstock.gatewayapi.grpc_resources import GRPCRouteFilter
from penstock.gatewayapi.telemetry_policy import Attribute

JUNK: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
WORDS = (
    *("a", "svc", "gw", "http", "app", "data", "Service", "Gateway", "HTTPRoute", ""),
    *("gateway.networking.k8s.io", "a.test", "*.test", "/", "/a", "/a/b", "(", "/v[0-9]+"),
    *("RegularExpression", "Host", "x-a", "connection", "5s", "0s", "10ms", "In", "Exists"),
    *("HTTP", "HTTPS", "TCP", "IPAddress", "192.0.2.1", "https://a.test", "*"),
    *("http.route", "url.full", "Enabled", "http.request.header.a", "gen_ai.x", "b%c"),
    *("penstock.dev/gateway-controller", "v\r\nx: y", "100%"),
)
COUNTS = (0, 1, 80, 81, 443, 500, 10**6)
RIGHT = 60
"""About so many values of the right type for three of a wrong one."""
TEXTS = st.sampled_from(WORDS)
UNIONS: dict[Any, dict[str, str]] = {
    HTTPRouteFilter: {one.value: one.member for one in FilterType},
    GRPCRouteFilter: {
        name: FilterType(name).member for name in get_args(get_type_hints(GRPCRouteFilter)["type"])
    },
    HTTPPathModifier: {
        "ReplaceFullPath": "replaceFullPath",
        "ReplacePrefixMatch": "replacePrefixMatch",
    },
    Attribute: {
        "Header": "headerName",
        "Literal": "literalValue",
        "Attribute": "attributeKey",
    },
    ListenerFilter: {"ExternalAuth": "externalAuth", "ExtensionRef": "extensionRef"},
}
"""Structs whose `type` or `sourceType` says which other member is there."""


def values(shape: Shape) -> st.SearchStrategy[Any]:
    """Return values that mostly fit *shape*."""
    match shape:
        case StructShape(type=struct):
            return mappings(struct)
        case ListShape(item=inner):
            return st.lists(st.deferred(lambda: values(inner)), min_size=1, max_size=2)
        case MapShape(value=inner):
            return st.dictionaries(TEXTS, st.deferred(lambda: values(inner)), max_size=2)
        case ChoiceShape(options=options):
            return st.one_of(*[values(option) for option in options])
        case Leaf(type=annotation):
            return st.sampled_from(fitting(annotation))


@functools.cache
def fitting(annotation: Any) -> tuple[Any, ...]:
    """Return some values of a scalar type, and a few that are not."""
    pool: list[Any] = [*WORDS, *COUNTS, True]
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        pool = [one.value for one in annotation]
    elif get_origin(annotation) is Literal:
        pool = list(get_args(annotation))
    found = [one for one in pool if _fits(one, annotation)]
    return (*found * (1 + RIGHT // len(found)), "(", 0, None)


def _fits(value: Any, annotation: Any) -> bool:
    try:
        msgspec.convert(value, annotation)
    except msgspec.ValidationError:
        return False
    return True


@st.composite
def mappings(draw: st.DrawFn, struct: Any) -> Any:
    chaos = draw(st.integers(0, 99))
    if chaos == 0:
        return draw(JUNK)
    fields = plan_of(struct).fields
    found: dict[str, Any] = {}
    for name, field in fields.items():
        if field.required or (struct not in UNIONS and draw(st.integers(0, 4)) > 2):
            found[name] = draw(values(field.shape))
    if struct in UNIONS:
        chosen = next(one for one in ("type", "sourceType") if one in found)
        member = UNIONS[struct].get(str(found[chosen]), chosen)
        found[member] = draw(values(fields[member].shape))
    if chaos == 1 and found:
        found[draw(st.sampled_from(sorted(found)))] = []
    if chaos == 2:
        found[draw(st.text(max_size=5))] = draw(JUNK)
    return found


def objects(kind: type[Object]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects of *kind*, named like what the words above refer to."""
    fields = {name: one for name, one in plan_of(kind).fields.items() if name != "metadata"}
    members = st.fixed_dictionaries(
        {name: values(one.shape) for name, one in fields.items() if one.required},
        optional={name: values(one.shape) for name, one in fields.items() if not one.required},
    )
    names = st.sampled_from(("gw", "svc", "a", "b"))
    spaces = st.sampled_from(("app", "app", "data")) if kind.namespaced else st.just("")

    def made(name: str, namespace: str, found: dict[str, Any]) -> dict[str, Any]:
        metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
        head = {"apiVersion": kind.api_versions[0], "kind": kind.kind, "metadata": metadata}
        return {**head, **found}

    return st.builds(made, names, spaces, members)
