"""Conditions of GatewayClasses, Gateways and HTTPRoutes.

Source: Gateway API v1.7, GatewayClassStatus, GatewayStatus, RouteStatus. What the data plane has
acknowledged is an argument; times of transition belong to whoever writes a status.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from penstock.gatewayapi.attach import GatewayAttachment
from penstock.gatewayapi.client_certificates import NO_CHECKS, ClientChecks
from penstock.gatewayapi.conditions import fails, holds
from penstock.gatewayapi.fields import ParentReference
from penstock.gatewayapi.listener_tls import ClientCertificate
from penstock.gatewayapi.listeners import (
    INVALID_PARAMETERS,
    UNSUPPORTED_ADDRESS,
    ListenerStatus,
    Reason,
    Surroundings,
    conflicts,
    gateway_fault,
    listener_status,
)
from penstock.gatewayapi.requested_addresses import (
    Assigned,
    AssignedAddress,
    addresses_assigned,
    assigned,
    inside,
    missing,
    out_of_reach,
)
from penstock.gatewayapi.resources import CONTROLLER_NAME, Gateway, GatewayClass
from penstock.gatewayapi.verdict import Verdict
from penstock.gatewayapi.versions import UNSUPPORTED_VERSION, kinds_served, supported, too_old
from penstock.meta.conditions import Condition

ADDRESS_NOT_USABLE, ADDRESS_NOT_ASSIGNED = "AddressNotUsable", "AddressNotAssigned"
NO_RESOURCES = "NoResources"


class GatewayStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Gateway.status."""

    addresses: tuple[AssignedAddress, ...]
    """In the order in which they are asked for, or assigned."""
    conditions: tuple[Condition, ...]
    listeners: tuple[ListenerStatus, ...]


class RouteParentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One element of HTTPRoute.status.parents."""

    parent: ParentReference
    conditions: tuple[Condition, ...]
    unserved: str = ""
    """Why none of the listeners is served that the route is attached to; "" if one is."""


def is_ours(gateway_class: GatewayClass) -> bool:
    """Return whether Gateways of *gateway_class* are Penstock's business."""
    return gateway_class.spec.controller_name == CONTROLLER_NAME


def gateway_class_conditions(
    gateway_class: GatewayClass, versions: Collection[str] = (), missing: Collection[str] = ()
) -> tuple[Condition, ...]:
    """Return the conditions of a GatewayClass that is ours.

    Args:
        gateway_class: the class.
        versions: releases that the CRDs are of; none where there are no CRDs.
        missing: kinds without a CRD.
    """
    generation = gateway_class.metadata.generation
    found = (
        _class_accepted(gateway_class, versions),
        supported(versions, generation) if versions else None,
        kinds_served(missing, generation),
    )
    return tuple(one for one in found if one is not None)


def _class_accepted(gateway_class: GatewayClass, versions: Collection[str]) -> Condition:
    generation = gateway_class.metadata.generation
    fault = _own_fault(gateway_class, versions)
    if fault is None:
        return holds("Accepted", "Accepted", generation)
    return fails("Accepted", fault.reason, generation, fault.message)


def _own_fault(gateway_class: GatewayClass, versions: Collection[str]) -> Reason | None:
    reference = gateway_class.spec.parameters_ref
    if text := too_old(versions):
        return Reason(UNSUPPORTED_VERSION, text)
    if reference is None:
        return None
    text = f"parametersRef: there are no parameters of kind {reference.kind}; remove the reference"
    return Reason(INVALID_PARAMETERS, text)


def class_fault(gateway_class: GatewayClass, versions: Collection[str]) -> Reason | None:
    """Return why no Gateway of a class that is ours is accepted; None if the class is.

    Args:
        gateway_class: the class.
        versions: as for `gateway_class_conditions`.
    """
    fault = _own_fault(gateway_class, versions)
    if fault is None:
        return None
    text = f"GatewayClass {gateway_class.metadata.name} is not accepted: {fault.message}"
    reason = fault.reason if fault.reason == INVALID_PARAMETERS else "Invalid"
    return Reason(reason, text)


