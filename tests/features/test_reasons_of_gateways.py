"""Every reason of GatewayClasses, Gateways, ListenerSets and their listeners, provoked.

The list of them is gateway.md's, §5.4, and those of GEP-5093 and GEP-5224.
"""

from __future__ import annotations

import pytest

from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.core.objects import Broken
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.listener_set_status import listener_set_status
from penstock.gatewayapi.listeners import Surroundings
from penstock.gatewayapi.merged import merged
from penstock.gatewayapi.resources import Gateway
from penstock.gatewayapi.versions import BUNDLE_VERSION, CHANNEL
from penstock.meta.conditions import Condition
from support import objects
from support.pki import issue, tls_secret_raw
from support.reasons import Case, Json, Reason, Thing, case, check, check_list

POOL = Settings(reach=Reach.CLUSTER, gateway_pool="192.0.2.0/31")
AT_NODES = Settings(reach=Reach.CLUSTER, addressing=Addressing.NODES)
PENDING = Condition(type="DataPlaneAcked", status=None, reason="Pending", message="0/1 nodes")
NODE = objects.node("n1", "172.31.0.10")
PARAMETERS: Json = {"group": "", "kind": "ConfigMap", "name": "c"}
HTTP: Json = {"name": "l", "protocol": "HTTP", "port": 80}
ALL: Json = {"namespaces": {"from": "All"}}


def gw(*listeners: Json, name: str = "gw", since: str = "", **spec: object) -> Thing:
    body = {"gatewayClassName": "penstock", "listeners": list(listeners or (HTTP,)), **spec}
    return objects.gateway_api("Gateway", name, body, generation=3, creationTimestamp=since)


def https(name: str = "l", hostname: str = "a.test", cert: str = "cert", **more: object) -> Json:
    tls = {"certificateRefs": [{"name": cert, **more}]}
    return {"name": name, "protocol": "HTTPS", "port": 443, "hostname": hostname, "tls": tls}


def secret(name: str = "cert", *names: str) -> Thing:
    return objects.made(tls_secret_raw(name, "shop", [issue(*(names or ("a.test",)))]))


def checking(*refs: Json, mode: str = "AllowValidOnly") -> Json:
    validation = {"mode": mode, "caCertificateRefs": list(refs)}
    return {"frontend": {"default": {"validation": validation}}}


def authority(name: str = "ca") -> Thing:
    data = {"ca.crt": issue("ca.test").pem}
    meta = {"name": name, "namespace": "shop"}
    return objects.made({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})


EXTENDED: Json = {
    "requests": [
        {
            "type": "ExtensionRef",
            "extensionRef": {"group": "x.test", "kind": "X", "name": "x"},
        }
    ]
}


def asking(name: str, **more: object) -> Json:
    """Return filters of a listener that ask a Service."""
    auth = {"protocol": "HTTP", "http": {}, "backendRef": {"name": name, "port": 80, **more}}
    return {"requests": [{"type": "ExternalAuth", "externalAuth": auth}]}


CA: Json = {"group": "", "kind": "ConfigMap", "name": "ca"}


def class_(name: str = "c", **spec: object) -> Thing:
    body = {"controllerName": objects.CONTROLLER, **spec}
    return objects.gateway_api("GatewayClass", name, body, "", generation=2)


def crd(version: str, kind: str = "gateways", channel: str = "standard") -> Thing:
    notes = {BUNDLE_VERSION: version, CHANNEL: channel} if version else {}
    name = f"{kind}.gateway.networking.k8s.io"
    return objects.made(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": name, "annotations": notes},
        }
    )


WITH_ROUTABILITY = crd("v1.7.0", channel="experimental")
INSIDE: Json = {"routability": "Cluster"}


def added(*listeners: Json, name: str = "set", namespace: str = "shop", **spec: object) -> Thing:
    body = {"parentRef": {"name": "gw"}, "listeners": list(listeners or (HTTP,)), **spec}
    return objects.gateway_api("ListenerSet", name, body, namespace, generation=5)


