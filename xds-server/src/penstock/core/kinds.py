"""The kinds that every cluster has, as far as they are used.

Source: Kubernetes API reference, core/v1, discovery.k8s.io/v1, certificates.k8s.io.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import msgspec
from typing_extensions import override

from penstock.core import jsonpath
from penstock.core.deployments import Deployment
from penstock.core.nodes import Node
from penstock.core.objects import ApiStruct, Object, SignedMeta, names
from penstock.core.pods import IntOrString, Pod, Port, Protocol
from penstock.core.traffic import SessionAffinityConfig, TrafficPolicy
from penstock.meta.problems import Problem


class Namespace(Object, frozen=True, kw_only=True):
    """core/v1 Namespace."""

    api_versions: ClassVar[tuple[str, ...]] = ("v1",)
    kind: ClassVar[str] = "Namespace"
    namespaced: ClassVar[bool] = False
    known_unused: ClassVar[frozenset[str]] = names("spec")


class ServicePort(ApiStruct, frozen=True, kw_only=True):
    """One port of a Service."""

    port: Port
    name: str = ""
    protocol: Protocol = "TCP"
    app_protocol: str = ""
    target_port: IntOrString | None = None
    node_port: int = 0
    """By which it is reached at every node, 0 if it is not."""

    @property
    def target(self) -> IntOrString:
        """Return the port of the pod, by number or by name."""
        return self.port if self.target_port in (None, 0, "") else self.target_port or self.port


class ServiceSpec(ApiStruct, frozen=True, kw_only=True):
    """What a Service stands for."""

    known_unused: ClassVar[frozenset[str]] = names(
        "allocateLoadBalancerNodePorts healthCheckNodePort trafficDistribution"
    )
    field_hints: ClassVar[Mapping[str, str]] = {
        "matchLabels": "a Service's selector holds the labels themselves, without matchLabels",
    }

    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    selector: dict[str, str] = {}
    ports: tuple[ServicePort, ...] = ()
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    """An address, "None" for a headless Service, "" if not given yet."""
    cluster_ips: tuple[str, ...] = msgspec.field(name="clusterIPs", default=())
    ip_families: tuple[Literal["IPv4", "IPv6"], ...] = ()
    ip_family_policy: str = ""
    external_name: str = ""
    external_ips: tuple[str, ...] = msgspec.field(name="externalIPs", default=())
    """Addresses that kube-proxy, and nobody else, takes for the Service."""
    publish_not_ready_addresses: bool = False
    load_balancer_class: str = ""
    load_balancer_ip: str = msgspec.field(name="loadBalancerIP", default="")
    """The address that a LoadBalancer should have; "" for any."""
    load_balancer_source_ranges: tuple[str, ...] = ()
    """Networks from which a LoadBalancer may be reached; () for all."""
    external_traffic_policy: TrafficPolicy = "Cluster"
    """Which endpoints the address of a LoadBalancer leads to from outside of the cluster."""
    internal_traffic_policy: TrafficPolicy = "Cluster"
    """Which endpoints a Service leads pods to."""
    session_affinity: Literal["ClientIP", "None", ""] = ""
    session_affinity_config: SessionAffinityConfig = SessionAffinityConfig()

    @property
    def stay_seconds(self) -> int:
        """Return how long a client stays at an endpoint after a connection; 0 is not at all."""
        by_client = self.session_affinity == "ClientIP"
        return self.session_affinity_config.stay_seconds if by_client else 0

    @override
    def checks(self) -> Iterable[Problem]:
        """Return problems about ports, addresses and the external name."""
        if len(self.ports) > 1:
            yield from self._check_ports()
        for index, text in enumerate(self.load_balancer_source_ranges):
            if not _is_network(text):
                place = jsonpath.item("loadBalancerSourceRanges", index)
                yield Problem(place, f"{text!r} is not a network", "write it as 192.0.2.0/24")
        if self.type == "ExternalName" and not self.external_name:
            yield Problem("externalName", "required with type ExternalName")
        if self.cluster_ip not in ("", "None") and not _is_address(self.cluster_ip):
            yield Problem("clusterIP", f"{self.cluster_ip!r} is neither an address nor None")
        for index, address in enumerate(self.cluster_ips):
            if not (address == "None" == self.cluster_ip or _is_address(address)):
                yield Problem(f"clusterIPs[{index}]", f"{address!r} is not an address")
        if self.cluster_ip and self.cluster_ips and self.cluster_ips[0] != self.cluster_ip:
            yield Problem("clusterIPs[0]", "must be the same as clusterIP")

    def _check_ports(self) -> Iterable[Problem]:
        """Yield problems of several ports; there is nothing that one alone could be wrong with."""
        used = Counter(port.name for port in self.ports)
        numbers = Counter((port.port, port.protocol) for port in self.ports)
        for index, port in enumerate(self.ports):
            here = jsonpath.item("ports", index)
            if not port.name:
                yield Problem(f"{here}.name", "required when there are several ports")
            elif used[port.name] > 1:
                yield Problem(f"{here}.name", f"{port.name!r} is used twice")
            if numbers[port.port, port.protocol] > 1:
                yield Problem(f"{here}.port", f"{port.port}/{port.protocol} is used twice")


class LoadBalancerIngress(ApiStruct, frozen=True, kw_only=True):
    """An address by which a LoadBalancer is reached."""

    known_unused: ClassVar[frozenset[str]] = names("ipMode ports")

    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(ApiStruct, frozen=True, kw_only=True):
    """How a LoadBalancer is reached."""

    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceCondition(ApiStruct, frozen=True, kw_only=True):
    """One condition of a Service; only which there are is read."""

    known_unused: ClassVar[frozenset[str]] = names(
        "lastTransitionTime message observedGeneration reason status"
    )

    type: str


class ServiceStatus(ApiStruct, frozen=True, kw_only=True):
    """What a Service was given."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    conditions: tuple[ServiceCondition, ...] = ()