def gateway_status(
    gateway: Gateway,
    around: Surroundings,
    *,
    addresses: Sequence[str],
    of_cluster: Sequence[str] = (),
    address_fault: Reason | None = None,
    clients: ClientChecks = NO_CHECKS,
    shown: ClientCertificate | None = None,
    tells_assigned: bool = False,
) -> GatewayStatus:
    """Return the status of one Gateway that is ours.

    Args:
        gateway: the Gateway.
        around: what its listeners come to, by their names.
        addresses: IP addresses that the Gateway has, and names.
        of_cluster: IP addresses that only the inside of the cluster reaches.
        address_fault: why the Gateway has not the addresses that it should have.
        clients: how clients are checked.
        shown: what the certificate for endpoints came to.
        tells_assigned: whether to say if it has the addresses that it asks for.
    """
    fault = around.outer or gateway_fault(gateway.spec)
    listeners = tuple(_listener_statuses(gateway, around, fault))
    accepted = _gateway_accepted(gateway, listeners, fault)
    has = assigned(gateway.spec, addresses, of_cluster)
    if accepted.status and address_fault is None:
        address_fault = _address_fault(gateway, has)
    programmed = _gateway_programmed(gateway, accepted, listeners, address_fault)
    return GatewayStatus(
        addresses=has.addresses,
        conditions=(
            accepted,
            programmed,
            *_addresses_assigned(gateway, accepted, has, address_fault, told=tells_assigned),
            *_insecure(gateway, clients),
            *_resolved_refs(gateway, shown, listeners),
        ),
        listeners=listeners,
    )


def _listener_statuses(
    gateway: Gateway, around: Surroundings, fault: Reason | None
) -> Iterator[ListenerStatus]:
    """Yield the status of each listener; *fault* is why the Gateway is not accepted."""
    conflicting = conflicts(gateway.spec.listeners)
    for one in gateway.spec.listeners:
        yield listener_status(
            gateway.spec,
            one,
            generation=gateway.metadata.generation,
            conflict=conflicting.get(one.name),
            attached_routes=around.attached_routes.get(one.name, 0),
            tls=around.tls[one.name],
            asked=around.asked.get(one.name, ()),
            pending=around.pending.get(one.name) if fault is None else fault.message,
            refused=around.refused.get(one.name),
            outer=around.taken.get(one.name),
        )


def _addresses_assigned(
    gateway: Gateway,
    accepted: Condition,
    has: Assigned,
    address_fault: Reason | None,
    *,
    told: bool,
) -> Iterator[Condition]:
    """Yield whether a Gateway has its addresses, where somebody asks for that."""
    lost = out_of_reach(gateway.spec)
    asked = told or bool(inside(gateway.spec))
    if (asked and accepted.status) or lost:
        why_not = "" if address_fault is None else address_fault.message
        yield addresses_assigned(gateway, has, why_not)


def _insecure(gateway: Gateway, clients: ClientChecks) -> Iterator[Condition]:
    """Yield a condition that is only there when it is true."""
    if clients.insecure:
        text = "mode AllowInsecureFallback lets clients pass without a good certificate"
        generation = gateway.metadata.generation
        yield holds("InsecureFrontendValidationMode", "ConfigurationChanged", generation, text)


def _resolved_refs(
    gateway: Gateway, shown: ClientCertificate | None, listeners: Sequence[ListenerStatus]
) -> Iterator[Condition]:
    """Yield whether references lead somewhere; nothing if there is nothing to say."""
    generation = gateway.metadata.generation
    lost = [
        one.name
        for one in listeners
        if any(each.type == "ResolvedRefs" and each.status is False for each in one.conditions)
    ]
    if shown is not None and shown.secret is None:
        text = f"spec.tls.backend.clientCertificateRef: {shown.message}"
        text += "; endpoints with TLS are not connected to"
        yield fails("ResolvedRefs", shown.reason, generation, text)
    elif lost:
        text = f"references are not resolved: listener {', '.join(lost)}"
        yield fails("ResolvedRefs", "ListenersNotResolved", generation, text)
    elif shown is not None:
        yield holds("ResolvedRefs", "ResolvedRefs", generation)