OPEN = gw({**HTTP, "name": "own", "port": 8000}, allowedListeners=ALL)
"""A Gateway that takes ListenerSets."""
REFUSED = class_("penstock", parametersRef=PARAMETERS)
"""The class of all Gateways here, when it is not accepted."""
OTHER = gw(name="a", since="2025-01-01T00:00:00Z")
"""An earlier Gateway, which has port 80."""

CLASSES = (
    case("a class of ours is accepted", "GatewayClass Accepted True Accepted", class_()),
    case("a class takes no parameters", "GatewayClass Accepted False InvalidParameters",
         class_(parametersRef=PARAMETERS)),
    case("a class with CRDs from before v1.1 is not accepted",
         "GatewayClass Accepted False UnsupportedVersion", class_(), crd("v1.0.0")),
    case("CRDs of a release that we know are supported",
         "GatewayClass SupportedVersion True SupportedVersion", class_(), crd("v1.7.0")),
    case("CRDs of a newer release are not supported in full",
         "GatewayClass SupportedVersion False UnsupportedVersion",
         class_(), crd("v1.7.0"), crd("v9.0.0", "httproutes")),
    case("one CRD that says no release is not supported in full",
         "GatewayClass SupportedVersion False UnsupportedVersion",
         class_(), crd("v1.7.0"), crd("", "httproutes")),
    case("kinds without a CRD are named", "GatewayClass penstock.dev/KindsServed False CRDsMissing",
         class_(), crd("v1.7.0"), crd("v1.7.0", "httproutes")),
)  # fmt: skip

GATEWAYS = (
    case("a Gateway of ours is accepted", "Gateway Accepted True Accepted", gw()),
    case("a Gateway with one good listener of two is accepted, and says so",
         "Gateway Accepted True ListenersNotValid",
         gw(HTTP, {"name": "x", "protocol": "x.test/y", "port": 81})),
    case("a Gateway without any good listener is not accepted",
         "Gateway Accepted False ListenersNotValid",
         gw({"name": "x", "protocol": "x.test/y", "port": 81})),
    case("a Gateway that cannot be read is invalid", "Gateway Accepted False Invalid",
         gw(noSuchField=1)),
    case("a Gateway takes no parameters", "Gateway Accepted False InvalidParameters",
         gw(infrastructure={"parametersRef": PARAMETERS})),
    case("a Gateway of a class that is not accepted is not, either",
         "Gateway Accepted False InvalidParameters", gw(), REFUSED),
    case("a Gateway beside CRDs that are too old is not accepted",
         "Gateway Accepted False Invalid", gw(), class_(), crd("v1.0.0")),
    case("what is of a class that is not accepted is not programmed",
         "Gateway Programmed False Invalid", gw(), REFUSED),
    case("an address that is no IP address is not supported",
         "Gateway Accepted False UnsupportedAddress",
         gw(addresses=[{"type": "Hostname", "value": "a.test"}])),
    case("a Gateway that the data plane has is programmed", "Gateway Programmed True Programmed",
         gw()),
    case("what is not accepted is not programmed", "Gateway Programmed False Invalid",
         gw(noSuchField=1)),
    case("what nodes have not acknowledged is pending", "Gateway Programmed False Pending",
         gw(), acked=PENDING),
    case("without a node that serves there are no resources",
         "Gateway Programmed False NoResources", gw(), settings=POOL),
    case("an empty pool assigns no address", "Gateway Programmed False AddressNotAssigned",
         gw(since="2026-01-01T00:00:00Z"), NODE, OTHER,
         gw(name="b", since="2025-01-01T00:00:00Z"), settings=POOL),
    case("an address outside of the pool is not usable",
         "Gateway Programmed False AddressNotUsable",
         gw(addresses=[{"value": "198.51.100.1"}]), NODE, settings=POOL),
    case("an address from inside only cannot be had",
         "Gateway Programmed False AddressNotAssigned", gw(addresses=[INSIDE])),
    case("none of the addresses is assigned", "Gateway AddressesAssigned False NotAssigned",
         gw(addresses=[INSIDE])),
    case("one of two addresses is assigned", "Gateway AddressesAssigned False PartiallyAssigned",
         gw(addresses=[INSIDE, {}])),
    case("all addresses are assigned", "Gateway AddressesAssigned True AddressesAssigned",
         gw(), WITH_ROUTABILITY),
    case("a client certificate that is there is resolved",
         "Gateway ResolvedRefs True ResolvedRefs",
         gw(tls={"backend": {"clientCertificateRef": {"name": "cert"}}}), secret()),
    case("a client certificate of another namespace needs a grant",
         "Gateway ResolvedRefs False RefNotPermitted",
         gw(tls={"backend": {"clientCertificateRef": {"name": "c", "namespace": "other"}}})),
    case("a client certificate that is not there is invalid",
         "Gateway ResolvedRefs False InvalidClientCertificateRef",
         gw(tls={"backend": {"clientCertificateRef": {"name": "none"}}})),
    case("a listener without its certificate is not resolved",
         "Gateway ResolvedRefs False ListenersNotResolved", gw(HTTP, https("s"))),
    case("a Gateway that lets clients in without a good certificate says so",
         "Gateway InsecureFrontendValidationMode True ConfigurationChanged",
         gw(https(), tls=checking(CA, mode="AllowInsecureFallback")), secret(), authority()),
)  # fmt: skip