class Service(Object, frozen=True, kw_only=True):
    """core/v1 Service."""

    api_versions: ClassVar[tuple[str, ...]] = ("v1",)
    kind: ClassVar[str] = "Service"

    spec: ServiceSpec
    status: ServiceStatus = ServiceStatus()

    @property
    def headless(self) -> bool:
        """Return whether names of this Service are answered with the pods' own addresses."""
        return self.spec.cluster_ip == "None"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the virtual addresses; none for headless and external Services."""
        if self.headless or self.spec.type == "ExternalName":
            return ()
        single = (self.spec.cluster_ip,) if self.spec.cluster_ip else ()
        return self.spec.cluster_ips or single


class EndpointConditions(ApiStruct, frozen=True, kw_only=True):
    """State of an endpoint; null means unknown, which counts as ready and serving."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ObjectReference(ApiStruct, frozen=True, kw_only=True):
    """The object behind an endpoint, mostly a Pod."""

    known_unused: ClassVar[frozenset[str]] = names("apiVersion fieldPath resourceVersion")

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class Endpoint(ApiStruct, frozen=True, kw_only=True):
    """One backend; all its addresses are equivalent and the first one is used."""

    known_unused: ClassVar[frozenset[str]] = names("deprecatedTopology hints")

    addresses: tuple[str, ...]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    target_ref: ObjectReference | None = None
    node_name: str = ""
    zone: str = ""


class EndpointPort(ApiStruct, frozen=True, kw_only=True):
    """A port of every endpoint of a slice; without a number all ports are meant."""

    name: str = ""
    protocol: Protocol = "TCP"
    port: Port | None = None
    app_protocol: str = ""


class EndpointSlice(Object, frozen=True, kw_only=True):
    """discovery.k8s.io/v1 EndpointSlice."""

    SERVICE_LABEL: ClassVar[str] = "kubernetes.io/service-name"

    api_versions: ClassVar[tuple[str, ...]] = ("discovery.k8s.io/v1",)
    kind: ClassVar[str] = "EndpointSlice"

    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    @property
    def service(self) -> str:
        """Return the name of the Service that the slice belongs to, "" if none."""
        return self.metadata.labels.get(self.SERVICE_LABEL, "")

    @override
    def checks(self) -> Iterable[Problem]:
        """Return a problem for each address that is not of the slice's type."""
        family = {"IPv4": 4, "IPv6": 6}.get(self.address_type)
        for index, endpoint in enumerate(self.endpoints):
            if not endpoint.addresses:
                yield Problem(f"endpoints[{index}].addresses", "must not be empty")
            for at, address in enumerate(endpoint.addresses):
                if family is not None and not _is_address(address, family):
                    place = f"endpoints[{index}].addresses[{at}]"
                    yield Problem(place, f"{address!r} is not an {self.address_type} address")


