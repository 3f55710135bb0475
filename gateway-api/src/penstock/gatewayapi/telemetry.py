"""Which XTelemetryPolicy holds for a Gateway, and what it comes to.

Source: Gateway API v1.7, TelemetryPolicySpec; GEP-4768; GEP-5253 (attributes); GEP-713 (of policies
for one target the oldest counts, then the first by name).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from penstock.core import jsonpath
from penstock.gatewayapi.backends import (
    References,
    Unresolved,
    is_xbackend,
    resolve_port,
    resolve_xbackend,
)
from penstock.gatewayapi.conditions import fails, holds
from penstock.gatewayapi.external_backend_kind import X_GROUP
from penstock.gatewayapi.faults import UNSUPPORTED_VALUE, Fault
from penstock.gatewayapi.fields import LocalObjectReference
from penstock.gatewayapi.filters import Fraction
from penstock.gatewayapi.grants import Referrer
from penstock.gatewayapi.telemetry_policy import (
    Attribute,
    ExportHeader,
    XTelemetryPolicy,
    is_gateway,
)
from penstock.ir.external import Place
from penstock.ir.route import ServicePort
from penstock.ir.tracing import (
    ALL,
    Collector,
    HeaderValue,
    KnownValue,
    LiteralValue,
    Sampling,
    SpanAttribute,
    Tracing,
    is_known,
)
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName, Origin

BACKEND = "spec.tracing.provider.backendRef"
"""Where a policy names its collector."""
_HEADERS = "spec.tracing.provider.headers"
_ATTRIBUTES = "spec.tracing.attributes"
_OWN_HEADERS = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-type", "expect", "host",
        "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers that belong to how traces are sent."""


def winner(policies: Iterable[XTelemetryPolicy]) -> XTelemetryPolicy | None:
    """Return the policy that holds of those for one Gateway, whatever it says."""
    return min(policies, key=_rank, default=None)


def _rank(policy: XTelemetryPolicy) -> tuple[str, str]:
    return policy.metadata.creation_timestamp, str(policy.key)


def named_backend(
    policy: XTelemetryPolicy, references: References
) -> ServicePort | Place | Unresolved | None:
    """Return the Service port or XBackend that traces go to under *policy*, or why they cannot.

    None if nothing is traced.
    """
    provider = policy.provider
    if policy.spec.tracing.mode != "Enabled" or provider is None:
        return None
    referrer = Referrer(policy.metadata.namespace, X_GROUP, policy.kind)
    resolve = resolve_xbackend if is_xbackend(provider.backend_ref) else resolve_port
    return resolve(provider.backend_ref, referrer, references)


def tracing(policy: XTelemetryPolicy, to: Collector) -> Tracing:
    """Return the traces of the Gateways of *policy*, which go *to* a collector."""
    given = policy.spec.tracing
    return Tracing(
        collector=to,
        headers=_headers(policy, to),
        service_name=given.service_name or "",
        span_name=given.span_name or "",
        sampling=_sampling(policy),
        attributes=tuple(_attributes(given.attributes)),
        origin=Origin(policy.ref),
    )


def _headers(policy: XTelemetryPolicy, to: Collector) -> tuple[tuple[str, str], ...]:
    """Return the headers of exports: of those with equivalent names the first counts."""
    found: dict[str, str] = {}
    for one in policy.provider.headers if policy.provider is not None else ():
        if not _unsent(one, to):
            found.setdefault(one.name.lower(), one.value)
    return tuple(sorted(found.items()))


def _unsent(header: ExportHeader, to: Collector) -> str:
    """Return why a header is not sent, or ""."""
    name = header.name.lower()
    if name in _OWN_HEADERS or name.startswith("grpc-"):
        return f"{header.name} belongs to how traces are sent"
    # Envoy 1.40 takes such a value for a format string, and sends it unformatted.
    return "a value with % cannot be sent by gRPC" if to.grpc and "%" in header.value else ""


