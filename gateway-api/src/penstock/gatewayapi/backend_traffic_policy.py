"""The kind XBackendTrafficPolicy: limits of retries, and sessions, of Services.

Source: Gateway API v1.7 CRD, experimental channel; GEP-3388, GEP-1619.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta
from typing_extensions import override

from penstock.core.objects import ApiStruct, Object
from penstock.gatewayapi.durations import milliseconds
from penstock.gatewayapi.fields import (
    CORE_GROUP,
    Duration,
    Group,
    Kind,
    ObjectName,
    at_most,
    unique,
)
from penstock.gatewayapi.session_persistence import SessionPersistence
from penstock.meta.names import NamespacedName
from penstock.meta.problems import Problem

MAX_TARGETS = 16
_SECOND, _HOUR = 1_000, 3_600_000


class LocalPolicyTarget(ApiStruct, frozen=True, kw_only=True):
    """What the policy is for, in its own namespace."""

    group: Group
    kind: Kind
    name: ObjectName

    @property
    def is_service(self) -> bool:
        """Return whether it is a Service."""
        return (self.group, self.kind) == (CORE_GROUP, "Service")


class RetryBudgetDetails(ApiStruct, frozen=True, kw_only=True):
    """Which part of the requests may be repeated ones."""

    percent: Annotated[int, Meta(ge=0, le=100)] = 20
    interval: Duration = "10s"

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield an interval that the CRD does not allow."""
        if not _SECOND <= milliseconds(self.interval) <= _HOUR:
            yield Problem("interval", "must be from one second to one hour")


class RequestRate(ApiStruct, frozen=True, kw_only=True):
    """So many requests in such a time."""

    count: Annotated[int, Meta(ge=1, le=1_000_000)] = 10
    interval: Duration = "1s"

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield an interval that the CRD does not allow."""
        if not 0 < milliseconds(self.interval) <= _HOUR:
            yield Problem("interval", "must be longer than 0s and at most one hour")


class RetryConstraint(ApiStruct, frozen=True, kw_only=True):
    """How far requests may be repeated."""

    budget: RetryBudgetDetails = RetryBudgetDetails()
    min_retry_rate: RequestRate = RequestRate()


class BackendTrafficPolicySpec(ApiStruct, frozen=True, kw_only=True):
    """For which Services, and what."""

    target_refs: tuple[LocalPolicyTarget, ...]
    retry_constraint: RetryConstraint | None = None
    session_persistence: SessionPersistence | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the CRD does not allow."""
        yield from at_most("targetRefs", self.target_refs, MAX_TARGETS)
        yield from unique("targetRefs", self.target_refs, "the target")
        if not self.target_refs:
            yield Problem("targetRefs", "must have at least one element")


class XBackendTrafficPolicy(Object, frozen=True, kw_only=True):
    """Traffic to Services."""

    api_versions: ClassVar[tuple[str, ...]] = ("gateway.networking.x-k8s.io/v1alpha1",)
    kind: ClassVar[str] = "XBackendTrafficPolicy"

    spec: BackendTrafficPolicySpec

    @property
    def services(self) -> tuple[NamespacedName, ...]:
        """Return the Services that the policy names."""
        here = self.metadata.namespace
        named = (one.name for one in self.spec.target_refs if one.is_service)
        return tuple(NamespacedName(here, name) for name in named)
