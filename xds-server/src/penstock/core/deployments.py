"""The kind Deployment, as far as it is used.

Source: Kubernetes API reference, apps/v1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from typing_extensions import override

from penstock.core.labels import LabelSelector
from penstock.core.objects import ApiStruct, Object, names
from penstock.core.pods import IntOrString, PodSpec
from penstock.meta.problems import Problem


class TemplateMeta(ApiStruct, frozen=True, kw_only=True):
    """Metadata of pods to be made; their names come from the owner."""

    known_unused: ClassVar[frozenset[str]] = names(
        "creationTimestamp finalizers generateName name namespace ownerReferences"
    )

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class PodTemplateSpec(ApiStruct, frozen=True, kw_only=True):
    """The pods that a Deployment makes."""

    spec: PodSpec
    metadata: TemplateMeta = TemplateMeta()


class RollingUpdate(ApiStruct, frozen=True, kw_only=True):
    """Bounds of a rolling update: numbers of pods or percentages as "25%"."""

    max_unavailable: IntOrString = "25%"
    max_surge: IntOrString = "25%"


class DeploymentStrategy(ApiStruct, frozen=True, kw_only=True):
    """How old pods give way to new ones."""

    type: Literal["RollingUpdate", "Recreate"] = "RollingUpdate"
    rolling_update: RollingUpdate | None = None


class DeploymentSpec(ApiStruct, frozen=True, kw_only=True):
    """Pods to be kept running."""

    known_unused: ClassVar[frozenset[str]] = names(
        "minReadySeconds paused progressDeadlineSeconds revisionHistoryLimit"
    )

    selector: LabelSelector
    template: PodTemplateSpec
    replicas: int = 1
    strategy: DeploymentStrategy = DeploymentStrategy()

    @override
    def checks(self) -> Iterable[Problem]:
        """Return a problem if the selector does not select the template's pods."""
        if self.replicas < 0:
            yield Problem("replicas", "must not be negative")
        if not (self.selector.match_labels or self.selector.match_expressions):
            yield Problem("selector", "must not be empty")
        elif not self.selector.matches(self.template.metadata.labels):
            yield Problem(
                "template.metadata.labels",
                "are not selected by spec.selector",
                "give the template the labels that selector.matchLabels names",
            )


class Deployment(Object, frozen=True, kw_only=True):
    """apps/v1 Deployment."""

    api_versions: ClassVar[tuple[str, ...]] = ("apps/v1",)
    kind: ClassVar[str] = "Deployment"

    spec: DeploymentSpec