def _sampling(policy: XTelemetryPolicy) -> Sampling:
    given = policy.spec.tracing
    by_parent = given.parent_based_sampling
    new = share(given.sampling_rate)
    if by_parent is not None and by_parent.mode == "Disabled":
        return Sampling(new=new, parents=None)
    return Sampling(new=new, parents=share(by_parent.sampling_rate if by_parent else None))


def share(fraction: Fraction | None) -> int:
    """Return *fraction* in millionths, all without one; only none is none, and only all is all."""
    if fraction is None or fraction.numerator == fraction.denominator:
        return ALL
    if not fraction.numerator:
        return 0
    return min(max(round(fraction.numerator * ALL / fraction.denominator), 1), ALL - 1)


def _attributes(given: Iterable[Attribute]) -> Iterator[SpanAttribute]:
    for one in given:
        if one.literal_value is not None:
            yield SpanAttribute(name=one.name, value=LiteralValue(text=one.literal_value))
        elif one.header_name is not None:
            value = HeaderValue(header=one.header_name.lower())
            yield SpanAttribute(name=one.name, value=value)
        elif one.attribute_key is not None and is_known(one.attribute_key):
            yield SpanAttribute(name=one.name, value=KnownValue(key=one.attribute_key))


def left_out(policy: XTelemetryPolicy, to: Collector) -> tuple[Fault, ...]:
    """Return what of *policy* is not served while all the rest of it is; *to* as for `tracing`."""
    found: list[Fault] = []
    for index, one in enumerate(policy.spec.tracing.attributes):
        key = one.attribute_key
        if key is not None and not is_known(key):
            path = f"{jsonpath.item(_ATTRIBUTES, index)}.attributeKey"
            found.append(Fault(path, f"a Gateway does not know {key}; it is left out"))
    for index, header in enumerate(policy.provider.headers if policy.provider is not None else ()):
        why = _unsent(header, to)
        if why:
            found.append(Fault(jsonpath.item(_HEADERS, index), f"{why}; it is left out"))
    return tuple(found)


def target_conditions(
    policy: XTelemetryPolicy,
    target: LocalObjectReference,
    before: NamespacedName | None,
    found: Collector | Unresolved | None,
    *,
    there: bool,
) -> tuple[Condition, ...]:
    """Return what *policy* comes to at one of its targets.

    Args:
        policy: the policy.
        target: one of its targets.
        before: another policy that holds there instead.
        found: where its traces go.
        there: whether there is such a Gateway.
    """
    generation = policy.metadata.generation
    if not is_gateway(target):
        text = f"{target.group or 'core'}/{target.kind} is no target of this kind; use a Gateway"
        return (fails("Accepted", "Invalid", generation, text),)
    if not there:
        text = f"there is no Gateway {policy.metadata.namespace}/{target.name}"
        return (fails("Accepted", "TargetNotFound", generation, text),)
    if before is not None:
        text = f"{policy.kind} {before} is for the same Gateway and goes first (by age, by name)"
        return (fails("Accepted", "Conflicted", generation, text), *_resolved(found, generation))
    accepted = holds("Accepted", "Accepted", generation)
    return (accepted, *_resolved(found, generation), *_partial(policy, found))


def _resolved(found: Collector | Unresolved | None, generation: int) -> Iterator[Condition]:
    if isinstance(found, Unresolved):
        field = f".{found.field}" if found.field else ""
        text = f"{BACKEND}{field}: {found.message}; nothing is traced"
        yield fails("ResolvedRefs", found.reason, generation, text)
    elif found is not None:
        yield holds("ResolvedRefs", "ResolvedRefs", generation)


def _partial(policy: XTelemetryPolicy, found: Collector | Unresolved | None) -> Iterator[Condition]:
    faults = left_out(policy, found) if isinstance(found, Collector) else ()
    if faults:
        text = "; ".join(map(str, faults))
        yield holds("PartiallyInvalid", UNSUPPORTED_VALUE, policy.metadata.generation, text)