LISTENERS = (
    case("a listener that is served is accepted", "Listener Accepted True Accepted", gw(), at="l"),
    case("a port of the nodes that another Gateway has is unavailable",
         "Listener Accepted False PortUnavailable",
         gw(since="2026-01-01T00:00:00Z"), OTHER, NODE, at="l", settings=AT_NODES),
    case("a protocol that nobody knows is not supported",
         "Listener Accepted False UnsupportedProtocol",
         gw({"name": "l", "protocol": "x.test/y", "port": 81}), at="l"),
    case("a filter of a kind of its own is not supported",
         "Listener Accepted False UnsupportedValue", gw({**HTTP, "filters": EXTENDED}), at="l"),
    case("a filter of a kind of its own leads nowhere",
         "Listener ResolvedRefs False InvalidListenerFilterRef",
         gw({**HTTP, "filters": EXTENDED}), at="l"),
    case("a filter that asks a Service that is not there leads nowhere",
         "Listener ResolvedRefs False InvalidListenerFilterRef",
         gw({**HTTP, "filters": asking("none")}), at="l"),
    case("a filter that asks in another namespace needs a grant",
         "Listener ResolvedRefs False RefNotPermitted",
         gw({**HTTP, "filters": asking("none", namespace="other")}), at="l"),
    case("a listener with nobody to ask is not programmed", "Listener Programmed False Invalid",
         gw({**HTTP, "filters": asking("none")}), at="l"),
    case("without any authority clients cannot be checked",
         "Listener Accepted False NoValidCACertificate",
         gw(https(), tls=checking(CA)), secret(), at="l"),
    case("HTTP and TCP on one port are not accepted", "Listener Accepted False ProtocolConflict",
         gw(HTTP, {"name": "t", "protocol": "TCP", "port": 80}), at="l"),
    case("two listeners for one host are not accepted", "Listener Accepted False HostnameConflict",
         gw(HTTP, {**HTTP, "name": "m"}), at="l"),
    case("HTTP and TCP on one port conflict", "Listener Conflicted True ProtocolConflict",
         gw(HTTP, {"name": "t", "protocol": "TCP", "port": 80}), at="l"),
    case("two listeners for one host conflict", "Listener Conflicted True HostnameConflict",
         gw(HTTP, {**HTTP, "name": "m"}), at="l"),
    case("a listener alone has no conflicts", "Listener Conflicted False NoConflicts",
         gw(), at="l"),
    case("a certificate that is there is resolved", "Listener ResolvedRefs True ResolvedRefs",
         gw(https()), secret(), at="l"),
    case("a certificate that is not there is invalid",
         "Listener ResolvedRefs False InvalidCertificateRef", gw(https()), at="l"),
    case("a certificate of another namespace needs a grant, there or not",
         "Listener ResolvedRefs False RefNotPermitted", gw(https(namespace="other")), at="l"),
    case("a kind of routes that a listener cannot have is invalid",
         "Listener ResolvedRefs False InvalidRouteKinds",
         gw({**HTTP, "allowedRoutes": {"kinds": [{"kind": "UDPRoute"}]}}), at="l"),
    case("an authority that is not there is invalid",
         "Listener ResolvedRefs False InvalidCACertificateRef",
         gw(https(), tls=checking(CA, CA | {"name": "none"})), secret(), authority(), at="l"),
    case("an authority of another kind is invalid",
         "Listener ResolvedRefs False InvalidCACertificateKind",
         gw(https(), tls=checking(CA, CA | {"kind": "Pod"})), secret(), authority(), at="l"),
    case("a listener that the data plane has is programmed",
         "Listener Programmed True Programmed", gw(), at="l"),
    case("a listener without any certificate is not programmed",
         "Listener Programmed False Invalid", gw(https()), at="l"),
    case("a listener that nodes have not acknowledged is pending",
         "Listener Programmed False Pending", gw(), acked=PENDING, at="l"),
    case("listeners that share server names overlap",
         "Listener OverlappingTLSConfig True OverlappingHostnames",
         gw(https(), https("w", "*.test")), secret(), at="l"),
    case("a certificate that is good for another listener, too, overlaps",
         "Listener OverlappingTLSConfig True OverlappingCertificates",
         gw(https(), https("b", "b.test", "other")), secret(), secret("other", "*.test"), at="l"),
)  # fmt: skip

