"""Which policies are valid: spec A.2 to A.5, B.1, and the vectors of section M."""

from __future__ import annotations

from typing import Any

import pytest

from support.policies import (
    Json,
    app,
    cnp,
    egress,
    errors,
    http_item,
    http_port,
    ingress,
    port,
    warnings,
)

HTTP: Json = {"http": [{"method": "GET"}]}


def to_ports(*ports: Json, **more: Any) -> Json:
    return {"toPorts": [{"ports": list(ports), **more}]}


def unsupported_only(spec: Json) -> bool:
    found = errors(cnp(spec))
    return bool(found) and all("not supported yet" in one for one in found)


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"ingress": [{}]}, "spec.endpointSelector"),
        ({"endpointSelector": None, "ingress": [{}]}, "spec.endpointSelector"),
        (ingress(), "spec"),
        ({"endpointSelector": {}}, "spec"),
        ({"endpointSelector": {}, "nodeSelector": {}, "ingress": [{}]}, "spec.nodeSelector"),
        (ingress({"fromEndpoints": [{}], "fromCIDR": ["10.0.0.0/8"]}), "spec.ingress[0]"),
        (ingress(to_ports({"port": "80"}, rules=HTTP)), "ports[0].protocol"),
        (ingress(to_ports(port("80", "ANY"), rules=HTTP)), "ports[0].protocol"),
        (ingress(to_ports(port("80", "UDP"), rules=HTTP)), "ports[0].protocol"),
        (ingress(to_ports(port("0"), rules=HTTP)), "ports[0].port"),
        (ingress(to_ports(port("53", "UDP"), rules={"dns": [{"matchPattern": "*"}]})), "rules.dns"),
        (
            egress(to_ports(port("53", endPort=60), rules={"dns": [{"matchPattern": "*"}]})),
            "ports[0].endPort",
        ),
        (
            egress(to_ports(port("53"), rules={"http": [{}], "dns": [{"matchPattern": "*"}]})),
            "toPorts[0].rules",
        ),
        (egress(to_ports(port("53"), rules={"http": [], "dns": []})), "toPorts[0].rules"),
        (ingress(to_ports(*[port(str(number)) for number in range(1, 42)])), "toPorts[0].ports"),
        (ingress({"icmps": [{"fields": [{"type": 8}]}], **to_ports(port("80"))}), "icmps"),
        (egress({"toFQDNs": [{"matchName": "*.a.io"}]}), "toFQDNs[0].matchName"),
        (egress({"toFQDNs": [{"matchName": "a.io", "matchPattern": "*"}]}), "toFQDNs[0]"),
        (
            egress({"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["192.168.0.0/16"]}]}),
            "toCIDRSet[0].except[0]",
        ),
        (ingress({"fromCIDR": ["10.0.0.1"]}), "fromCIDR[0]"),
        (
            ingress(
                to_ports(port("9092"), rules={"kafka": [{"role": "produce", "apiKey": "fetch"}]})
            ),
            "kafka[0].role",
        ),
        (
            ingress(to_ports(port("80"), listener={"name": "l", "envoyConfig": {"name": "e"}})),
            "toPorts[0].listener",
        ),
        (
            egress(
                to_ports(
                    port("80"), listener={"name": "l", "envoyConfig": {"name": "e"}}, rules=HTTP
                )
            ),
            "toPorts[0].listener",
        ),
        (egress(to_ports(port("443"), serverNames=[""])), "serverNames[0]"),
        (egress(to_ports(port("443"), serverNames=["a.io"], rules=HTTP)), "serverNames"),
        (
            {"endpointSelector": {}, "egressDeny": [{"toFQDNs": [{"matchName": "a.io"}]}]},
            "spec.egressDeny[0].toFQDNs",
        ),
        (ingress({"authentication": {"mode": "foo"}}), "authentication.mode"),
        (ingress({"fromEntities": ["galaxy"]}), "fromEntities[0]"),
        (ingress({"fromRequires": [app("x")]}), "fromRequires"),
        (ingress(to_ports({"port": 80})), "ports[0].port"),
        (ingress(to_ports(port("010"))), "ports[0].port"),
        (ingress(to_ports(port("65536"))), "ports[0].port"),
        (ingress(to_ports(port("a--b"))), "ports[0].port"),
        (ingress(to_ports({"protocol": "TCP"})), "ports[0].port"),
        (ingress(to_ports(port("80", "ICMP"))), "ports[0].protocol"),
        (ingress(http_port("80", {"path": "/a("})), "http[0].path"),
        (ingress(http_port("80", {"host": "a["})), "http[0].host"),
        (ingress(http_port("80", {"method": "G{1,9999}"})), "http[0].method"),
        (ingress(http_port("80", {"path": "/" + "[a-z]{1,200}" * 3})), "http[0].path"),
        (ingress(http_port("80", {"path": "/(?=x)"})), "http[0].path"),
        (ingress(http_port("80", {"headers": [""]})), "headers[0]"),
        (ingress(http_port("80", {"headers": ["a: b\r\nc: d"]})), "headers[0]"),
        (ingress(http_port("80", {"headerMatches": [{"name": ""}]})), "headerMatches[0].name"),
        (
            ingress(http_port("80", {"headerMatches": [{"name": "a", "mismatch": "DROP"}]})),
            "headerMatches[0].mismatch",
        ),
        (ingress({"fromEndpoints": None, **to_ports(port("80"))}), "spec.ingress[0].fromEndpoints"),
        (ingress({"fromEndpoints": [{"matchLabels": {"a b": "c"}}]}), "matchLabels"),
        (ingress({"fromEndpoints": [{"matchLabels": {"cidr:10.0.0.0/8": ""}}]}), "matchLabels"),
        (
            ingress({"fromEndpoints": [{"matchExpressions": [{"key": "a", "operator": "Is"}]}]}),
            "matchExpressions[0].operator",
        ),
        (
            ingress({"fromEndpoints": [{"matchExpressions": [{"key": "a", "operator": "In"}]}]}),
            "matchExpressions[0].values",
        ),
        (ingress({}, log={"value": "x" * 33}), "spec.log.value"),
    ],
)
def test_invalid_policy_names_the_place(spec: Json, place: str) -> None:
    found = errors(cnp(spec))
    assert any(place in one.split(": ")[0] for one in found), found


