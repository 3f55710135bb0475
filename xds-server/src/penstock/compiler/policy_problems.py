"""Problems of Services, of their policies, and of grants, that show only beside other objects."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.compiler.backend_tls import lost_targets, policy_authorities
from penstock.compiler.backend_traffic import traffic_state
from penstock.compiler.database import Database
from penstock.compiler.kernel_services import loses_clients
from penstock.core.kinds import Service
from penstock.gatewayapi.backend_tls import fault_of
from penstock.gatewayapi.backend_tls_policy import BackendTLSPolicy
from penstock.gatewayapi.backend_traffic_policy import XBackendTrafficPolicy
from penstock.gatewayapi.fields import CORE_GROUP, GATEWAY_GROUP
from penstock.gatewayapi.resources import ReferenceGrant
from penstock.gatewayapi.routes import ROUTE_KINDS
from penstock.meta.problems import Problem, Severity

_REFERRERS = {GATEWAY_GROUP: frozenset({*ROUTE_KINDS, "Gateway", "ListenerSet"})}
_REFERENTS = {CORE_GROUP: frozenset({"ConfigMap", "Secret", "Service"})}
"""Kinds of a group that grants can be about; of other groups all are taken as they are."""


def service_problems(db: Database, service: Service) -> Iterator[Problem]:
    """Yield what a Service asks for and does not get."""
    lost = loses_clients.once(db, service.key)
    if lost:
        ports = ", ".join(map(str, lost))
        text = f"ClientIP has no effect at port {ports}, where routes or rules of HTTP decide"
        hint = "keep sessions of requests with an XBackendTrafficPolicy, or with a route"
        yield Problem("spec.sessionAffinity", text, hint, Severity.WARNING)
    hint = "where kube-proxy does not run use type LoadBalancer, or a Gateway"
    if service.spec.type == "NodePort":
        text = "the ports of nodes are served by kube-proxy, not by Penstock"
        yield Problem("spec.type", text, hint, Severity.WARNING)
    if service.spec.external_ips:
        text = "these addresses are served by kube-proxy, not by Penstock"
        yield Problem("spec.externalIPs", text, hint, Severity.WARNING)


def backend_tls_problems(db: Database, policy: BackendTLSPolicy) -> Iterator[Problem]:
    """Yield what keeps a policy from holding."""
    lost = lost_targets.once(db, policy.key)
    for index, target in enumerate(policy.spec.target_refs):
        path = f"spec.targetRefs[{index}]"
        if (target.group, target.kind) != (CORE_GROUP, "Service"):
            text = f"{target.group or 'core'}/{target.kind} is not met with TLS"
            yield Problem(path, text, "name a Service", Severity.WARNING)
        elif target in lost:
            text = f"{lost[target].reason}: {lost[target].message}"
            yield Problem(path, text, "the policy is without effect there", Severity.WARNING)
    found = policy_authorities.once(db, policy.key)
    if found is None:
        return
    fault = fault_of(policy, found)
    hint = "the other certificates are trusted"
    if fault is not None:
        hint = "Gateways answer 503 for the Service until somebody is trusted"
    for one in found.faults or ((fault,) if fault is not None else ()):
        # Messages about a reference begin with its place.
        place, _, text = one.message.partition(": ")
        path = f"spec.validation.{place}" if place.endswith("]") else "spec.validation"
        message = text if place.endswith("]") else one.message
        yield Problem(path, f"{one.reason}: {message}", hint, Severity.WARNING)


def backend_traffic_problems(db: Database, policy: XBackendTrafficPolicy) -> Iterator[Problem]:
    """Yield the targets for which a policy does not hold."""
    for index, (_, accepted) in enumerate(traffic_state.once(db, policy.key) or ()):
        if not accepted.status:
            text, hint = f"{accepted.reason}: {accepted.message}", "it is without effect there"
            yield Problem(f"spec.targetRefs[{index}]", text, hint, Severity.WARNING)


def grant_problems(grant: ReferenceGrant) -> Iterator[Problem]:
    """Yield kinds of a grant that nothing has, such as a plural: they permit nothing."""
    for index, by in enumerate(grant.spec.from_):
        known = _REFERRERS.get(by.group)
        if known is not None and by.kind not in known:
            yield _no_kind(f"spec.from[{index}].kind", by.kind, known)
    for index, to in enumerate(grant.spec.to):
        known = _REFERENTS.get(to.group)
        if known is not None and to.kind not in known:
            yield _no_kind(f"spec.to[{index}].kind", to.kind, known)


def _no_kind(path: str, kind: str, known: frozenset[str]) -> Problem:
    text = f"{kind} is no kind that a grant can be about here, so nothing is permitted"
    return Problem(path, text, f"use one of {', '.join(sorted(known))}", Severity.WARNING)