SETS = (
    case("a ListenerSet with good listeners is accepted", "ListenerSet Accepted True Accepted",
         added(), OPEN),
    case("a ListenerSet with one good listener of two is accepted, and says so",
         "ListenerSet Accepted True ListenersNotValid",
         added(HTTP, {"name": "x", "protocol": "x.test/y", "port": 81}), OPEN),
    case("a Gateway that takes no ListenerSets does not allow one",
         "ListenerSet Accepted False NotAllowed", added(), gw()),
    case("a ListenerSet of a Gateway that is not accepted is not, either",
         "ListenerSet Accepted False ParentNotAccepted", added(),
         gw(allowedListeners=ALL, infrastructure={"parametersRef": PARAMETERS})),
    case("a ListenerSet without any good listener is not accepted",
         "ListenerSet Accepted False ListenersNotValid",
         added({"name": "x", "protocol": "x.test/y", "port": 81}), OPEN),
    case("a ListenerSet that cannot be read is invalid", "ListenerSet Accepted False Invalid",
         added(noSuchField=1), OPEN),
    case("a ListenerSet that the data plane has is programmed",
         "ListenerSet Programmed True Programmed", added(), OPEN),
    case("a ListenerSet that cannot be read is not programmed",
         "ListenerSet Programmed False Invalid", added(noSuchField=1), OPEN),
    case("a ListenerSet that is not allowed is not programmed",
         "ListenerSet Programmed False NotAllowed", added(), gw()),
    case("a ListenerSet of a Gateway that is not accepted is not programmed",
         "ListenerSet Programmed False ParentNotProgrammed", added(),
         gw(allowedListeners=ALL, infrastructure={"parametersRef": PARAMETERS})),
    case("a ListenerSet without any good listener is not programmed",
         "ListenerSet Programmed False ListenersNotValid",
         added({"name": "x", "protocol": "x.test/y", "port": 81}), OPEN),
    case("a ListenerSet whose ports are all somebody else's is not programmed",
         "ListenerSet Programmed False PortUnavailable", added(), OTHER, NODE,
         gw({**HTTP, "port": 8000}, allowedListeners=ALL, since="2026-01-01T00:00:00Z"),
         settings=AT_NODES),
    case("a ListenerSet that nodes have not acknowledged is pending",
         "ListenerSet Programmed False Pending", added(), OPEN, acked=PENDING),
    case("a listener of a set is accepted", "Entry Accepted True Accepted", added(), OPEN, at="l"),
    case("a port that another Gateway has is unavailable to a set, too",
         "Entry Accepted False PortUnavailable", added(), OTHER, NODE,
         gw({**HTTP, "port": 8000}, allowedListeners=ALL, since="2026-01-01T00:00:00Z"),
         at="l", settings=AT_NODES),
    case("a listener that the Gateway has already loses, as it does among the Gateway's own",
         "Entry Accepted False HostnameConflict", added(),
         gw({**HTTP, "name": "own"}, allowedListeners=ALL), at="l"),
    case("a listener of another protocol than the Gateway's on that port loses",
         "Entry Accepted False ProtocolConflict", added(),
         gw({"name": "own", "protocol": "TCP", "port": 80}, allowedListeners=ALL), at="l"),
    case("the loser of two hostnames is in conflict", "Entry Conflicted True HostnameConflict",
         added(), gw({**HTTP, "name": "own"}, allowedListeners=ALL), at="l"),
    case("the loser of two protocols is in conflict", "Entry Conflicted True ProtocolConflict",
         added(), gw({"name": "own", "protocol": "TCP", "port": 80}, allowedListeners=ALL),
         at="l"),
    case("a set of a Gateway whose class is not accepted waits for it",
         "ListenerSet Accepted False ParentNotAccepted", added(), OPEN, REFUSED),
    case("a listener of a set that is programmed", "Entry Programmed True Programmed",
         added(), OPEN, at="l"),
    case("a listener of a set whose certificate is not there", "Entry Programmed False Invalid",
         added(https()), OPEN, at="l"),
)  # fmt: skip

