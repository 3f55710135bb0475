"""Objects that are generated for a Gateway: their names, their labels, and what is in them.

Source: Gateway API v1.7, GatewayInfrastructure; GEP-1762 (names and labels); Kubernetes, names and
label values, core/v1 Service, discovery.k8s.io/v1 EndpointSlice.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from penstock.core.kinds import EndpointSlice, Service
from penstock.gatewayapi.resources import GatewayInfrastructure, Listener
from penstock.meta.names import NamespacedName, ObjectRef

GENERATED_FOR = "penstock.dev/generated-for"
"""Label by which our objects are known; its value says for whom they are."""
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
CLASS_NAME = "gateway.networking.k8s.io/gateway-class-name"
MANAGED_BY = "app.kubernetes.io/managed-by"
SLICE_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
PROXIED_BY = "service.kubernetes.io/service-proxy-name"
"""Label with which kube-proxy leaves a Service alone."""
CLOUDS = ("service.beta.kubernetes.io/", "service.kubernetes.io/", "cloud.google.com/")
"""How annotations begin by which clouds are told about a load balancer."""
LONGEST = 63
"""Characters of a label's value, and of a Service's name."""
MOST_ENDPOINTS = 1000
"""Of one EndpointSlice; the API server takes no more."""
_HASH = 8
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?\Z")
Json = dict[str, Any]


class Generated(msgspec.Struct, frozen=True, kw_only=True):
    """An object that there should be."""

    ref: ObjectRef
    body: Json
    """All that we say of it."""
    owner: str = ""
    """uid of its owner, "" if it has none."""


class Purpose(msgspec.Struct, frozen=True, kw_only=True):
    """For what a Service is generated."""

    service: NamespacedName
    value: str
    """Of the label GENERATED_FOR."""
    labels: dict[str, str]
    """That it has besides, whatever users say."""
    owner: Json | None
    """Entry of metadata.ownerReferences; None for none."""


class Exposed(msgspec.Struct, frozen=True, kw_only=True):
    """How a Service is reached from outside, by others who lead to the node ports."""

    type: Literal["LoadBalancer", "NodePort"] = "LoadBalancer"
    load_balancer_class: str = ""
    """Who is to be the balancer; "" leaves that to the cluster."""
    address: str = ""
    """The address that it should have, "" for any."""
    node_ports: tuple[tuple[int, int], ...] = ()
    """(port, node port); of others the API server chooses it."""


class PortOfService(msgspec.Struct, frozen=True, order=True):
    """A port of a generated Service."""

    port: int
    protocol: str
    """TCP or UDP."""

    @property
    def name(self) -> str:
        """Return its name in the Service and in the EndpointSlices."""
        return f"{self.protocol.lower()}-{self.port}"


class Entrance(msgspec.Struct, frozen=True, order=True):
    """An address by which a Gateway is reached inside of the cluster."""

    address: str
    node: str = ""
    """Whose it is, "" if it is the Gateway's own."""


def label_value(text: str) -> str:
    """Return *text*, or what stands for it where it cannot be the value of a label."""
    if len(text) <= LONGEST and _LABEL_VALUE.match(text):
        return text
    return _shortened(re.sub(r"[^-A-Za-z0-9_.]", "-", text).strip("-_."), text)


def service_name(*parts: str) -> str:
    """Return the name of the Service for a Gateway and its class.

    A Service's name is a DNS label that begins with a letter, that of a Gateway may be longer and
    have dots. What does not fit is cut and ends in a hash of the whole.
    """
    text = "-".join(parts)
    if len(text) <= LONGEST and _SERVICE_NAME.match(text):
        return text
    plain = re.sub(r"[^-a-z0-9]", "-", text.lower()).strip("-")
    return _shortened(plain if plain[:1].isalpha() else f"g-{plain}", text)


def _shortened(plain: str, whole: str) -> str:
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_HASH]
    return f"{plain[: LONGEST - _HASH - 1].rstrip('-_.')}-{digest}"


