"""EndpointSlices of Services: one slice for each address family and set of port numbers.

Source: Kubernetes, EndpointSlice controller.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

from penstock.core.kinds import (
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    ObjectReference,
    Service,
    ServicePort,
)
from penstock.core.labels import includes
from penstock.core.objects import ObjectMeta
from penstock.core.pods import Pod

_FAMILIES: tuple[tuple[Literal["IPv4", "IPv6"], int], ...] = (("IPv4", 4), ("IPv6", 6))


def slices(service: Service, pods: Iterable[Pod]) -> list[EndpointSlice]:
    """Return the slices of *service* over *pods*, none without a selector.

    Args:
        service: any Service.
        pods: of all namespaces, with addresses in their status.
    """
    if not service.spec.selector or service.spec.type == "ExternalName":
        return []
    chosen = sorted(
        (pod for pod in pods if _is_selected(service, pod)), key=lambda pod: pod.metadata.name
    )
    groups: defaultdict[tuple[EndpointPort, ...], list[Pod]] = defaultdict(list)
    for pod in chosen:
        groups[ports_of(service, pod)].append(pod)
    if not groups:
        groups[()] = []
    families = service.spec.ip_families or tuple(name for name, _ in _FAMILIES)
    return [
        _slice(service, family, index, ports, groups[ports])
        for family in families
        for index, ports in enumerate(sorted(groups, key=repr))
    ]


def ports_of(service: Service, pod: Pod) -> tuple[EndpointPort, ...]:
    """Return the ports of *service* as they are on *pod*; a named one it lacks is left out."""
    resolved = ((port, target_on(pod, port)) for port in service.spec.ports)
    return tuple(
        EndpointPort(
            name=port.name, protocol=port.protocol, port=number, app_protocol=port.app_protocol
        )
        for port, number in resolved
        if number is not None
    )


def target_on(pod: Pod, port: ServicePort) -> int | None:
    """Return the number of a Service's targetPort on *pod*, None if it has no port so named."""
    if isinstance(port.target, int):
        return port.target
    for container in pod.spec.containers:
        for candidate in container.ports:
            if (candidate.name, candidate.protocol) == (port.target, port.protocol):
                return candidate.container_port
    return None


def _is_selected(service: Service, pod: Pod) -> bool:
    return (
        pod.metadata.namespace == service.metadata.namespace
        and pod.status.phase not in ("Succeeded", "Failed")
        and bool(pod.addresses)
        and includes(pod.metadata.labels, service.spec.selector)
    )


def _slice(
    service: Service,
    family: Literal["IPv4", "IPv6"],
    index: int,
    ports: tuple[EndpointPort, ...],
    pods: list[Pod],
) -> EndpointSlice:
    suffix = f"-{index}" if index else ""
    name = f"{service.metadata.name}-{family.lower()}{suffix}"
    version = dict(_FAMILIES)[family]
    made = (_endpoint(service, pod, version) for pod in pods)
    return EndpointSlice(
        metadata=ObjectMeta(
            name=name,
            namespace=service.metadata.namespace,
            labels={
                EndpointSlice.SERVICE_LABEL: service.metadata.name,
                "endpointslice.kubernetes.io/managed-by": "lab.penstock.dev",
            },
        ),
        address_type=family,
        endpoints=tuple(endpoint for endpoint in made if endpoint.addresses),
        ports=ports,
    )


def _endpoint(service: Service, pod: Pod, version: int) -> Endpoint:
    terminating = bool(pod.metadata.deletion_timestamp)
    serving = pod.ready
    ready = (serving and not terminating) or service.spec.publish_not_ready_addresses
    spec = pod.spec
    named = spec.hostname and spec.subdomain == service.metadata.name
    return Endpoint(
        addresses=tuple(a for a in pod.addresses if ipaddress.ip_address(a).version == version),
        conditions=EndpointConditions(ready=ready, serving=serving, terminating=terminating),
        hostname=spec.hostname if named else "",
        node_name=spec.node_name,
        target_ref=ObjectReference(
            kind="Pod",
            namespace=pod.metadata.namespace,
            name=pod.metadata.name,
            uid=pod.metadata.uid,
        ),
    )