def route_parent_status(
    parent: ParentReference,
    accepted: Condition,
    verdict: Verdict,
    overlapped: Condition | None = None,
    unserved: str = "",
) -> RouteParentStatus:
    """Return the status of a route at one parent.

    Args:
        parent: the parentRef.
        accepted: what attachment says.
        verdict: what translation says; it is worth telling only where the route is attached.
        overlapped: that matches get nothing there; None if all may.
        unserved: why no listener is served there; "" if one is.
    """
    conditions = [accepted if accepted.status is False else _both(accepted, verdict.accepted)]
    conditions.append(verdict.resolved_refs)
    if verdict.partially_invalid is not None:
        conditions.append(verdict.partially_invalid)
    if overlapped is not None:
        conditions.append(overlapped)
    return RouteParentStatus(parent=parent, conditions=tuple(conditions), unserved=unserved)


def parent_ref(parent: ParentReference) -> dict[str, Any]:
    """Return *parent* as a status echoes it: field by field as in the spec, defaults applied."""
    fields: dict[str, Any] = msgspec.to_builtins(parent)
    return {name: value for name, value in fields.items() if value is not None}


def counted_listeners(attachment: GatewayAttachment, verdict: Verdict) -> tuple[str, ...]:
    """Return the listeners whose attachedRoutes count this route: those of an accepted one."""
    return attachment.listeners if verdict.accepted.status else ()


def _both(attached: Condition, translated: Condition) -> Condition:
    return attached if translated.status else translated


def _gateway_accepted(
    gateway: Gateway, listeners: Sequence[ListenerStatus], fault: Reason | None
) -> Condition:
    generation = gateway.metadata.generation
    if fault is not None:
        return fails("Accepted", fault.reason, generation, fault.message)
    invalid = _names_without(listeners, "Accepted")
    if not invalid:
        return holds("Accepted", "Accepted", generation)
    text = f"not accepted: listener {', '.join(invalid)}"
    some = len(invalid) < len(listeners)
    return (holds if some else fails)("Accepted", "ListenersNotValid", generation, text)


def _gateway_programmed(
    gateway: Gateway,
    accepted: Condition,
    listeners: Sequence[ListenerStatus],
    address_fault: Reason | None,
) -> Condition:
    generation = gateway.metadata.generation
    if not accepted.status:
        lost = accepted.reason == UNSUPPORTED_ADDRESS and out_of_reach(gateway.spec)
        reason = ADDRESS_NOT_ASSIGNED if lost else "Invalid"
        return fails("Programmed", reason, generation, accepted.message)
    if address_fault is not None:
        return fails("Programmed", address_fault.reason, generation, address_fault.message)
    if len(_names_without(listeners, "Programmed")) == len(listeners):
        if all(_reason(one, "Programmed") != "Pending" for one in listeners):
            return fails("Programmed", "Invalid", generation, "no listener can be served")
        return fails("Programmed", "Pending", generation, "no listener is served yet")
    return holds("Programmed", "Programmed", generation)


def _address_fault(gateway: Gateway, has: Assigned) -> Reason | None:
    """Return why a Gateway is not served as it asks for; what it is left without is no reason."""
    unusable = missing(gateway.spec, has)
    if unusable:
        return Reason(ADDRESS_NOT_USABLE, f"{', '.join(unusable)} cannot be used here")
    if has.addresses:
        return None
    text = "; ".join(map(str, has.lacking)) or "there is no address"
    return Reason(ADDRESS_NOT_ASSIGNED, text)


def _reason(listener: ListenerStatus, condition: str) -> str:
    return next((one.reason for one in listener.conditions if one.type == condition), "")


def _names_without(listeners: Iterable[ListenerStatus], condition: str) -> list[str]:
    """Return the names of *listeners* where *condition* is not True."""
    return [
        one.name
        for one in listeners
        if not any(each.type == condition and each.status for each in one.conditions)
    ]