def for_clouds(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations of an Ingress or its class that are meant for a cloud."""
    return {name: text for name, text in annotations.items() if name.startswith(CLOUDS)}


def is_generated(labels: Mapping[str, str]) -> bool:
    """Tell whether an object with these labels is one that we made."""
    return GENERATED_FOR in labels


def is_for(labels: Mapping[str, str], purpose: Purpose) -> bool:
    """Tell whether an object with these labels is ours and for *purpose*."""
    return labels.get(GENERATED_FOR) == purpose.value


def ports_of(listeners: Iterable[Listener]) -> tuple[PortOfService, ...]:
    """Return the ports for *listeners*, sorted."""
    found = {
        PortOfService(one.port, "UDP" if one.protocol == "UDP" else "TCP") for one in listeners
    }
    return tuple(sorted(found))


def service(
    purpose: Purpose,
    ports: Sequence[PortOfService],
    infrastructure: GatewayInfrastructure | None,
    exposed: Exposed | None = None,
    cluster_ip: str = "",
) -> Generated:
    """Return the Service of a Gateway.

    Args:
        purpose: what it is for.
        ports: at least one.
        infrastructure: what the user wants of it.
        exposed: how others lead to it; None is from inside of the cluster only.
        cluster_ip: the address that it should have there, "" for any.
    """
    asked = infrastructure or GatewayInfrastructure()
    labels = asked.labels | _labels(purpose)
    if exposed is not None:
        labels[PROXIED_BY] = "penstock"
    return Generated(
        ref=ObjectRef(Service.kind, purpose.service.namespace, purpose.service.name),
        body={
            "apiVersion": "v1",
            "kind": Service.kind,
            "metadata": _metadata(purpose.service, labels, asked.annotations, purpose.owner),
            "spec": _spec(ports, exposed) | ({"clusterIP": cluster_ip} if cluster_ip else {}),
        },
        owner="" if purpose.owner is None else purpose.owner["uid"],
    )


def _spec(ports: Sequence[PortOfService], exposed: Exposed | None) -> Json:
    found: list[Json] = [
        {"name": one.name, "port": one.port, "protocol": one.protocol} for one in ports
    ]
    if exposed is None:
        return {"type": "ClusterIP", "ports": found}
    numbers = dict(exposed.node_ports)
    for one in found:
        if one["port"] in numbers and one["protocol"] == "TCP":
            one["nodePort"] = numbers[one["port"]]
    made: Json = {"type": exposed.type, "ports": found, "externalTrafficPolicy": "Cluster"}
    if exposed.type == "LoadBalancer" and exposed.address:
        made["loadBalancerIP"] = exposed.address
    if exposed.type == "LoadBalancer" and exposed.load_balancer_class:
        made["loadBalancerClass"] = exposed.load_balancer_class
    return made


def slices(
    purpose: Purpose,
    found: Service,
    entrances: Iterable[Entrance],
    numbers: Mapping[PortOfService, int],
) -> tuple[Generated, ...]:
    """Return where a generated Service leads to: EndpointSlices of each family of addresses.

    Args:
        purpose: what the Service is for.
        found: the Service as it is; with it the slices go.
        entrances: addresses of the Gateway.
        numbers: where each port of the Service is open there; others are left out.
    """
    ports = [
        {"name": port.name, "port": number, "protocol": port.protocol}
        for port, number in sorted(numbers.items())
    ]
    owner = {"apiVersion": "v1", "kind": Service.kind, "name": found.metadata.name}
    owner["uid"] = found.metadata.uid
    families: dict[str, list[Entrance]] = {}
    for one in sorted(entrances):
        family = f"IPv{ipaddress.ip_address(one.address).version}"
        families.setdefault(family, []).append(one)
    labels = _labels(purpose) | {
        EndpointSlice.SERVICE_LABEL: found.metadata.name,
        SLICE_MANAGED_BY: "penstock.dev",
    }
    made: list[Generated] = []
    for suffix, family, some in _parts(families) if ports else ():
        name = NamespacedName(found.metadata.namespace, f"{found.metadata.name}-{suffix}")
        body = {
            "apiVersion": EndpointSlice.api_versions[0],
            "kind": EndpointSlice.kind,
            "metadata": _metadata(name, labels, {}, owner),
            "addressType": family,
            "endpoints": [_endpoint(one) for one in some],
            "ports": ports,
        }
        ref = ObjectRef(EndpointSlice.kind, name.namespace, name.name)
        made.append(Generated(ref=ref, body=body, owner=owner["uid"]))
    return tuple(made)


def _parts(families: Mapping[str, list[Entrance]]) -> Iterator[tuple[str, str, list[Entrance]]]:
    """Yield what goes into one EndpointSlice each: end of its name, family, and addresses."""
    for family, same in sorted(families.items()):
        yield family.lower(), family, same[:MOST_ENDPOINTS]
        for number, start in enumerate(range(MOST_ENDPOINTS, len(same), MOST_ENDPOINTS), 2):
            yield f"{family.lower()}-{number}", family, same[start : start + MOST_ENDPOINTS]


def _endpoint(one: Entrance) -> Json:
    made: Json = {"addresses": [one.address], "conditions": {"ready": True}}
    return made | ({"nodeName": one.node} if one.node else {})


def _labels(purpose: Purpose) -> dict[str, str]:
    return purpose.labels | {MANAGED_BY: "penstock", GENERATED_FOR: purpose.value}


def _metadata(
    name: NamespacedName, labels: Mapping[str, str], annotations: Mapping[str, str], owner: Any
) -> Json:
    made: Json = {"name": name.name, "namespace": name.namespace, "labels": dict(labels)}
    if annotations:
        made["annotations"] = dict(annotations)
    if owner is not None:
        made["ownerReferences"] = [owner]
    return made
