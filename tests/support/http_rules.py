"""Rules of HTTPRoutes, and what becomes of them."""

from __future__ import annotations

from typing import Any

from penstock.gatewayapi.httproute import translate
from penstock.gatewayapi.translation import TranslatedRoute
from penstock.ir.route import Forward, Respond, Route, ServiceBackend, ServicePort
from penstock.meta.names import NamespacedName, ObjectRef, Origin
from support.gateway_objects import Json, http_route, references, service

SERVICE: Json = {"name": "svc", "port": 80}


BACKENDS: Json = {"backendRefs": [SERVICE]}


FORWARD = Forward(
    backends=(
        ServiceBackend(
            target=ServicePort(service=NamespacedName("app", "svc"), port=80),
            origin=Origin(ObjectRef("HTTPRoute", "app", "route"), "spec.rules[0].backendRefs[0]"),
        ),
    )
)


INVALID = Respond(status=500)


GOOD: Json = {"matches": [{"path": {"value": "/good"}}], **BACKENDS}


def translated(*rules: Json, **more: Any) -> TranslatedRoute:
    known = references(service("svc"), service("far", "data"))
    return translate(http_route(rules=rules, **more), known)


def only(*rules: Json) -> Route:
    (route,) = translated(*rules).rules
    return route


def action(**rule: Any) -> Any:
    return only({**BACKENDS, **rule}).action


def forwarded(*filters: Json, **rule: Any) -> Forward:
    found = action(filters=list(filters), **rule)
    assert isinstance(found, Forward)
    return found


def request_headers(**given: Any) -> Json:
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": given}


def response_headers(**given: Any) -> Json:
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": given}


def url_rewrite(**given: Any) -> Json:
    return {"type": "URLRewrite", "urlRewrite": given}


def request_redirect(**given: Any) -> Json:
    return {"type": "RequestRedirect", "requestRedirect": given}


def header(name: str, value: str = "v") -> Json:
    return {"name": name, "value": value}


def replace_prefix(value: str) -> Json:
    return {"type": "ReplacePrefixMatch", "replacePrefixMatch": value}


def replace_path(value: str) -> Json:
    return {"type": "ReplaceFullPath", "replaceFullPath": value}