CASES = (*CLASSES, *GATEWAYS, *LISTENERS, *SETS)

LISTED = {
    "GatewayClass": """
        Accepted True Accepted
        Accepted False InvalidParameters Unsupported UnsupportedVersion
        Accepted Unknown Pending
        SupportedVersion True SupportedVersion
        SupportedVersion False UnsupportedVersion
        penstock.dev/KindsServed False CRDsMissing""",
    "Gateway": """
        Accepted True Accepted ListenersNotValid
        Accepted False Invalid InvalidParameters UnsupportedAddress ListenersNotValid NotReconciled
        Accepted Unknown Pending
        Programmed True Programmed
        Programmed False Invalid Pending NoResources AddressNotAssigned AddressNotUsable
        Programmed Unknown Pending
        AddressesAssigned True AddressesAssigned
        AddressesAssigned False PartiallyAssigned NotAssigned
        ResolvedRefs True ResolvedRefs
        ResolvedRefs False RefNotPermitted InvalidClientCertificateRef ListenersNotResolved
        InsecureFrontendValidationMode True ConfigurationChanged""",
    "Listener": """
        Accepted True Accepted
        Accepted False PortUnavailable UnsupportedProtocol UnsupportedValue NoValidCACertificate
        Accepted False ProtocolConflict HostnameConflict
        Accepted False InvalidListenerFilter InvalidListenerFilterOrder
        Accepted Unknown Pending
        Conflicted True HostnameConflict ProtocolConflict
        Conflicted False NoConflicts
        ResolvedRefs True ResolvedRefs
        ResolvedRefs False InvalidCertificateRef RefNotPermitted InvalidRouteKinds
        ResolvedRefs False InvalidCACertificateRef InvalidCACertificateKind
        ResolvedRefs False InvalidListenerFilterRef
        Programmed True Programmed
        Programmed False Invalid Pending
        Programmed Unknown Pending
        OverlappingTLSConfig True OverlappingHostnames OverlappingCertificates""",
    "ListenerSet": """
        Accepted True Accepted ListenersNotValid
        Accepted False NotAllowed ParentNotAccepted ListenersNotValid Invalid
        Accepted Unknown Pending
        Programmed True Programmed
        Programmed False Invalid ParentNotProgrammed ListenersNotValid PortUnavailable Pending
        Programmed False NotAllowed
        Programmed Unknown Pending""",
    "Entry": """
        Accepted True Accepted
        Accepted False TooManyListeners PortUnavailable HostnameConflict ProtocolConflict
        Conflicted True HostnameConflict ProtocolConflict ListenerConflict
        Programmed True Programmed
        Programmed False Invalid""",
}
"""What differs from the specification's list: Entry has only what Listener has not, or decides
otherwise; NotAllowed is said of Programmed, too."""
_AT_ONCE = "all conditions of an object are written at once, and none before it is decided"
NEVER: dict[Reason, str] = {
    ("GatewayClass", "Accepted", "False", "Unsupported"): "classes of users are all supported",
    ("GatewayClass", "Accepted", "Unknown", "Pending"): "the CRD's default, which ours replaces",
    ("Gateway", "Accepted", "False", "NotReconciled"): "deprecated",
    ("Gateway", "Accepted", "Unknown", "Pending"): "the CRD's default, which ours replaces",
    ("Gateway", "Programmed", "Unknown", "Pending"): "the CRD's default, which ours replaces",
    ("Listener", "Accepted", "Unknown", "Pending"): _AT_ONCE,
    (
        "Listener",
        "Accepted",
        "False",
        "InvalidListenerFilter",
    ): "what the CRD does not allow makes the object Broken; a server cannot change the host",
    ("Listener", "Accepted", "False", "InvalidListenerFilterOrder"): "any order is served",
    ("Listener", "Programmed", "Unknown", "Pending"): _AT_ONCE,
    ("ListenerSet", "Accepted", "Unknown", "Pending"): "the CRD's default, which ours replaces",
    ("ListenerSet", "Programmed", "Unknown", "Pending"): "the CRD's default, which ours replaces",
    ("Entry", "Conflicted", "True", "ListenerConflict"): "one of the two that say more is known",
    ("Entry", "Accepted", "False", "TooManyListeners"): "see the test with a smaller limit",
}
"""What is never said, and why."""


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.fact)
def test_reason(one: Case) -> None:
    check(one)