@pytest.mark.parametrize(
    "spec",
    [
        ingress({}),
        ingress({"fromEndpoints": [], **to_ports(port("80"))}),
        ingress(to_ports(port("80"))),
        ingress(to_ports(*[port(str(number)) for number in range(1, 41)])),
        ingress(to_ports(port("HTTP-alt"), rules=HTTP)),
        ingress(to_ports(port("80", endPort=90), rules=HTTP)),
        ingress(to_ports(port("0x10"))),
        ingress(to_ports({"port": "53"})),
        ingress({"fromEntities": ["all", "none", "cluster", "host"]}),
        ingress({}, enableDefaultDeny={"ingress": False}, description="d", labels=[{"key": "a"}]),
        ingress(http_port("80", {"host": r"api\.foo\.com", "headers": ["X-Token: 42", "X-Other"]})),
        ingress(http_port("80", {"headerMatches": [{"name": "X-Token", "value": "42"}]})),
        ingress({"authentication": {"mode": "disabled"}, **to_ports(port("80"))}),
    ],
)
def test_valid_policy_has_no_error(spec: Json) -> None:
    assert errors(cnp(spec)) == []


@pytest.mark.parametrize(
    "spec",
    [
        egress(
            to_ports(port("53", "UDP"), port("53"), rules={"dns": [{"matchPattern": "*.a.io"}]})
        ),
        egress({"toFQDNs": [{"matchPattern": "*.a.io"}]}),
        ingress({"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.96.0.0/12"]}]}),
        ingress({"fromCIDR": ["fd00::/8"]}),
        ingress(to_ports(port("9092"), rules={"kafka": [{"role": "Produce", "topic": "t"}]})),
        ingress(
            {"icmps": [{"fields": [{"type": "EchoRequest"}, {"family": "IPv6", "type": 128}]}]}
        ),
        egress(to_ports(port("443"), serverNames=["*.a.io"])),
        egress({"toServices": [{"k8sService": {"serviceName": "a"}}]}),
        ingress({"fromGroups": [{"aws": {"region": "eu"}}]}),
        ingress({"fromNodes": [{}]}),
        ingress({"authentication": {"mode": "required"}, **to_ports(port("80"))}),
        ingress({"fromEntities": ["kube-apiserver"]}),
        ingress(http_port("80", {"headerMatches": [{"name": "a", "mismatch": "REPLACE"}]})),
        ingress(
            http_port("80", {"headerMatches": [{"name": "a", "secret": {"name": "s"}}]}),
        ),
        ingress(to_ports(port("1000", endPort=2000))),
        egress(to_ports(port("http"))),
        ingress(to_ports(port("0", "GRE"))),
        ingress(
            to_ports(port("443"), terminatingTLS={"secret": {"name": "s"}, "trustedCA": "ca.crt"})
        ),
    ],
)
def test_what_is_valid_but_not_enforced_yet_says_so(spec: Json) -> None:
    assert unsupported_only(spec), errors(cnp(spec))


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (ingress(http_port("80", {"path": "/public/"})), "nothing below it; write '/public/.*'"),
        (ingress(http_port("80", {"path": "/public/*"})), "any number of slashes"),
        (ingress(http_port("80", {"path": "^/public"})), "only in full"),
        (ingress(http_port("80", {"path": "/a?x=1"})), r"write `\?`"),
        (ingress(http_port("80", {"path": "public"})), "write '/public'"),
        (ingress(http_port("80", {"method": "get"})), "write 'GET'"),
        (ingress(http_port("80", {"headers": ["X-Token:42"]})), "'X-Token: 42'"),
        (ingress(http_port("80", {"headers": ["X_Token"]})), "use 'x-token'"),
        (ingress(http_port("80")), "every request on these ports is allowed"),
        (ingress({"fromEndpoints": [{}], "toPorts": []}), "every port is meant"),
        (ingress({"toPorts": [{}]}), "it allows nothing"),
        ({"endpointSelector": {}, "ingressDeny": [{}]}, "all is denied"),
        ({"endpointSelector": {}, "ingressDeny": [{"toPorts": [{}]}]}, "every port is denied"),
        (
            ingress(
                {"fromEndpoints": [app("client")], "toPorts": [http_item("80", {"path": "/a"})]},
                {"fromEndpoints": [app("client")]},
            ),
            "has no effect: spec.ingress[1]",
        ),
    ],
)
def test_valid_policy_that_surprises_is_a_warning(spec: Json, text: str) -> None:
    assert errors(cnp(spec)) == []
    assert any(text in one for one in warnings(cnp(spec))), warnings(cnp(spec))


