"""By which authorities clients of a Gateway are checked."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.core.decode import decode
from penstock.core.kinds import ClusterTrustBundle, ConfigMap
from penstock.gatewayapi.client_certificates import ClientChecks, client_checks
from penstock.gatewayapi.grants import permits_of
from penstock.gatewayapi.listener_tls import ListenerCertificates
from penstock.gatewayapi.listeners import ListenerStatus, Surroundings
from penstock.gatewayapi.merged import merged, tls_of
from penstock.gatewayapi.resources import Gateway, ReferenceGrant
from penstock.gatewayapi.status import gateway_status
from penstock.gatewayapi.trust import TrustSources
from penstock.gatewayapi.watched_secrets import watched_bundles, watched_config_maps
from penstock.meta.names import NamespacedName
from support.gateway_objects import Json, gateway, gateway_class, listener, raw
from support.pki import issue

PEM = issue("authority.test").pem
SERVES = ListenerCertificates(usable=(NamespacedName("app", "s"),))
TLS: Json = {"certificateRefs": [{"name": "s"}]}


def ref(name: str = "ca", **more: Any) -> Json:
    return {"group": "", "kind": "ConfigMap", "name": name, **more}


def validation(*references: Json, **more: Any) -> Json:
    return {"validation": {"caCertificateRefs": list(references), **more}}


def checked(default: Json, *per_port: Json) -> Gateway:
    frontend: Json = {"default": default, "perPort": list(per_port)}
    return gateway(
        listener(),
        listener("https", 443, "HTTPS", tls=TLS),
        tls={"frontend": frontend},
        gatewayClassName="c",
    )


def config_map(**data: str) -> ConfigMap:
    made = decode(ConfigMap, {**raw("ConfigMap", "ca", "app"), "apiVersion": "v1", "data": data})
    assert isinstance(made, ConfigMap)
    return made


def grant() -> ReferenceGrant:
    spec = {
        "from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "app"}],
        "to": [{"group": "", "kind": "ConfigMap"}],
    }
    made = decode(ReferenceGrant, {**raw("ReferenceGrant", "g", "far"), "spec": spec})
    assert isinstance(made, ReferenceGrant), made
    return made


def checks(given: Gateway, *grants: ReferenceGrant) -> ClientChecks:
    known = {
        NamespacedName("app", "ca"): config_map(**{"ca.crt": PEM}),
        NamespacedName("app", "empty"): config_map(),
        NamespacedName("far", "ca"): config_map(**{"ca.crt": PEM}),
    }
    spec = {"trustBundle": PEM}
    bundle = decode(
        ClusterTrustBundle,
        {"apiVersion": "certificates.k8s.io/v1beta1", **_bundle("roots"), "spec": spec},
    )
    assert isinstance(bundle, ClusterTrustBundle), bundle
    bundles = {NamespacedName("", "roots"): bundle}
    sources = TrustSources(config_map=known.get, bundle=bundles.get)
    return client_checks(given, sources, permits_of(grants))


def _bundle(name: str) -> Json:
    return {"kind": "ClusterTrustBundle", "metadata": {"name": name}}


def bundle_ref(name: str, **more: Any) -> Json:
    group = "certificates.k8s.io"
    return {"group": group, "kind": "ClusterTrustBundle", "name": name, **more}


def test_what_is_said_for_a_port_goes_before_the_default() -> None:
    found = checks(checked(validation(ref()), {"port": 8443, "tls": {}}))
    check = found.at(443)
    assert check is not None
    assert (check.authorities.decode().strip(), check.required) == (PEM.strip(), True)
    assert found.at(8443) is None
    assert not found.insecure


def _https(given: Gateway, found: ClientChecks) -> ListenerStatus:
    status = gateway_status(
        given,
        Surroundings(tls=tls_of(merged(given, (), found), {"https": SERVES})),
        addresses=["192.0.2.1"],
        clients=found,
    )
    plain, https = status.listeners
    assert _states(plain)["Accepted"] == (True, "Accepted")
    return https


def _states(one: ListenerStatus) -> dict[str, tuple[Any, str]]:
    return {each.type: (each.status, each.reason) for each in one.conditions}


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (ref("nowhere"), "InvalidCACertificateRef"),
        (ref("empty"), "InvalidCACertificateRef"),
        (ref(kind="Secret"), "InvalidCACertificateKind"),
        (ref(namespace="far"), "RefNotPermitted"),
        (ref("nowhere", namespace="far"), "RefNotPermitted"),
        (bundle_ref("nowhere"), "InvalidCACertificateRef"),
        (bundle_ref("roots", namespace="app"), "InvalidCACertificateRef"),
    ],
)
def test_without_an_authority_a_listener_does_not_serve(reference: Json, reason: str) -> None:
    given = checked(validation(reference))
    states = _states(_https(given, checks(given)))
    assert states["Accepted"] == (False, "NoValidCACertificate")
    assert states["ResolvedRefs"] == (False, reason)
    assert states["Programmed"][0] is False


def test_one_good_authority_is_enough() -> None:
    given = checked(validation(ref("nowhere"), ref()))
    states = _states(_https(given, checks(given)))
    assert states["Accepted"] == (True, "Accepted")
    assert states["ResolvedRefs"] == (False, "InvalidCACertificateRef")


def test_a_grant_allows_authorities_of_another_namespace() -> None:
    given = checked(validation(ref(namespace="far")))
    assert _states(_https(given, checks(given, grant())))["Accepted"] == (True, "Accepted")
    assert watched_config_maps([gateway_class(), given]) == frozenset()
    assert watched_config_maps([gateway_class(), given, grant()]) == {NamespacedName("far", "ca")}


def test_a_bundle_of_the_cluster_needs_no_grant() -> None:
    given = checked(validation(bundle_ref("roots")))
    states = _states(_https(given, checks(given)))
    assert states["Accepted"] == (True, "Accepted")
    assert states["ResolvedRefs"] == (True, "ResolvedRefs")
    assert watched_bundles([gateway_class(), given]) == {NamespacedName("", "roots")}


def test_who_lets_everybody_in_says_so() -> None:
    given = checked(validation(ref(), mode="AllowInsecureFallback"))
    found = checks(given)
    tls = tls_of(merged(given, (), found), {"https": SERVES})
    status = gateway_status(given, Surroundings(tls=tls), addresses=["192.0.2.1"], clients=found)
    told = {one.type: (one.status, one.reason) for one in status.conditions}
    assert told["InsecureFrontendValidationMode"] == (True, "ConfigurationChanged")
    assert found.insecure