@pytest.mark.parametrize("whose", LISTED)
def test_every_reason_that_is_listed_is_provoked_or_has_a_cause_never_to_be(whose: str) -> None:
    check_list(whose, LISTED[whose], CASES, NEVER)


def test_more_listeners_than_a_gateway_takes_are_too_many() -> None:
    gateway, one, two = OPEN, added(HTTP), added({**HTTP, "port": 81}, name="two")
    assert isinstance(gateway, Gateway)
    assert isinstance(one, ListenerSet)
    assert isinstance(two, ListenerSet)
    placed = merged(gateway, [one, two], limit=2)
    around = Surroundings(attached_routes={}, tls={}, pending={})
    first, last = (
        listener_set_status(
            each, gateway.spec, [its for its in placed if its.holder == each.ref], around
        )
        for each in (one, two)
    )
    reasons = [
        (each.type, each.status, each.reason)
        for status in (first, last)
        for each in status.listeners[0].conditions
        if each.type in ("Accepted", "Programmed")
    ]
    assert reasons == [
        ("Accepted", True, "Accepted"),
        ("Programmed", True, "Programmed"),
        ("Accepted", False, "TooManyListeners"),
        ("Programmed", False, "Invalid"),
    ]
    assert [each.reason for each in last.conditions] == ["ListenersNotValid"] * 2


def test_a_gateway_of_a_foreign_class_that_cannot_be_read_is_none_of_our_business() -> None:
    one = objects.gateway_api("Gateway", "gw", {"gatewayClassName": "other", "listeners": 7})
    assert isinstance(one, Broken)
    with pytest.raises(AssertionError, match="there is no status"):
        check(case("", "Gateway Accepted False Invalid", one))