@pytest.mark.parametrize("path", ["/public", "/public.*", "/public$", "/a/[0-9]+", "", r"/a\?x=1"])
def test_ordinary_paths_make_no_warning(path: str) -> None:
    assert warnings(cnp(ingress(http_port("80", {"path": path})))) == []


def test_rules_beside_to_ports_belong_inside() -> None:
    spec = ingress({"toPorts": [{"ports": [port("80")]}], "rules": HTTP})
    assert errors(cnp(spec)) == ["spec.ingress[0].rules: unknown field; belongs inside toPorts[]"]


def test_rules_inside_a_port_belong_beside_ports() -> None:
    spec = ingress(to_ports(port("80", rules=HTTP)))
    assert errors(cnp(spec))[0].startswith("spec.ingress[0].toPorts[0].ports[0].rules: unknown")
    assert "belongs beside ports" in errors(cnp(spec))[0]


def test_rules_of_deny_rules_are_explained() -> None:
    spec = {"endpointSelector": {}, "ingressDeny": [to_ports(port("80"), rules=HTTP)]}
    assert "cannot look into requests" in errors(cnp(spec))[0]


def test_object_where_a_list_is_meant_is_explained() -> None:
    spec = egress({"toFQDNs": {"matchName": "a.io"}})
    assert "must be a list" in errors(cnp(spec))[0]


def test_neither_spec_nor_specs_is_invalid() -> None:
    assert "neither spec nor specs" in errors(cnp())[0]
    assert errors(cnp(specs=[ingress({})])) == []


def test_unknown_field_beside_the_rules_is_invalid() -> None:
    assert "spec.ingres" in errors(cnp({"endpointSelector": {}, "ingres": [{}]}))[0]


def test_path_problems_of_specs_name_the_element() -> None:
    raw = cnp(specs=[ingress({}), ingress(http_port("80", {"path": "("}))])
    assert errors(raw)[0].startswith("specs[1].ingress[0].toPorts[0].rules.http[0].path")