class ConfigMap(Object, frozen=True, kw_only=True):
    """core/v1 ConfigMap."""

    api_versions: ClassVar[tuple[str, ...]] = ("v1",)
    kind: ClassVar[str] = "ConfigMap"
    known_unused: ClassVar[frozenset[str]] = names("immutable")

    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}

    @override
    def checks(self) -> Iterable[Problem]:
        """Return a problem for each binary value that is not base64."""
        return _check_base64("binaryData", self.binary_data)

    def files(self) -> dict[str, bytes]:
        """Return the values of all keys."""
        texts = {key: value.encode() for key, value in self.data.items()}
        return texts | {key: _from_base64(value) for key, value in self.binary_data.items()}


class ClusterTrustBundleSpec(ApiStruct, frozen=True, kw_only=True):
    """Certificates to trust, and who published them."""

    signer_name: str = ""
    trust_bundle: str
    """Certificates in PEM."""


class ClusterTrustBundle(Object, frozen=True, kw_only=True):
    """certificates.k8s.io ClusterTrustBundle; not every cluster knows the kind."""

    api_versions: ClassVar[tuple[str, ...]] = (
        "certificates.k8s.io/v1",
        "certificates.k8s.io/v1beta1",
        "certificates.k8s.io/v1alpha1",
    )
    kind: ClassVar[str] = "ClusterTrustBundle"
    namespaced: ClassVar[bool] = False

    metadata: SignedMeta
    spec: ClusterTrustBundleSpec


class Secret(Object, frozen=True, kw_only=True):
    """core/v1 Secret; its representation as text never holds values."""

    api_versions: ClassVar[tuple[str, ...]] = ("v1",)
    kind: ClassVar[str] = "Secret"
    known_unused: ClassVar[frozenset[str]] = names("immutable")
    sensitive: ClassVar[frozenset[str]] = names("data stringData")

    type: str = "Opaque"
    data: dict[str, str] = {}
    """Values in base64."""
    string_data: dict[str, str] = {}
    """Values as they are; they win over `data`."""

    @override
    def checks(self) -> Iterable[Problem]:
        """Return a problem for each value that is not base64."""
        return _check_base64("data", self.data)

    def files(self) -> dict[str, bytes]:
        """Return the values of all keys."""
        values = {key: _from_base64(value) for key, value in self.data.items()}
        return values | {key: value.encode() for key, value in self.string_data.items()}

    @override
    def __repr__(self) -> str:
        """Return name and keys only."""
        return f"Secret({self.key}, keys={sorted({*self.data, *self.string_data})})"

    @override
    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return name and keys only."""
        return [("key", str(self.key)), ("keys", sorted({*self.data, *self.string_data}))]


BUILTIN_KINDS: tuple[type[Object], ...] = (
    Namespace,
    Service,
    EndpointSlice,
    Pod,
    Deployment,
    ConfigMap,
    Secret,
    ClusterTrustBundle,
    Node,
)


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


def _is_address(text: str, version: int | None = None) -> bool:
    if _IPV4.fullmatch(text):  # nearly all are; the other way takes five times as long
        return version in (None, 4)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return version is None or address.version == version


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return False
    return True


def _from_base64(text: str) -> bytes:
    return base64.b64decode("".join(text.split()), validate=True)


def _check_base64(field: str, values: Mapping[str, str]) -> Iterable[Problem]:
    for key, value in values.items():
        try:
            _from_base64(value)
        except (binascii.Error, ValueError):
            place = jsonpath.member(field, key)
            yield Problem(place, "is not base64", "plain text goes into stringData")
